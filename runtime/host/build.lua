--- What a host is built of, from its command line: the files of its watchers, the registry of
--- models, money, alerts and all that the app needs. Nothing runs yet.

local alerts = require("runtime.alerts")
local app = require("runtime.app")
local beamlens = require("runtime.beamlens")
local cookie = require("runtime.cookie")
local loader = require("runtime.loader")
local parts = require("runtime.app.parts")
local payloads = require("runtime.app.payloads")
local registry_source = require("runtime.reload.registry")
local sandbox = require("runtime.sandbox")
local sources = require("runtime.reload.sources")
local spending = require("runtime.spending")
local spending_store = require("runtime.spending_store")
local state_store = require("runtime.state_store")
local telemetry = require("runtime.telemetry")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

-- The watchers of all files that the arguments name, and the first of these files; or a list of
-- what is wrong.
local function read_watchers(self)
  local arguments, errors = self.opts, {}
  if #arguments == 0 then
    return nil, { "no watcher file given: beamlens run FILE|DIR..." }
  end
  for _, path in ipairs(arguments) do
    if not uv.fs_stat(path) then
      errors[#errors + 1] = ("%s: no such file or folder"):format(path)
    end
  end
  if #errors > 0 then
    return nil, errors
  end
  local policies = {}
  local drafts = self.sources:round(function(_, err)
    errors[#errors + 1] = err
  end)
  for _, draft in ipairs(drafts) do
    self.sources:put(draft)
    for _, item in ipairs(draft.policies) do
      policies[#policies + 1] = item
    end
  end
  if #errors == 0 and #drafts == 0 then
    errors[1] = ("no watcher file in %s"):format(table.concat(arguments, ", "))
  end
  return #errors == 0 and policies or nil, errors, drafts[1] and drafts[1].path
end

-- The events, and what of the host users' files may call.
local function build_telemetry(self)
  self.telemetry = telemetry.new({
    on_handler_error = function(id, event, err)
      self.telemetry:execute("beamlens.handler.failed", { system_time = self.clock.wall_ms() },
        { handler = id, event = event, error = err })
    end,
  })
  package.loaded["beamlens"] = beamlens.new({ telemetry = self.telemetry, warn = self.warn })
end

-- Money, and where what outlives a restart comes from and goes to.
local function build_kept(self)
  self.ledger = spending.new({ clock = self.clock, telemetry = self.telemetry,
    on_change = function(...)
      self.spending:note(...)
    end })
  self.spending = spending_store.new({ ledger = self.ledger, clock = self.clock })
  self.alerts = alerts.new({ telemetry = self.telemetry, clock = self.clock })
  self.state = state_store.new({ alerts = self.alerts, telemetry = self.telemetry,
    clock = self.clock })
end

-- Reads the files: watchers with what they name, and the registry of models.
local function load_files(self)
  local opts = self.opts
  self.loaded = parts.new({ loader = loader.new({ dir = opts.dir }), telemetry = self.telemetry,
    clock = self.clock, ledger = self.ledger })
  self.sources = sources.new({ arguments = { unpack(opts) }, loaded = self.loaded,
    clock = self.clock, node = opts.node, client = opts.client, env = world.env })
  local policies, errors, first_file = read_watchers(self)
  if not policies then
    return nil, errors
  end
  self.registries = registry_source.new({ file = opts.clients, watcher_file = first_file,
    telemetry = self.telemetry, clock = self.clock, ledger = self.ledger })
  local opened = self.registries:look()
  if not opened.value then
    return nil, opened.errors
  end
  self.registry = opened.value
  if opts["show-payload"] then
    self.registry = payloads.wrap(self.registry, function(...)
      self:show(...)
    end)
  end
  self.loaded:set_registry(self.registry)
  return policies
end

local function build_app(self, policies)
  local opts = self.opts
  self.sandbox = sandbox.new({ telemetry = self.telemetry })
  local built, errors = app.new({
    policies = policies,
    parts = self.loaded,
    sandbox = self.sandbox,
    alerts = self.alerts,
    state = self.state,
    telemetry = self.telemetry,
    clock = self.clock,
    ledger = self.ledger,
    cookie = function(file)
      return cookie.find({ file = opts["cookie-file"] or file, env = os.getenv })
    end,
    own_name = opts.name,
    epmd_port = tonumber(world.env("ERL_EPMD_PORT")),
  })
  if not built then
    self.sandbox:close()
    return nil, errors
  end
  self.app = built
  return true
end

--- Builds all that a host has.
---@param host host.Host With `opts`, `warn` and `clock`.
---@return true? ok
---@return string[]? errors A line each.
function M.all(host)
  build_telemetry(host)
  build_kept(host)
  local policies, errors = load_files(host)
  if not policies then
    return nil, errors
  end
  return build_app(host, policies)
end

return M
