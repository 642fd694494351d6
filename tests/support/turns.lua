-- How long the turns of this process' loop take: the time from one wait for events to the next.

local support = require("support")
local uv = require("luv")

local M = {}

--- Measures from now on, to the end of the case.
---@return fun(): number longest_ms The longest turn so far, the one under way included.
function M.watch()
  uv.loop_configure("metrics_idle_time")
  local longest_ms, last, last_idle = 0, uv.hrtime(), uv.metrics_idle_time()
  local function look()
    local now, idle = uv.hrtime(), uv.metrics_idle_time()
    longest_ms = math.max(longest_ms, (now - last - (idle - last_idle)) / 1e6)
    return now, idle
  end
  local prepare = uv.new_prepare()
  prepare:start(function()
    last, last_idle = look()
  end)
  prepare:unref()
  support.on_cleanup(function()
    prepare:close()
  end)
  return function()
    look()
    return longest_ms
  end
end

return M
