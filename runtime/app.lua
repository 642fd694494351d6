--- The running host: builds one target, sweep and reachability watch per node, and one detector,
--- executor and supervised watcher per policy, and starts and stops them in order.

local async = require("runtime.async")
local clients = require("runtime.clients")
local detector = require("runtime.detector")
local domain = require("runtime.domain")
local executor = require("runtime.executor")
local beamlens = require("runtime.beamlens")
local loader_module = require("runtime.loader")
local prompts = require("runtime.prompts")
local reachability = require("runtime.reachability")
local suggest = require("runtime.suggest")
local sweep = require("runtime.sweep")
local target = require("runtime.target")
local units = require("runtime.units")
local watcher = require("runtime.watcher")

local M = {}

-- What a refusal means: trying again without a change cannot help.
local REFUSALS = { ECOOKIE = true, ENAME = true, ETLS = true }

-- A line about a domain shows this many of its metrics: they stand first in the domain's file.
local KEY_METRICS = 6

-- A pass itself takes a second, in which it measures rates.
local MIN_SWEEP_MS = 2000

---@class app.App
local App = {}
local app_mt = { __index = App }

---@class app.Options
---@field policies table[] From runtime/policy.lua; (name, node) unique.
---@field registry table From runtime/clients.lua.
---@field loader loader.Loader
---@field sandbox table From runtime/sandbox.lua.
---@field alerts table From runtime/alerts.lua.
---@field telemetry telemetry.Bus
---@field clock clock.Clock
---@field cookie fun(file?: string): fun(): string?, string?, string? A finder per cookie file.
---@field own_name? string
---@field epmd_port? integer
---@field beamlens table The public module, for users' files.

--- Builds everything; nothing runs and nothing connects yet.
---@param opts app.Options
---@return app.App?
---@return string[]? errors `FILE:LINE: message` each.
function M.new(opts)
  local self = setmetatable({ opts = opts, nodes = {}, units = {}, domains = {}, workers = {} },
    app_mt)
  local errors, seen = {}, {}
  for _, policy in ipairs(opts.policies) do
    local key = ("%s on %s"):format(policy.name, policy.node)
    local unit, err
    if seen[key] then
      err = ("%s:1: watcher %s is defined twice; also in %s"):format(policy.file, key, seen[key])
    else
      seen[key] = policy.file
      unit, err = self:build_unit(policy)
    end
    if unit then
      self.units[#self.units + 1] = unit
    else
      errors[#errors + 1] = err
    end
  end
  if #errors > 0 then
    return nil, errors
  end
  return self
end

-- Loads a domain once per file.
function App:load_domain(policy)
  local found, err = self.opts.loader:find("domains", policy.domain, policy.file)
  if not found then
    return nil, err
  end
  if not self.domains[found.chunk_name] then
    local globals, worker = beamlens.for_domain(found)
    self.workers[#self.workers + 1] = worker
    local value, load_err = loader_module.run(found.source, found.chunk_name, globals)
    if load_err then
      return nil, load_err
    end
    local loaded, domain_err = domain.new(value, { file = found.chunk_name })
    if not loaded then
      return nil, domain_err
    end
    self.domains[found.chunk_name] = loaded
  end
  return self.domains[found.chunk_name]
end

-- Loads a prompt. Returns its render function.
function App:load_prompt(policy)
  local found, err = self.opts.loader:find("prompts", policy.prompt, policy.file)
  if not found then
    return nil, err
  end
  local value, load_err = loader_module.run(found.source, found.chunk_name)
  if load_err then
    return nil, load_err
  end
  local prompt, prompt_err = prompts.new(value, { file = found.chunk_name })
  if not prompt then
    return nil, prompt_err
  end
  return function(variables)
    return prompt:render(variables)
  end
end

-- How often the quickest watcher of a node samples it.
function App:quickest_sample_ms(node_name)
  local quickest = math.huge
  for _, policy in ipairs(self.opts.policies) do
    if policy.node == node_name then
      quickest = math.min(quickest, policy.sample_ms)
    end
  end
  return quickest
end

-- The parts that all watchers of one node share.
function App:node_unit(policy)
  local name = policy.node
  if not self.nodes[name] then
    local opts = self.opts
    local node = {
      target = target.new({
        node = name,
        cookie = opts.cookie(policy.cookie_file),
        own_name = opts.own_name,
        epmd_port = opts.epmd_port,
        clock = opts.clock,
        telemetry = opts.telemetry,
      }),
    }
    node.sweep = sweep.new({ target = node.target, clock = opts.clock,
      min_interval_ms = math.max(MIN_SWEEP_MS, self:quickest_sample_ms(name)) })
    node.reachability = reachability.new({
      target = node.target,
      alerts = opts.alerts,
      telemetry = opts.telemetry,
      clock = opts.clock,
      rules = policy.rules,
      last_snapshots = function()
        return self:last_snapshots(name)
      end,
    })
    self.nodes[name] = node
  end
  return self.nodes[name]
end

-- The last sample of each watcher of a node: what it looked like before it went away.
function App:last_snapshots(node_name)
  local snapshots = {}
  for _, unit in ipairs(self.units) do
    if unit.policy.node == node_name then
      for _, snapshot in ipairs(unit.detector:last_snapshots()) do
        snapshots[#snapshots + 1] = snapshot
      end
    end
  end
  return snapshots
end

-- The registry of a policy: its own `clients`, else the host's.
function App:registry_for(policy)
  if not policy.clients then
    return self.opts.registry
  end
  return clients.new({ config = policy.clients, telemetry = self.opts.telemetry,
    clock = self.opts.clock, env = os.getenv })
end

function App:build_unit(policy)
  local opts = self.opts
  local function at(field, err)
    local source = loader_module.read(policy.file) or ""
    return ("%s:%d: %s"):format(policy.file, loader_module.line_of(source, field), err)
  end
  local loaded, err = self:load_domain(policy)
  if not loaded then
    return nil, at("domain", err)
  end
  local prompt, prompt_err = self:load_prompt(policy)
  if not prompt then
    return nil, at("prompt", prompt_err)
  end
  local registry, registry_err = self:registry_for(policy)
  if not registry then
    return nil, at("clients", registry_err)
  end
  if policy.client and not registry.clients[policy.client] then
    return nil, at("client", ("no client %q%s"):format(policy.client,
      suggest.hint(policy.client, registry:names())))
  end

  local node = self:node_unit(policy)
  local meta = { watcher = policy.name, domain = policy.domain, node = policy.node }
  local ctx = { target = node.target, sweep = node.sweep, node = policy.node, clock = opts.clock }
  local unit = { policy = policy, meta = meta, node = node, domain = loaded, registry = registry }
  unit.executor = executor.new({ sandbox = opts.sandbox, domain = loaded, ctx = ctx,
    limits = policy.execute, telemetry = opts.telemetry, meta = meta, clock = opts.clock })
  unit.detector = detector.new({ meta = meta, domain = loaded, ctx = ctx, policy = policy,
    executor = unit.executor, alerts = opts.alerts, telemetry = opts.telemetry,
    clock = opts.clock,
    guard = function(request)
      return unit.watcher:guard_alert(request)
    end })
  unit.watcher = watcher.new({ meta = meta, policy = policy, domain = loaded,
    detector = unit.detector, alerts = opts.alerts, executor = unit.executor,
    registry = registry, prompt = prompt, telemetry = opts.telemetry, clock = opts.clock,
    target = node.target })
  return unit
end

--- The policies in force.
---@return table[]
function App:policies()
  return self.opts.policies
end

--- What a person wants to know first, a line each.
---@return string[]
function App:introduction()
  local lines = {}
  for _, unit in ipairs(self.units) do
    local policy, client = unit.policy, unit.policy.client or unit.registry.primary
    local limits = {}
    if policy.limits.tokens_per_hour then
      limits[#limits + 1] = ("%s tokens an hour"):format(
        units.format_count(policy.limits.tokens_per_hour))
    end
    if policy.limits.usd_per_day then
      limits[#limits + 1] = ("%.2f USD a day"):format(policy.limits.usd_per_day)
    end
    lines[#lines + 1] = ("watcher %s on %s: domain %s, sampled every %s, client %s%s"):format(
      policy.name, policy.node, policy.domain, units.format_duration(policy.sample_ms), client,
      #limits > 0 and ", at most " .. table.concat(limits, " and ") or "")
  end
  return lines
end

--- The metrics that a line about a domain shows.
---@param domain_name string
---@return string[]
function App:key_metrics(domain_name)
  for _, unit in ipairs(self.units) do
    if unit.meta.domain == domain_name then
      local names = {}
      for i = 1, math.min(KEY_METRICS, #unit.domain.metrics) do
        names[i] = unit.domain.metrics[i].name
      end
      return names
    end
  end
  return {}
end

-- Calls on_refused(err) once when every node has refused for good and none was ever up.
local function watch_refusals(self, on_refused)
  local refused, waiting = {}, 0
  for name, node in pairs(self.nodes) do
    waiting = waiting + 1
    node.target:subscribe(function(kind, info)
      if kind == "up" then
        on_refused = nil
      elseif on_refused and kind == "refused" and REFUSALS[info.code] and not refused[name] then
        refused[name] = true
        waiting = waiting - 1
        if waiting == 0 then
          on_refused(info.err)
          on_refused = nil
        end
      end
    end)
  end
end

-- Stops each watcher before the decision after its `limit`th, and tells when all have stopped.
local function limit_iterations(self, limit, on_finished)
  local left = #self.units
  local stopped = {}
  local function on_iteration(_, measurements, metadata)
    for _, unit in ipairs(self.units) do
      local is_it = unit.meta.watcher == metadata.watcher and unit.meta.node == metadata.node
      if is_it and measurements.iteration > limit and not stopped[unit] then
        stopped[unit] = true
        left = left - 1
        unit.watcher:stop("iterations")
      end
    end
    if left == 0 then
      on_finished()
    end
  end
  assert(self.opts.telemetry:attach("beamlens-iterations", "beamlens.watcher.iteration_start",
    on_iteration))
end

--- Starts everything. Returns at once.
---@param opts { on_refused: fun(err: string), iterations?: integer, on_finished?: fun() }
--- `on_refused` is called once, when every node refuses for good at the start; `on_finished` when
--- each watcher has made its `iterations` decisions.
function App:start(opts)
  watch_refusals(self, opts.on_refused)
  if opts.iterations then
    limit_iterations(self, opts.iterations, opts.on_finished)
  end
  for _, node in pairs(self.nodes) do
    node.target:start()
    node.reachability:start()
    node.sweep:start()
  end
  for _, unit in ipairs(self.units) do
    unit.detector:start()
    unit.watcher:start()
  end
end

--- Stops everything in order: watchers, detection, connections, sandbox.
---@async
---@param reason string For `watcher.loop_stopped`.
function App:stop(reason)
  for _, unit in ipairs(self.units) do
    unit.watcher:stop(reason)
  end
  for _, unit in ipairs(self.units) do
    unit.detector:stop()
  end
  for _, node in pairs(self.nodes) do
    node.sweep:stop()
    node.reachability:stop()
    node.target:stop()
  end
  for _, worker in ipairs(self.workers) do
    worker:close()
  end
  self.opts.sandbox:close()
  -- Let the sockets' last bytes and close callbacks go.
  async.sleep(0)
end

return M
