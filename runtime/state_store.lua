--- Keeps what the watchers of a host know in the store, so that a restarted host goes on where it
--- was: states with their reasons, notes and pauses, alerts, snapshots, and which incarnation of
--- each node was seen last.
---
--- A part of runtime/store/keeper.lua. A watcher is known by its name, node and domain; what was
--- kept of it waits until it starts. That of a watcher that is defined no more ends: its alerts are
--- resolved by `policy`, or by `left` where it was of a cluster's member that does not come back.

local alerts_kept = require("runtime.alerts.kept")
local async = require("runtime.async")
local json = require("runtime.json")
local ownerless = require("runtime.state_store.ownerless")
local rows = require("runtime.store.rows")
local tables = require("runtime.state_store.tables")
local watcher_kept = require("runtime.watcher.kept")

local M = {}

-- How soon a change is written: that an alert is still seen changes with each sample.
local STATE_MS, SEEN_MS = 1000, 30000
local AWAITED_MS = 10 * 60 * 1000

---@class state_store.State: store_keeper.Part
local State = {}
local state_mt = { __index = State }

local function key_of(meta)
  return tables.key(meta.watcher, meta.node, meta.domain)
end

--- Nothing is known of before.
---@param opts { alerts: alerts.Alerts, telemetry: telemetry.Bus, clock: clock.Clock,
--- awaited_ms?: number } `awaited_ms`: how long a member of a cluster may take to be found again
--- (default 10 min).
---@return state_store.State
function M.new(opts)
  local self = setmetatable({ alerts = opts.alerts, telemetry = opts.telemetry,
    clock = opts.clock, awaited_ms = opts.awaited_ms or AWAITED_MS,
    units = {}, -- the watchers that run, by key
    waiting = {}, -- what was kept of those that do not run yet, by key
    creations = {}, -- the incarnation of each node
    of_node = {}, -- the nodes, by name
  }, state_mt)
  self:make_rows()
  self.alerts.on_change = function(id, is_seen_only)
    self:note(self.changed.alerts, id, is_seen_only and SEEN_MS or 0)
  end
  assert(self.telemetry:attach("beamlens-state", "beamlens.node.up", function(_, _, metadata)
    if self.creations[metadata.node] ~= metadata.creation then
      self.creations[metadata.node] = metadata.creation
      self:note(self.changed.nodes, metadata.node, STATE_MS)
    end
  end))
  return self
end

local function with(sql, functions)
  for name, text in pairs(sql) do
    functions[name] = text
  end
  return rows.new(functions)
end

function State:make_rows()
  self.changed = {
    watchers = with(tables.SQL.watchers, { key = tables.parts, row = function(key)
      return self:watcher_row(key)
    end, keys = function()
      return self:watcher_keys()
    end }),
    snapshots = with(tables.SQL.snapshots, { key = tables.parts, row = function(key)
      return self:snapshot_row(key)
    end, keys = function()
      return self:snapshot_keys()
    end }),
    alerts = with(tables.SQL.alerts, { key = tables.parts, row = function(id)
      local kept = alerts_kept.export(self.alerts, id)
      return kept and tables.alert_row(kept)
    end, keys = function()
      return alerts_kept.ids(self.alerts)
    end }),
    nodes = with(tables.SQL.nodes, { key = tables.parts, row = function(name)
      return self.creations[name] and { name, self.creations[name] }
    end, keys = function()
      local names = {}
      for name in pairs(self.creations) do
        names[#names + 1] = name
      end
      return names
    end }),
    spoiled = with(tables.SQL.set_aside, { row = function(spoiled)
      return spoiled
    end, keys = function()
      return {}
    end }),
  }
  self.rows = { self.changed.watchers, self.changed.snapshots, self.changed.alerts,
    self.changed.nodes, self.changed.spoiled }
end

function State:note(changed, key, within_ms)
  if self.keeper then
    self.keeper:note(changed, key, within_ms)
  end
end

function State:watcher_row(key)
  local unit, kept = self.units[key], self.waiting[key]
  local body = unit and json.encode(watcher_kept.export(unit.watcher)) or kept and kept.body
  if not body then
    return nil
  end
  local row = tables.parts(key)
  row[4] = body
  return row
end

function State:watcher_keys()
  local keys = {}
  for _, of in ipairs({ self.units, self.waiting }) do
    for key in pairs(of) do
      keys[#keys + 1] = key
    end
  end
  return keys
end

-- The snapshots of a watcher, running or awaited, oldest first.
local function snapshots_of(self, key)
  local unit, kept = self.units[key], self.waiting[key]
  return unit and unit.watcher.snapshots.list or kept and kept.snapshots or {}
end

function State:snapshot_row(key)
  local parts = tables.parts(key)
  local owner = tables.key(unpack(parts, 1, 3))
  local unit, found = self.units[owner], nil
  if unit then
    found = unit.watcher.snapshots:get(parts[4])
  else
    for _, snapshot in ipairs(snapshots_of(self, owner)) do
      found = snapshot.id == parts[4] and snapshot or found
    end
  end
  if found then
    parts[5], parts[6] = found.captured_at, json.encode(found.data)
    return parts
  end
end

function State:snapshot_keys()
  local keys = {}
  for _, owner in ipairs(self:watcher_keys()) do
    for _, snapshot in ipairs(snapshots_of(self, owner)) do
      keys[#keys + 1] = tables.key(owner, snapshot.id)
    end
  end
  return keys
end

--- Reads what was kept; see runtime/store/keeper.lua.
---@async
function State:read(query)
  return tables.read(query)
end

-- Rows that cannot be read move to a table of their own.
local function set_aside(self, spoiled)
  for _, row in ipairs(spoiled) do
    self:note(self.changed.spoiled, { self.clock.wall_ms(), row.kind, (row.key:gsub("%z", " ")),
      row.error, row.content })
    self:note(self.changed[row.kind], row.key)
    self.keeper:emit("row_failed", {}, { table = row.kind, key = row.key:gsub("%z", " "),
      error = row.error })
  end
end

--- Takes over what was kept. Watchers that run already keep their state, and get their alerts.
---@param found table Of `read`.
---@param is_late boolean
function State:restore(found, is_late)
  alerts_kept.restore(self.alerts, found.alerts)
  for _, kept in ipairs(found.watchers) do
    if not self.units[kept.key] then
      self.waiting[kept.key] = { state = kept.state, body = kept.body, snapshots = {} }
    end
  end
  for _, kept in ipairs(found.snapshots) do
    local owner = self.waiting[kept.owner]
    if owner then
      table.insert(owner.snapshots, kept.snapshot)
    else
      self:note(self.changed.snapshots, tables.key(kept.owner, kept.snapshot.id))
    end
  end
  for _, node in ipairs(found.nodes) do
    self.creations[node.name] = self.creations[node.name] or node.creation
  end
  set_aside(self, found.spoiled)
  if is_late then
    for _, unit in pairs(self.units) do
      self:give_alerts(unit.meta, unit)
    end
    for _, node in pairs(self.of_node) do
      self:give_node_alerts(node)
    end
    if self.app then
      self:settle(self.app)
    end
  end
end

-- Hands the firing alerts of a watcher to its rules; those that no rule has any more end.
function State:give_alerts(meta, unit)
  for _, shown in ipairs(self.alerts:firing({ watcher = meta.watcher, node = meta.node })) do
    if shown.domain == meta.domain
      and not unit.detector:adopt(self.alerts:get(shown.id)) then
      self.alerts:resolve(shown.id, "policy")
    end
  end
end

function State:give_node_alerts(node)
  for _, shown in ipairs(self.alerts:firing({ watcher = "node", node = node.name })) do
    if not node.reachability:adopt(self.alerts:get(shown.id)) then
      self.alerts:resolve(shown.id, "policy")
    end
  end
end

--- Lets a watcher that is about to start go on where it was, and keeps it from now on.
---@param unit unit.Unit
function State:adopt(unit)
  local meta, watcher = unit.meta, unit.watcher
  local key = key_of(meta)
  local kept = self.waiting[key]
  self.waiting[key], self.units[key] = nil, unit
  self.alerts:set_limit(meta.watcher, meta.node, unit.policy.history.alerts)
  if kept then
    watcher_kept.restore(watcher, kept.state)
    watcher.snapshots:restore(kept.snapshots)
  end
  self:give_alerts(meta, unit)
  function watcher.on_change(is_urgent)
    self:note(self.changed.watchers, key, is_urgent and 0 or STATE_MS)
  end
  function watcher.snapshots.on_change(id)
    self:note(self.changed.snapshots, tables.key(key, id), STATE_MS)
  end
  watcher:changed()
  watcher:settle("rule")
end

--- The same for what is known of a node: which incarnation it was, and whether it was there.
---@param node node_unit.NodeUnit
function State:adopt_node(node)
  if not node.target then
    return
  end
  self.of_node[node.name] = node
  if self.creations[node.name] then
    node.target:remember(self.creations[node.name])
  end
  self:give_node_alerts(node)
end

--- Deletes what was kept of a watcher.
---@param key string
function State:drop(key)
  local snapshots = snapshots_of(self, key)
  self.units[key], self.waiting[key] = nil, nil
  self:note(self.changed.watchers, key, STATE_MS)
  for _, snapshot in ipairs(snapshots) do
    self:note(self.changed.snapshots, tables.key(key, snapshot.id), STATE_MS)
  end
end

--- Forgets a watcher that is gone for good.
---@param unit unit.Unit
function State:forget(unit)
  unit.watcher.on_change = nil
  unit.watcher.snapshots.on_change = nil
  self:drop(key_of(unit.meta))
end

--- Forgets a node that is watched no more.
---@param name string
function State:forget_node(name)
  self.of_node[name], self.creations[name] = nil, nil
  self:note(self.changed.nodes, name, STATE_MS)
end

--- Ends what belongs to watchers that are defined no more. To be called when all that the files
--- define is there.
---@param app app.App
function State:settle(app)
  self.app = app
  if ownerless.finish(self, app, true) and not self.await then
    self.await = async.spawn(function()
      async.sleep(self.awaited_ms)
      ownerless.finish(self, app, false)
    end, { name = "awaited members", detached = true })
  end
end

--- Ends. What is kept stays.
function State:close()
  if self.await then
    self.await:cancel()
  end
  self.telemetry:detach("beamlens-state")
end

return M
