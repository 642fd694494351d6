--- The running host: the nodes that the policies name and those of the clusters that they follow,
--- a node unit for each, and a watcher per policy and node. Starts and stops them in order.

local async = require("runtime.async")
local cluster = require("runtime.cluster")
local introduction = require("runtime.app.introduction")
local node_unit = require("runtime.app.node_unit")
local parts = require("runtime.app.parts")
local policy_nodes = require("runtime.policy.nodes")
local policy_warnings = require("runtime.policy.warnings")
local watcher = require("runtime.watcher")

local M = {}

-- What a refusal means: trying again without a change cannot help.
local REFUSALS = {
  ECOOKIE = true, ENOCOOKIE = true, EBADCOOKIE = true, EPERMISSIONS = true, ENAME = true,
  ETLS = true,
}

-- A line about a domain shows this many of its metrics: they stand first in the domain's file.
local KEY_METRICS = 6

-- Nodes are started one after the other.
local BETWEEN_NODES_MS = 20

---@class app.App
---@field nodes table<string, node_unit.NodeUnit> By name.
---@field units unit.Unit[] Of all nodes.
local App = {}
local app_mt = { __index = App }

---@class app.Options
---@field policies table[] From runtime/policy.lua; (name, node) unique.
---@field registry? table From runtime/clients.lua.
---@field loader? loader.Loader Needed without `parts`, as `registry` is.
---@field parts? parts.Loaded Where the policies' domains were loaded already.
---@field sandbox table From runtime/sandbox.lua.
---@field alerts table From runtime/alerts.lua.
---@field telemetry telemetry.Bus
---@field clock clock.Clock
---@field ledger? spending.Ledger
---@field state? state_store.State What outlives a restart.
---@field count_watchers? fun(): integer Set by the app, as is `common`.
---@field common? table What all watchers have in common.
---@field cookie fun(file?: string): fun(): string?, string?, string? A finder per cookie file.
---@field own_name? string
---@field epmd_port? integer
---@field beamlens table The public module, for users' files.
---@field new_target? fun(opts: table): target.Target For specs. Default: runtime/target.lua's.
---@field new_sweep? fun(opts: table): sweep.Sweep For specs. Default: runtime/sweep.lua's.
---@field cluster? { ask_ms?: number, leave_ms?: number, limit?: integer } See runtime/cluster.lua.

--- Builds everything; nothing runs and nothing connects yet.
---@param opts app.Options
---@return app.App?
---@return string[]? errors `FILE:LINE: message` each.
function M.new(opts)
  local self = setmetatable({ opts = opts, nodes = {}, order = {}, units = {} }, app_mt)
  function opts.count_watchers()
    return #self.units
  end
  opts.common = watcher.common({ alerts = opts.alerts, telemetry = opts.telemetry,
    clock = opts.clock })
  self.parts = opts.parts or parts.new({ loader = opts.loader, registry = opts.registry,
    telemetry = opts.telemetry, clock = opts.clock, ledger = opts.ledger })
  self.cluster = self:new_cluster()
  local errors = {}
  for _, policy in ipairs(opts.policies) do
    local ok, err = self:add_policy(policy)
    if not ok and errors[#errors] ~= err then -- a table's watchers of several nodes fail alike
      errors[#errors + 1] = err
    end
  end
  if #errors > 0 then
    return nil, errors
  end
  return self
end

function App:new_cluster()
  local opts = self.opts
  local settings = opts.cluster or {}
  return cluster.new({
    clock = opts.clock, telemetry = opts.telemetry, epmd_port = opts.epmd_port,
    ask_ms = settings.ask_ms, leave_ms = settings.leave_ms, limit = settings.limit,
    on_member = function(name, seed)
      return self:add_member(name, seed)
    end,
    on_left = function(name)
      self:remove_member(name)
    end,
  })
end

-- Builds what a policy of the files asks for.
function App:add_policy(policy)
  local loaded, err = self.parts:of(policy)
  if not loaded then
    return nil, err
  end
  local node = self.nodes[policy.node]
  local other = node and node:find(policy.name)
  if other then
    return nil, ("%s:%d: watcher %s on %s is defined twice; also in %s"):format(policy.file,
      policy.line_of("name"), policy.name, policy.node, other.policy.file)
  end
  self:watch(policy, loaded, true)
  if policy.follows then
    self.cluster:follow(policy.node)
  end
  return true
end

-- Adds a watcher to its node, which is made for its first one.
function App:watch(policy, loaded, is_listed)
  local node = self.nodes[policy.node]
  if not node then
    node = node_unit.new({ policy = policy, host = self.opts, is_listed = is_listed })
    self.nodes[node.name] = node
    self.order[#self.order + 1] = node
    if node.target then
      self.cluster:add(node.name, node.target, is_listed)
    end
  end
  self.units[#self.units + 1] = node:add(policy, loaded)
  return node
end

-- A node was found through a followed one: it gets the watchers that follow that cluster, but none
-- that it has already. Returns its target.
function App:add_member(name, seed)
  local is_new = not self.nodes[name]
  for _, policy in ipairs(self.opts.policies) do
    local node = self.nodes[name]
    if policy.follows and policy.node == seed and not (node and node:find(policy.name)) then
      self:watch(policy_nodes.for_member(policy, name), assert(self.parts:of(policy)), false)
    end
  end
  if is_new then
    self.opts.telemetry:execute("beamlens.node.joined",
      { system_time = self.opts.clock.wall_ms() }, { node = name, cluster = seed })
    self:start_node(self.nodes[name])
  end
  return self.nodes[name].target
end

local function without(list, is_gone)
  local kept = {}
  for _, item in ipairs(list) do
    kept[#kept + 1] = not is_gone(item) and item or nil
  end
  return kept
end

function App:remove_node(node)
  self.nodes[node.name] = nil
  self.order = without(self.order, function(other)
    return other == node
  end)
  self.units = without(self.units, function(unit)
    return unit.meta.node == node.name
  end)
end

-- A member has left: nothing of it is watched any more, or kept.
function App:remove_member(name)
  local node = self.nodes[name]
  self:remove_node(node)
  node:stop("left", "left")
  self.opts.telemetry:execute("beamlens.node.left",
    { system_time = self.opts.clock.wall_ms() }, { node = name })
end

--- Ends a watcher that the files have no more, and its node with the last one.
---@param unit unit.Unit
function App:unwatch(unit)
  local node = self.nodes[unit.meta.node]
  self.units = without(self.units, function(other)
    return other == unit
  end)
  node:remove(unit)
  if not node.units[1] then
    self:remove_node(node)
    self.cluster:remove(node.name)
    node:stop("removed", "policy")
  end
end

--- The policies in force, as the files have them.
---@return table[]
function App:policies()
  return self.opts.policies
end

--- What a person wants to know first, a line for each watcher of the files.
---@return string[]
function App:introduction()
  return introduction.lines(self.units)
end

--- What the files say without effect, `FILE:LINE: message` each.
---@return string[]
function App:warnings()
  local list, seen = {}, {}
  for _, policy in ipairs(self.opts.policies) do
    if not seen[policy.origin] then
      seen[policy.origin] = true
      for _, warning in ipairs(policy_warnings.of(policy, assert(self.parts:of(policy)))) do
        list[#list + 1] = warning
      end
    end
  end
  return list
end

--- How much is watched.
---@return { nodes: integer, up: integer, watchers: integer }
function App:extent()
  local nodes, up = 0, 0
  for _, node in ipairs(self.order) do
    if node.target then
      nodes = nodes + 1
      up = up + (node.target:status().status == "up" and 1 or 0)
    end
  end
  return { nodes = nodes, up = up, watchers = #self.units }
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

local function has_no_target(self)
  for _, node in pairs(self.nodes) do
    if not node.target then
      return true
    end
  end
  return false
end

-- Calls on_refused(err) once when every node has refused for good and none was ever up. Never when
-- something else than nodes is watched, too.
local function watch_refusals(self, on_refused)
  if has_no_target(self) then
    return
  end
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
  local stopped = setmetatable({}, { __mode = "k" })
  local function on_iteration(_, measurements, metadata)
    local left = 0
    for _, unit in ipairs(self.units) do
      local is_it = unit.meta.watcher == metadata.watcher and unit.meta.node == metadata.node
      if is_it and measurements.iteration > limit and not stopped[unit] then
        stopped[unit] = true
        unit.watcher:stop("iterations")
      end
      left = left + (stopped[unit] and 0 or 1)
    end
    if left == 0 then
      on_finished()
    end
  end
  assert(self.opts.telemetry:attach("beamlens-iterations", "beamlens.watcher.iteration_start",
    on_iteration))
end

-- Starts a node, in its turn.
function App:start_node(node)
  local now_ms = self.opts.clock.now_ms()
  local turn_ms = math.max(now_ms, self.next_turn_ms or now_ms)
  self.next_turn_ms = turn_ms + BETWEEN_NODES_MS
  if turn_ms == now_ms then
    node:start()
    return
  end
  async.spawn(function()
    async.sleep(turn_ms - now_ms)
    node:start()
  end, { name = "start " .. node.name, detached = true })
end

--- Reads the files again, as after a change of them; set by runtime/reload.lua.
---@async
---@param reason string Why, for the event.
---@return { applied: string[], watchers: changes.Report, failed: { file: string, line?: integer,
--- error: string }[] } result `applied`: the files that are in force in a newer version; `failed`:
--- those of which an older version stays in force.
function App:reload(reason)
  if not self.reloader then
    error("this host does not reload", 2)
  end
  return self.reloader:reload(reason)
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
  self.cluster:start()
  for _, node in ipairs(self.order) do
    self:start_node(node)
  end
end

--- Stops everything in order: clusters, nodes with their watchers, sandbox.
---@async
---@param reason string For `watcher.loop_stopped`.
function App:stop(reason)
  self.cluster:stop()
  for _, node in ipairs(self.order) do
    node:stop(reason)
  end
  self.parts:close()
  self.opts.sandbox:close()
  -- Let the sockets' last bytes and close callbacks go.
  async.sleep(0)
end

return M
