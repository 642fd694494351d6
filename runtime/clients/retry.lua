--- When a failed request to a model is made again.
---
--- Only what can succeed again is retried. A server's own word on when is kept to. An exponential
--- backoff is random between nothing and a bound that grows ("full jitter"), so that many watchers
--- do not come back at the same moment.

local M = {}

---@class retry.Policy
---@field max_retries integer Attempts after the first.
---@field strategy { type: string, delay_ms: number, multiplier?: number, max_delay_ms?: number }

--- The policy that always exists.
M.DEFAULT = {
  max_retries = 3,
  strategy = { type = "exponential_backoff", delay_ms = 200, multiplier = 1.5,
    max_delay_ms = 10000 },
}

-- An overloaded server that names no time is left alone at least this long.
local OVERLOADED_MS = 1000

local function delay_ms(strategy, retry, random)
  if strategy.type == "constant_delay" then
    return strategy.delay_ms
  end
  local bound = strategy.delay_ms * strategy.multiplier ^ (retry - 1)
  return math.min(bound, strategy.max_delay_ms) * random()
end

--- How long to wait before the next attempt.
---@param policy retry.Policy?
---@param retry integer 1 for the first retry.
---@param failure providers.Failure
---@param random fun(): number From 0 to 1.
---@return number? ms nil: do not retry.
function M.wait_ms(policy, retry, failure, random)
  if not policy or retry > policy.max_retries or not failure.retryable then
    return nil
  end
  local ms = delay_ms(policy.strategy, retry, random)
  if failure.retry_after_ms then
    return failure.retry_after_ms + ms
  end
  if failure.kind == "overloaded" then
    return OVERLOADED_MS + ms
  end
  return ms
end

return M
