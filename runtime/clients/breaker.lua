--- A circuit breaker: leaves a client alone that fails again and again.
---
--- After five failures in a row it opens, and at once where the server names a time that no
--- decision waits for. A client with an open breaker is not asked, so a decision goes to the next
--- one, or to the rules, without a wait. When its pause is over one request, the probe, is let
--- through: an answer closes the breaker, a failure doubles the pause, from 10 s to at most 5 min.
--- So a client that is dead for an hour gets fewer than 30 requests, however many watchers use it
--- and whatever its retry policy says.

local failures = require("runtime.providers.failure")
local units = require("runtime.units")

local M = {}

local FAILURES_IN_A_ROW = 5
-- A decision ends after two minutes.
local LONG_MS = 120000
local FIRST_MS, MAX_MS = 10000, 300000
-- The share of a pause that is random, so that many hosts do not probe at the same moment.
local JITTER = 0.2
-- While a probe is on its way the others look again after this time.
local LOOK_AGAIN_MS = 5000

-- What says nothing about the client: it was the request, or the model did answer.
local NEUTRAL = {
  context_length = true, content_filter = true, refusal = true, truncated = true,
  bad_tool_call = true, no_tool_call = true,
}

---@class breaker.Breaker
local Breaker = {}
local breaker_mt = { __index = Breaker }

--- Creates a closed breaker.
---@param opts { clock: clock.Clock, random: fun(): number }
---@return breaker.Breaker
function M.new(opts)
  return setmetatable({ clock = opts.clock, random = opts.random, failures = 0 }, breaker_mt)
end

--- How long the client is not to be asked; 0 when it may be.
---@return number ms
function Breaker:blocked_ms()
  local now_ms = self.clock.now_ms()
  local left_ms = (self.until_ms or now_ms) - now_ms
  if left_ms > 0 then
    return left_ms
  end
  return math.min(LOOK_AGAIN_MS, math.max(0, (self.probe_until_ms or now_ms) - now_ms))
end

--- Asks for leave to make a request. `succeeded`, `failed` or `released` must follow.
---@param timeout_ms number Of the request. A probe that tells nothing by then, since its task was
--- cancelled, keeps others from probing no longer.
---@return true? ok
---@return providers.Failure? failure Why not; `not_asked` is set, and `retry_after_ms` says when.
function Breaker:enter(timeout_ms)
  local blocked_ms = self:blocked_ms()
  if blocked_ms > 0 then
    local last = self.last
    local text = self.failures == 1 and "not asked for %s after a failure: %s"
      or "not asked for %s after " .. self.failures .. " failures in a row; the last: %s"
    local time = units.format_duration(math.max(1000, blocked_ms))
    return nil, failures.new(last.kind, text:format(time, last.message), {
      retryable = false,
      not_asked = true,
      retry_after_ms = blocked_ms,
    })
  end
  self.probe_until_ms = self.until_ms and self.clock.now_ms() + timeout_ms
  return true
end

--- Notes an answer.
function Breaker:succeeded()
  self.failures, self.last = 0, nil
  self.until_ms, self.pause_ms, self.probe_until_ms = nil, nil, nil
end

-- Opens it, or keeps it open for longer.
function Breaker:open(failure)
  self.pause_ms = math.min(MAX_MS, (self.pause_ms or FIRST_MS / 2) * 2)
  local asked_ms = math.min(MAX_MS, failure.retry_after_ms or 0)
  local pause_ms = math.max(asked_ms, self.pause_ms * (1 - JITTER * self.random()))
  self.until_ms = self.clock.now_ms() + pause_ms
end

--- Notes that the request was not made after all.
function Breaker:released()
  self.probe_until_ms = nil
end

--- Notes a failure.
---@param failure providers.Failure
function Breaker:failed(failure)
  if NEUTRAL[failure.kind] then
    self:succeeded()
    return
  end
  local is_probe, is_open = self.probe_until_ms ~= nil, self.until_ms ~= nil
  self.probe_until_ms = nil
  self.failures = self.failures + 1
  self.last = { kind = failure.kind, message = failure.message }
  -- Requests that were on their way when it opened do not make its pause longer.
  local is_enough = self.failures >= FAILURES_IN_A_ROW
    or (failure.retry_after_ms or 0) >= LONG_MS
  if is_probe or (not is_open and is_enough) then
    self:open(failure)
  end
end

return M
