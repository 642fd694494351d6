--- The signals that a running host obeys.

local process = require("host.process")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

local SECOND_STATUS = 130

--- Obeys them from now on: SIGINT and SIGTERM end the host, a second one of them at once, and
--- SIGHUP has it read its files.
---@param on { stop: fun(name: string), reload: fun(name: string) }
---@return fun() release Gives them back.
function M.handle(on)
  local signals, is_stopping = {}, false
  local function handle(name, fn)
    signals[#signals + 1] = world.open("signal", function(on_event)
      local signal = uv.new_signal()
      signal:start(name, on_event)
      return signal
    end, fn, name)
  end
  for _, name in ipairs({ "sigint", "sigterm" }) do
    handle(name, function()
      -- The second one may have come with the first, and else may find the loop held.
      if is_stopping then
        process.exit(SECOND_STATUS)
      end
      is_stopping = true
      process.exit_at_signal(SECOND_STATUS)
      on.stop(name)
    end)
  end
  handle("sighup", function()
    on.reload("SIGHUP")
  end)
  return function()
    for _, signal in ipairs(signals) do
      signal:close()
    end
  end
end

return M
