--- Putting other policies in force while the host runs. A watcher is known by its name and node:
--- one that stays keeps its state, alerts, snapshots and conversation; one that is gone ends, and
--- its alerts are resolved by "policy"; a new one starts.

local policy_nodes = require("runtime.policy.nodes")

local M = {}

---@class changes.Item
---@field policy table
---@field parts parts.Parts

---@class changes.Report Names of watchers, each with its node: "beam shop@db1".
---@field changed string[]
---@field started string[]
---@field stopped string[]

local function name_of(policy)
  return ("%s %s"):format(policy.name, policy.node)
end

local function index(plan)
  local wanted = {}
  for _, item in ipairs(plan) do
    wanted[name_of(item.policy)] = item
  end
  return wanted
end

-- What the files have for a unit: its own policy, or for a member of a cluster that of the first
-- node. Nil when the unit is not to go on.
local function item_for(unit, wanted)
  local item = wanted[name_of(unit.policy)]
  local seed = unit.policy.seed
  if not item and seed then
    local followed = wanted[name_of({ name = unit.policy.name, node = seed })]
    item = followed and followed.policy.follows and { parts = followed.parts,
      policy = followed.policy.origin == unit.policy.origin and unit.policy
        or policy_nodes.for_member(followed.policy, unit.policy.node) }
  end
  local is_other = item and (item.policy.domain ~= unit.policy.domain
    or item.policy.has_no_node ~= unit.policy.has_no_node)
  return not is_other and item or nil
end

-- Ends what the files have no more, and changes what they have otherwise.
local function go_through(app, wanted, report)
  local units = app.units -- `unwatch` makes another list
  for _, unit in ipairs(units) do
    local item = item_for(unit, wanted)
    if not item then
      table.insert(report.stopped, name_of(unit.policy))
      app:unwatch(unit)
    elseif item.policy ~= unit.policy or item.parts ~= unit.parts then
      table.insert(report.changed, name_of(unit.policy))
      unit:reload(item.policy, item.parts)
    end
  end
end

-- Starts a watcher where there is none of its name.
local function begin(app, policy, parts, is_listed, report)
  local node = app.nodes[policy.node]
  if node and node:find(policy.name) then
    return
  end
  table.insert(report.started, name_of(policy))
  node = app:watch(policy, parts, is_listed)
  if not node.is_running then
    app:start_node(node)
  end
end

local function follow(app, item, report)
  local seed = item.policy.node
  app.cluster:follow(seed)
  for _, name in ipairs(app.cluster:members_of(seed)) do
    if name ~= seed then
      begin(app, policy_nodes.for_member(item.policy, name), item.parts, false, report)
    end
  end
end

local function listed_nodes(plan)
  local listed, followed = {}, {}
  for _, item in ipairs(plan) do
    listed[item.policy.node] = true
    followed[item.policy.node] = followed[item.policy.node] or item.policy.follows
  end
  return listed, followed
end

--- Puts a plan in force.
---@param app app.App
---@param plan changes.Item[] All watchers of the files, in order; (name, node) unique.
---@return changes.Report
function M.apply(app, plan)
  local report = { changed = {}, started = {}, stopped = {} }
  local listed, followed = listed_nodes(plan)
  app.opts.policies = {}
  for i, item in ipairs(plan) do
    app.opts.policies[i] = item.policy
    app.parts:put(item.policy, item.parts)
  end
  app.cluster:keep(listed, followed)
  go_through(app, index(plan), report)
  for _, item in ipairs(plan) do
    begin(app, item.policy, item.parts, true, report)
  end
  for _, item in ipairs(plan) do
    if item.policy.follows then
      follow(app, item, report)
    end
  end
  app.cluster:start()
  for _, node in ipairs(app.order) do
    node:settle()
  end
  local in_use = {}
  for _, unit in ipairs(app.units) do
    in_use[unit.domain] = true
  end
  app.parts:retire(in_use)
  return report
end

return M
