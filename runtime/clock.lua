--- The two clocks of the host. Parts take a clock as a parameter, so that specs can move it.

local world = require("runtime.world")

local M = {}

---@class clock.Clock
---@field now_ms fun(): number Monotonic milliseconds, for durations.
---@field wall_ms fun(): number Unix time in whole milliseconds, for what people and records see.

--- The system's clocks.
---@return clock.Clock
function M.system()
  return {
    now_ms = world.now_ms,
    wall_ms = world.wall_ms,
  }
end

--- A clock that a spec moves: `clock.advance(ms)`.
---@param wall_ms? number Where it starts. Default: 0.
---@return clock.Clock
function M.manual(wall_ms)
  local t = 0
  local base = wall_ms or 0
  return {
    now_ms = function()
      return t
    end,
    wall_ms = function()
      return base + math.floor(t)
    end,
    advance = function(ms)
      t = t + ms
    end,
  }
end

return M
