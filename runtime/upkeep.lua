--- What keeps `run` running and reachable beside its watchers: the guardian, the service manager
--- and the control socket, over the host that runtime/commands/run.lua has built.

local async = require("runtime.async")
local door = require("runtime.control.door")
local guardian = require("runtime.guardian")
local limits = require("runtime.guardian.limits")
local notify = require("runtime.notify")
local service = require("runtime.service")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

---@class upkeep.Upkeep
local Upkeep = {}
local upkeep_mt = { __index = Upkeep }

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

-- Opens the control socket. Without a place for it the host goes on, and says so.
local function open_socket(self)
  local host = self.host
  local server, err = door.open({
    warn = self.warn,
    host = { app = host.app, clock = host.clock, ledger = host.ledger,
      guardian = self.guardian, args = own_arguments(),
      store_path = host.keeper and host.keeper.path,
      reload = function(reason)
        return self:reload(reason)
      end },
  })
  if not server then
    self.warn("no control socket: " .. err)
  end
  return server
end

--- Starts all of it; to be called before the app starts.
---@param host host.Host
---@param opts { ["max-rss"]?: number|false, ["max-cpu"]?: number|false } The limits as given on the
--- command line.
---@param warn fun(text: string)
---@return upkeep.Upkeep
function M.start(host, opts, warn)
  local self = setmetatable({ host = host, warn = warn }, upkeep_mt)
  self.guardian = guardian.new({ app = host.app, telemetry = host.telemetry, clock = host.clock,
    limits = limits.read(opts, world.env, warn,
      world.value("memory", limits.group_bytes)) })
  self.service = service.start({ notifier = notify.new({ warn = warn }), app = host.app,
    alerts = host.alerts, telemetry = host.telemetry, is_well = function()
      return self.guardian:is_well()
    end })
  self.server = open_socket(self)
  self.guardian:start()
  return self
end

--- Reloads through the host's hook, and tells the service manager.
---@async
---@param reason string
---@return any result
---@return string? err
---@return string? code
function Upkeep:reload(reason)
  return self.service:reload(function()
    return self.host:reload(reason)
  end)
end

--- Has the host reload in a task of its own, as a signal wants it.
---@param reason string
function Upkeep:reload_soon(reason)
  async.spawn(function()
    local result, err = self:reload(reason)
    if result == nil then
      self.warn(("%s: %s"):format(reason, err))
    end
  end, { name = "reload", detached = true, on_error = self.warn })
end

--- The host begins to end: nobody gets an answer any more, and the service manager is told.
function Upkeep:stopping()
  self.guardian:stop()
  if self.server then
    self.server:close()
  end
  self.service:stopping()
end

--- The host has ended.
function Upkeep:close()
  self.service:close()
end

return M
