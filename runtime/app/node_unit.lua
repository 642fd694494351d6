--- A node that is watched: the connection, the sweep and the watch over reachability, which exist
--- once for all its watchers, the feeds of samples, which some of them share, and a unit per
--- watcher. Watchers whose domain watches no node share one of these by their label; it has neither
--- connection nor sweep nor reachability.

local async = require("runtime.async")
local feeds = require("runtime.detector.feeds")
local reachability = require("runtime.reachability")
local sweep = require("runtime.sweep")
local target = require("runtime.target")
local unit = require("runtime.app.unit")

local M = {}

-- A pass itself takes a second, in which it measures rates.
local MIN_SWEEP_MS = 2000

-- How long a turn of the loop may start watchers.
local START_TURN_MS = 10

-- The feeds of one node take their first samples one after the other, and all feeds of the host
-- their second ones at different times.
local BETWEEN_FEEDS_MS = 100
local LATEST_SHARE, EARLIEST_SHARE = 0.25, 0.5 -- of the cadence

---@class node_unit.NodeUnit
---@field name string
---@field target? target.Target nil, as the next two, where no node is watched.
---@field sweep? sweep.Sweep
---@field reachability? reachability.Reachability
---@field feeds feeds.Feeds
---@field units unit.Unit[]
---@field is_listed boolean The files name it; else it was found as a member of a cluster.
local NodeUnit = {}
local node_unit_mt = { __index = NodeUnit }

local function spread(sample_ms, index)
  local delay_ms, latest_ms = (index - 1) * BETWEEN_FEEDS_MS, sample_ms * LATEST_SHARE
  return {
    delay_ms = delay_ms <= latest_ms and delay_ms or math.random() * latest_ms,
    early_ms = math.random() * sample_ms * EARLIEST_SHARE,
  }
end

--- Builds a node without watchers; nothing runs and nothing connects.
---@param opts { policy: table, host: app.Options, is_listed: boolean } `policy` is that of its
--- first watcher: it says where the node is, which cookie it has, and how reachability is judged.
---@return node_unit.NodeUnit
function M.new(opts)
  local policy, host = opts.policy, opts.host
  local self = setmetatable({ name = policy.node, host = host, is_listed = opts.is_listed,
    policy = policy, units = {}, by_name = {} }, node_unit_mt)
  self.feeds = feeds.new({ spread = spread })
  function self.is_watched(domain)
    return self.feeds:has(domain)
  end
  if not policy.has_no_node then
    self:build(policy)
  end
  return self
end

function NodeUnit:build(policy)
  local host = self.host
  self.target = (host.new_target or target.new)({
    node = policy.address,
    cookie = host.cookie(policy.cookie_file),
    own_name = host.own_name,
    epmd_port = host.epmd_port,
    clock = host.clock,
    telemetry = host.telemetry,
  })
  self.sweep = (host.new_sweep or sweep.new)({ target = self.target, clock = host.clock, parts = {},
    min_interval_ms = math.max(MIN_SWEEP_MS, policy.sample_ms) })
  self.reachability = reachability.new({
    target = self.target,
    alerts = host.alerts,
    telemetry = host.telemetry,
    clock = host.clock,
    rules = policy.rules, mute = policy.mute,
    guard = function(request)
      local first = self.units[1]
      if not first then
        return request
      end
      return first.watcher:guard_alert(request)
    end,
    last_snapshots = function()
      return self.feeds:last_snapshots()
    end,
  })
end

--- The unit of a watcher by its name, or nil.
---@param watcher_name string
---@return unit.Unit?
function NodeUnit:find(watcher_name)
  return self.by_name[watcher_name]
end

--- Adds a watcher. It starts with the node, or at once when that runs.
---@param policy table
---@param parts parts.Parts
---@return unit.Unit
function NodeUnit:add(policy, parts)
  local added = unit.new({ policy = policy, parts = parts, host = self.host, node = self })
  self.units[#self.units + 1], self.by_name[policy.name] = added, added
  if self.sweep then
    self.sweep:need(parts.domain.sweeps)
    self.sweep.min_interval_ms = math.min(self.sweep.min_interval_ms or math.huge,
      math.max(MIN_SWEEP_MS, policy.sample_ms))
  end
  if self.is_running then
    added:start()
  end
  return added
end

-- A pass is as often as the watcher that samples most often can use.
function NodeUnit:set_sweep_interval()
  local least_ms = math.huge
  for _, one in ipairs(self.units) do
    least_ms = math.min(least_ms, one.policy.sample_ms)
  end
  self.sweep.min_interval_ms = math.max(MIN_SWEEP_MS, least_ms)
end

--- Ends a watcher that is not to go on; its alerts are resolved by "policy".
---@param gone unit.Unit
function NodeUnit:remove(gone)
  local kept = {}
  for _, one in ipairs(self.units) do
    kept[#kept + 1] = one ~= gone and one or nil
  end
  self.units, self.by_name[gone.meta.watcher] = kept, nil
  gone:stop("removed", "policy")
  local meta = gone.meta
  for _, alert in ipairs(self.host.alerts:firing({ node = meta.node, watcher = meta.watcher })) do
    self.host.alerts:resolve(alert.id, "policy")
  end
end

--- Takes what its first watcher says of the node now: how it is reached, and judged.
function NodeUnit:settle()
  local first = self.units[1]
  if not self.target or not first then
    return
  end
  self:set_sweep_interval()
  local before, policy = self.policy, first.policy
  if policy == before then
    return
  end
  self.policy = policy
  self.reachability:set_rules(policy.rules, policy.mute)
  if policy.address ~= before.address or policy.cookie_file ~= before.cookie_file then
    self.target:reach_by(policy.address, self.host.cookie(policy.cookie_file))
  end
end

-- Starts the watchers, a few in each turn of the loop: a prompt takes a millisecond to render.
local function start_units(self, units)
  local turn_ms = async.now_ms()
  for _, one in ipairs(units) do
    if self.is_over then
      return
    end
    one:start()
    if async.now_ms() - turn_ms > START_TURN_MS then
      async.sleep(1)
      turn_ms = async.now_ms()
    end
  end
end

--- Connects, and starts all that watches the node. Does nothing after a stop.
function NodeUnit:start()
  if self.is_running or self.is_over then
    return
  end
  self.is_running = true
  if self.host.state then
    self.host.state:adopt_node(self)
  end
  if self.target then
    self.target:start()
    self.reachability:start()
    self.sweep:start()
  end
  local units = {} -- those that are added later start by themselves
  for i, one in ipairs(self.units) do
    units[i] = one
  end
  async.spawn(function()
    start_units(self, units)
  end, { name = "start watchers of " .. self.name, detached = true })
end

--- Ends all of it. Firing alerts stay, unless the node has left.
---@param reason string For `watcher.loop_stopped`.
---@param resolved_by? "left"|"policy" Resolves all alerts of the node, and ends its findings.
function NodeUnit:stop(reason, resolved_by)
  self.is_over = true
  for _, one in ipairs(self.units) do
    one:stop(reason, resolved_by)
  end
  if self.target then
    self.sweep:stop()
    self.reachability:stop(resolved_by)
    self.target:stop()
  end
  if resolved_by then
    -- Those of models, which no finding ends.
    for _, alert in ipairs(self.host.alerts:firing({ node = self.name })) do
      self.host.alerts:resolve(alert.id, resolved_by)
    end
    if self.host.state then
      self.host.state:forget_node(self.name)
    end
  end
  self.is_running = false
end

return M
