-- The whole host over a node that is played, by time that jumps: app, nodes, units, detectors,
-- watchers, tools, alerts, budgets, the client registry over real HTTP and the real sandbox.
--
--   local host = living.start({ recording = "pg", model = calm_model.start({ wait_ms = 1800000 }),
--     watchers = { 'domain = "beam"' } })
--   async.sleep(24 * 3600000)
--   host.counts["llm.start"], host.node:restart(), host:spent()

local alerts = require("runtime.alerts")
local app = require("runtime.app")
local beamlens = require("runtime.beamlens")
local clients = require("runtime.clients")
local clock = require("runtime.clock")
local http = require("runtime.http")
local jumping = require("support.jumping")
local loader = require("runtime.loader")
local parts = require("runtime.app.parts")
local played = require("support.played")
local reload = require("runtime.reload")
local sandbox = require("runtime.sandbox")
local sources = require("runtime.reload.sources")
local spending = require("runtime.spending")
local support = require("support")
local telemetry = require("runtime.telemetry")

local M = {}

--- Processes of the sandbox that stand ready.
M.POOL = 2

local Host = {}
local host_mt = { __index = Host }

-- Requests and scripts take no time of the moved clock.
local function stand_still_outside(time, box)
  local request, exec = http.request, box.exec
  http.request = function(...)
    return time:outside(request, ...)
  end
  box.exec = function(...)
    return time:outside(exec, ...)
  end
  support.on_cleanup(function()
    http.request = request
  end)
end

local function count_events(self)
  self.counts = {}
  assert(self.telemetry:attach_many("living", telemetry.event_names(),
    function(event, measurements, metadata)
      local name = event:match("^beamlens%.(.*)")
      self.counts[name] = (self.counts[name] or 0) + 1
      if self.on_event then
        self.on_event(name, measurements, metadata)
      end
    end))
end

local function registry_for(self, model)
  return assert(clients.new({ telemetry = self.telemetry, clock = self.clock,
    ledger = self.ledger,
    config = { primary = "Main", clients = { { name = "Main", provider = "anthropic",
      retry_policy = "DefaultRetry",
      options = { model = "claude-haiku-4-5-20251001", base_url = model.url } } } },
    env = function(name)
      return name == "ANTHROPIC_API_KEY" and "k-0123456789" or nil
    end }))
end

local function write_watchers(self, watchers)
  return support.write_file(self.node.folder .. "/watchers/spec.lua",
    ("return { { %s } }\n"):format(table.concat(watchers, " }, { ")))
end

-- What the watchers' file says, as `run` reads it.
local function read_watchers(self)
  self.sources = sources.new({ arguments = { self.node.folder .. "/watchers/spec.lua" },
    loaded = self.loaded, clock = self.clock, node = self.node.name, env = function() end })
  local drafts = self.sources:round(function(_, err)
    error(err)
  end)
  self.sources:put(drafts[1])
  return drafts[1].policies
end

local function new_app(self, model)
  local box = sandbox.new({ telemetry = self.telemetry, pool = M.POOL })
  stand_still_outside(self.time, box)
  self.sandbox = box
  self.loaded = parts.new({ loader = loader.new({ env = function() end }),
    telemetry = self.telemetry, clock = self.clock, ledger = self.ledger })
  local registry = registry_for(self, model)
  local policies = read_watchers(self)
  self.loaded:set_registry(registry)
  local made, errors = app.new({
    policies = policies, parts = self.loaded, sandbox = box, alerts = self.alerts,
    telemetry = self.telemetry, clock = self.clock, ledger = self.ledger,
    cookie = function()
      return function() end
    end,
    new_target = function(opts)
      return self.node:new_target(opts)
    end,
    new_sweep = function(opts)
      return self.node:new_sweep(opts)
    end,
  })
  assert(made, table.concat(errors or {}, "\n"))
  self.reloader = reload.new({ app = made, loaded = self.loaded, sources = self.sources,
    registry = {
      look = function()
        return { value = registry, errors = {}, changed = {} }
      end,
      traces = function()
        return {}
      end,
    },
    telemetry = self.telemetry, clock = self.clock, warn = error })
  return made
end

--- Starts a host; it ends with the case.
---@param opts { recording?: string, on?: table, node?: integer, model: table, watchers: string[],
--- on_event?: fun(name: string, measurements: table, metadata: table) } `on`: a real node instead
--- of a recording, see support/attached.lua. `watchers`: the inside of each one's table. Names of
--- events are given without `beamlens.`.
function M.start(opts)
  local self = setmetatable({ time = jumping.start(), on_event = opts.on_event }, host_mt)
  self.clock = clock.system()
  self.node = opts.on or played.new({ path = ("tests/recordings/%s.xz"):format(opts.recording),
    node = opts.node })
  self.node:live_by(self.time)
  local file = write_watchers(self, opts.watchers)
  self.telemetry = telemetry.new({ on_handler_error = function(_, event, err)
    error(event .. ": " .. err)
  end })
  package.loaded["beamlens"] = beamlens.new({ telemetry = self.telemetry, warn = error })
  count_events(self)
  self.ledger = spending.new({ clock = self.clock, telemetry = self.telemetry })
  self.alerts = alerts.new({ telemetry = self.telemetry, clock = self.clock })
  self.app = new_app(self, opts.model)
  support.on_cleanup(function()
    self:stop()
    os.remove(file)
    package.loaded["beamlens"] = nil
  end)
  self.app:start({ on_refused = error })
  return self
end

--- Puts another file of the same watchers in force.
---@async
---@param watchers string[]
function Host:reload(watchers)
  write_watchers(self, watchers)
  local result = self.app:reload("spec")
  assert(#result.failed == 0 and #result.applied == 1, "the file is not in force")
end

--- Ends it, if it has not ended yet.
---@async
function Host:stop()
  if not self.is_stopped then
    self.is_stopped = true
    self.reloader:stop()
    self.app:stop("spec")
  end
end

--- What a watcher has spent since the start.
---@param index? integer Default: 1.
---@return { tokens: number, usd: number }
function Host:spent(index)
  return self.app.units[index or 1].watcher.account.total
end

return M
