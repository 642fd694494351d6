--- Stretches a watcher's waits, so that its budgets last their windows.
---
--- What calm watching may use of a limit is 60 %; the rest is left to cycles that a finding woke.
--- From what the decisions before a wait have cost, and from what is left of that share, follows
--- how often the watcher can decide: it waits that long, within its policy's longest wait.

local spending = require("runtime.spending")

local M = {}

-- How much of what was known the last wait's cost leaves in force.
local KEEP = 0.5

---@class pace.Pace
local Pace = {}
local pace_mt = { __index = Pace }

--- Creates the pace of a watcher that has cost nothing.
---@param opts { account: spending.Account, shared: spending.Account, watchers: fun(): integer }
--- `shared` is the account of all `watchers`.
---@return pace.Pace
function M.new(opts)
  return setmetatable({ account = opts.account, shared = opts.shared, watchers = opts.watchers,
    before = { tokens = 0, usd = 0 }, cost = {} }, pace_mt)
end

-- What the decisions since the last wait have cost, smoothed.
local function learn(self)
  for unit, total in pairs(self.account.total) do
    local seen = total - self.before[unit]
    self.before[unit] = total
    self.cost[unit] = self.cost[unit] and KEEP * self.cost[unit] + (1 - KEEP) * seen or seen
  end
end

-- The wait that lets one limit last, if `sharers` watchers cost the same.
local function lasting_ms(limit, cost, sharers)
  local calm_left = spending.CALM_SHARE * limit.limit - limit.used
  if calm_left <= 0 then
    return limit.left_ms
  end
  return math.min(limit.left_ms, limit.left_ms * cost * sharers / calm_left)
end

--- How long to wait instead of `ms`.
---@param ms number
---@param max_ms number
---@return number
function Pace:stretch(ms, max_ms)
  learn(self)
  for _, account in ipairs({ self.account, self.shared }) do
    local sharers = account == self.account and 1 or self.watchers()
    for _, limit in ipairs(account:limits()) do
      local cost = self.cost[limit.unit]
      if cost > 0 then
        ms = math.max(ms, lasting_ms(limit, cost, sharers))
      end
    end
  end
  return math.min(ms, max_ms)
end

return M
