--- The doors by which time comes in: the two clocks, and timers.
---
--- Usually a door is a plain call. A session may stand between the runtime and the world, so that
--- time is what the session says: specs let a day pass in seconds by it.

local uv = require("luv")

local M = {}

---@class world.Session
---@field now_ms fun(self: world.Session): number
---@field wall_ms fun(self: world.Session): integer
---@field open fun(self: world.Session, kind: string, start: function, on_event: function,
--- ms: number): table

local session ---@type world.Session?

--- Has a session stand between the runtime and the world; nil: nothing does.
---@param installed? world.Session
function M.install(installed)
  session = installed
end

--- The monotonic clock in milliseconds, with fractions.
---@return number
function M.now_ms()
  if session then
    return session:now_ms()
  end
  return uv.hrtime() / 1e6
end

--- Unix time in whole milliseconds.
---@return integer
function M.wall_ms()
  if session then
    return session:wall_ms()
  end
  local s, us = uv.gettimeofday()
  return s * 1000 + math.floor(us / 1000)
end

local function start_timer(ms, fn)
  local timer = uv.new_timer()
  uv.update_time() -- the loop's time is that of its last turn: the timer would end too early
  timer:start(ms, 0, fn)
  return timer
end

--- Has a function called once, after a time.
---@param ms number
---@param fn fun()
---@return { close: fun(self: table) } timer To be closed, whether it was called or not.
function M.timer(ms, fn)
  ms = math.max(0, math.ceil(ms))
  if session then
    return session:open("timer", function(on_event)
      return start_timer(ms, on_event)
    end, fn, ms)
  end
  return start_timer(ms, fn)
end

return M
