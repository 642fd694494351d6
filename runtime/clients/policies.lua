--- The retry policies of a registry: checking every field.

local retry = require("runtime.clients.retry")
local suggest = require("runtime.suggest")

local M = {}

local MAX_RETRIES = 20
local DEFAULTS = { type = "constant_delay", delay_ms = 200, multiplier = 1.5,
  max_delay_ms = 10000 }
local TYPES = { "constant_delay", "exponential_backoff" }
local LEAST = { delay_ms = 0, multiplier = 1, max_delay_ms = 0 }

local function is_number_from(least, value)
  return type(value) == "number" and value >= least and value < math.huge
end

local function check_strategy(checker, name, given)
  local where = ("retry policy %q: "):format(name)
  if type(given) ~= "table" then
    checker:mistake(nil, "strategy", "%sstrategy must be a table", where).policy = name
    return nil
  end
  checker:known_fields(given, DEFAULTS, nil, where, name)
  local strategy = {}
  for key, default in pairs(DEFAULTS) do
    strategy[key] = given[key] == nil and default or given[key]
    if LEAST[key] and not is_number_from(LEAST[key], strategy[key]) then
      checker:mistake(nil, key, "%s%s must be a number, at least %d", where, key, LEAST[key])
        .policy = name
    end
  end
  if strategy.type ~= TYPES[1] and strategy.type ~= TYPES[2] then
    checker:mistake(nil, "type", "%sunknown type %q%s", where, tostring(strategy.type),
      suggest.hint(tostring(strategy.type), TYPES)).policy = name
  end
  return strategy
end

local function check_policy(checker, name, value)
  local where = ("retry policy %q: "):format(name)
  if type(value) ~= "table" then
    checker:mistake(nil, name, "%smust be a table", where).policy = name
    return nil
  end
  checker:known_fields(value, { max_retries = true, strategy = true }, nil, where, name)
  local max = value.max_retries
  if not is_number_from(0, max) or max > MAX_RETRIES or max % 1 ~= 0 then
    checker:mistake(nil, "max_retries", "%smax_retries must be a whole number from 0 to %d", where,
      MAX_RETRIES).policy = name
  end
  local given = value.strategy
  if given == nil then
    given = { type = TYPES[1] }
  end
  return { max_retries = max, strategy = check_strategy(checker, name, given) }
end

--- Checks the retry policies of a registry, by name. `DefaultRetry` always exists.
---@param checker client_config.Checker Gets the mistakes.
---@param given any
---@return table<string, retry.Policy>
function M.check(checker, given)
  local policies = { DefaultRetry = retry.DEFAULT }
  if given ~= nil and type(given) ~= "table" then
    checker:mistake(nil, "retry_policies", "retry_policies must be a table by name")
    return policies
  end
  for name, value in pairs(given or {}) do
    if type(name) ~= "string" then
      checker:mistake(nil, "retry_policies", "retry_policies must be a table by name")
    else
      -- One with mistakes is known all the same.
      policies[name] = check_policy(checker, name, value) or retry.DEFAULT
    end
  end
  return policies
end

return M
