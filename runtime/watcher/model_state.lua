--- Whether a watcher's model is to be asked, or the rules decide because it failed.
---
--- After a failure it is asked again 5 s later, then twice as late each time, at most 5 min; after
--- its budget was spent, when that refills; at once for a cycle that a finding woke, where the rest
--- of the budget is reserved for those.

local M = {}

local FIRST_MS, MAX_MS = 5000, 300000

---@class model_state.ModelState
---@field failing_since_ms? number Unix milliseconds; nil while the model answers.
local ModelState = {}
local model_state_mt = { __index = ModelState }

--- Creates the state of a model that has not failed.
---@param opts { clock: clock.Clock }
---@return model_state.ModelState
function M.new(opts)
  return setmetatable({ clock = opts.clock, delay_ms = FIRST_MS, due_ms = 0 }, model_state_mt)
end

--- True when the model may be asked now.
---@param is_woken? boolean By a finding: what is reserved may be spent.
function ModelState:is_due(is_woken)
  return self.clock.now_ms() >= self.due_ms or (self.kind == "reserve" and is_woken == true)
end

--- Milliseconds until it may be asked; 0 when it may.
---@return number
function ModelState:retry_in_ms()
  return math.max(0, self.due_ms - self.clock.now_ms())
end

--- Notes an answer.
function ModelState:answered()
  self.failing_since_ms, self.kind, self.delay_ms, self.due_ms = nil, nil, FIRST_MS, 0
end

--- Notes a failure, after the client's own retries.
---@param kind? string The registry's kind of error.
---@param detail? { retry_after_ms?: number, not_asked?: boolean, probe_ms?: number } A model that
--- was not even asked has not failed once more: it is due when its client is, and its delay stays.
--- So is one of several that was left alone, at `probe_ms`.
---@return number retry_ms When it is asked again.
function ModelState:failed(kind, detail)
  local asked_ms = type(detail) == "table" and tonumber(detail.retry_after_ms) or 0
  local not_asked = type(detail) == "table" and detail.not_asked
  local retry_ms = math.min(MAX_MS, not_asked and asked_ms or math.max(self.delay_ms, asked_ms))
  local probe_ms = type(detail) == "table" and detail.probe_ms
  if probe_ms then
    retry_ms = math.min(retry_ms, math.max(FIRST_MS, probe_ms))
  end
  if not not_asked then
    self.delay_ms = math.min(MAX_MS, self.delay_ms * 2)
  end
  self.due_ms = self.clock.now_ms() + retry_ms
  self.failing_since_ms = self.failing_since_ms or self.clock.wall_ms()
  self.kind = kind
  return retry_ms
end

--- Notes that its budget is spent: it is asked again when that refills.
---@param until_ms number Unix milliseconds.
---@param is_reserved? boolean What is left of it is for cycles that a finding woke.
function ModelState:exhausted(until_ms, is_reserved)
  local now_ms = self.clock.wall_ms()
  self.due_ms = self.clock.now_ms() + math.max(FIRST_MS, until_ms - now_ms)
  self.failing_since_ms = self.failing_since_ms or now_ms
  self.kind = is_reserved and "reserve" or "budget"
end

return M
