--- The control socket of `run`, over the host that it has built.

local commands = require("runtime.control.commands")
local control_server = require("runtime.control.server")
local uv = require("luv")

local M = {}

-- The command line of this process, as the system has it.
local function own_arguments()
  local file = io.open("/proc/self/cmdline", "rb")
  if not file then
    return { uv.exepath() }
  end
  local args = {}
  for arg in file:read("*a"):gmatch("[^%z]+") do
    args[#args + 1] = arg
  end
  file:close()
  return args
end

--- Opens it. Without a place for it the host goes on, and says so.
---@param host table Of runtime/commands/run.lua: `app`, `clock`, `ledger`, `store`, `reload(self,
--- reason)`.
---@param warn fun(text: string)
---@return fun() close
function M.open(host, warn)
  local server, err = control_server.open({
    warn = warn,
    answer = commands.new({ app = host.app, clock = host.clock, ledger = host.ledger,
      args = own_arguments(), store_path = host.store and host.store.path,
      reload = function(reason)
        return host:reload(reason)
      end }),
  })
  if not server then
    warn("no control socket: " .. err)
    return function() end
  end
  return function()
    server:close()
  end
end

return M
