--- Finds watchers that come to no decision: each has a bound within which one decision, with all
--- that it asks and runs, is over. One that is past it is told of, ended and started again.
---
---   local stalls = stall_detector.new({ clock = clock, watchers = function() return list end })
---   stalls:check()            -- every few seconds
---   stalls:are_all_well()     -- false: somebody stays stuck although he was ended

local M = {}

-- A model is asked up to three times for one decision, for 2 min each; hooks may wait, and scripts
-- wait for their turn.
local BASE_MS = 600000
-- How long after its bound a watcher has surely been ended, if it can be.
local GRACE_MS = 60000

---@class stalls.Stalls
local Stalls = {}
local stalls_mt = { __index = Stalls }

--- Creates a detector.
---@param opts { watchers: fun(): fun(): watcher.Watcher? } `watchers` iterates over those that run.
---@return stalls.Stalls
function M.new(opts)
  return setmetatable({ watchers = opts.watchers }, stalls_mt)
end

--- Within which time a decision of a watcher is over.
---@param policy table
---@return number
function M.bound_ms(policy)
  return BASE_MS + (policy.execute and policy.execute.wall_ms or 0)
end

--- Ends what is past its bound.
function Stalls:check()
  for watcher in self.watchers() do
    local busy_ms = watcher:busy_ms()
    local bound_ms = busy_ms and M.bound_ms(watcher.policy)
    if busy_ms and busy_ms > bound_ms then
      watcher:emit("beamlens.watcher.stalled", { status = watcher.status },
        { busy_ms = busy_ms, bound_ms = bound_ms })
      watcher:restart(("no decision for %.0f s"):format(busy_ms / 1000))
    end
  end
end

--- Whether no watcher is stuck past all bounds.
---@return boolean
function Stalls:are_all_well()
  for watcher in self.watchers() do
    local busy_ms = watcher:busy_ms()
    if busy_ms and busy_ms > M.bound_ms(watcher.policy) + GRACE_MS then
      return false
    end
  end
  return true
end

return M
