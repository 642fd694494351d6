--- The signals that a running host obeys.

local process = require("host.process")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

local SECOND_STATUS = 130

--- Obeys them from now on: SIGINT and SIGTERM end the host, a second one of them at once, also
--- while a call that cannot be cut holds up all else, and SIGHUP has it read its files.
---@param on { stop: fun(name: string), reload: fun(name: string) }
---@return fun() release Gives them back.
function M.handle(on)
  local signals = {}
  local function handle(name, ends, fn)
    signals[#signals + 1] = world.open("signal", function(on_event)
      local signal = uv.new_signal()
      signal:start(name, on_event)
      if ends then
        process.exit_at_second(uv.constants[name:upper()], SECOND_STATUS)
      end
      return signal
    end, fn, name)
  end
  for _, name in ipairs({ "sigint", "sigterm" }) do
    handle(name, true, function()
      on.stop(name)
    end)
  end
  handle("sighup", false, function()
    on.reload("SIGHUP")
  end)
  return function()
    for _, signal in ipairs(signals) do
      signal:close()
    end
  end
end

return M
