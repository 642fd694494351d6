--- One piece of work for all who want its result at the same time.
---
---   local flight = single_flight.new(function() return fetch() end)
---   local token, err, code = flight:run(5000)
---
--- Whoever comes while the work runs waits for that run; who comes later starts a new one. The work
--- is cancelled when nobody waits for it any more.

local async = require("runtime.async")
local members = require("runtime.members")

local M = {}

---@class single_flight.Flight
local Flight = {}
local flight_mt = { __index = Flight }

--- Creates a flight.
---@param work async fun(...): any
---@return single_flight.Flight
function M.new(work)
  return setmetatable({ work = work, waiters = members.new() }, flight_mt)
end

local function land(self, ok, ...)
  local waiters = self.waiters
  self.waiters, self.task = members.new(), nil
  for _, wake in ipairs(waiters:list()) do
    if ok then
      wake(...)
    else
      wake(nil, tostring((...)), "EFAILED")
    end
  end
end

local function start(self, ...)
  local task = async.spawn(function(...)
    land(self, async.pcall(self.work, ...))
  end, { name = "single flight", detached = true }, ...)
  self.task = not task.done and task or nil
end

--- Runs the work, or waits for the run of another.
---@async
---@param timeout_ms? number For this caller alone.
---@param ... any Arguments for the work when it starts now.
---@return any ... What the work returned; `nil, err, "EFAILED"` when it raised an error,
--- `nil, err, "ETIMEDOUT"` when the time is over.
function Flight:run(timeout_ms, ...)
  local args = { n = select("#", ...), ... }
  return async.await(timeout_ms, function(done)
    self.waiters:add(done)
    if not self.task then
      start(self, unpack(args, 1, args.n))
    end
    return function()
      self.waiters:remove(done)
      if self.waiters:is_empty() and self.task then
        self.task:cancel()
        self.task = nil
      end
    end
  end)
end

return M
