--- What was kept of watchers that are defined no more: their alerts end, the rest is deleted.

local tables = require("runtime.state_store.tables")

local M = {}

-- Whether what belongs to this watcher has an owner: "kept", "awaited" as of a cluster's member
-- that may be found again, or "gone".
local function fate(app, meta)
  local node = app.nodes[meta.node]
  local unit = node and node:find(meta.watcher)
  if node and meta.domain == "node" or unit and unit.meta.domain == meta.domain then
    return "kept"
  end
  for _, policy in ipairs(not node and app:policies() or {}) do
    if policy.follows and (meta.domain == "node"
      or policy.name == meta.watcher and policy.domain == meta.domain) then
      return "awaited"
    end
  end
  return "gone"
end

--- Ends what has no owner.
---@param state state_store.State
---@param app app.App
---@param awaits boolean Members of clusters that are not found yet are waited for.
---@return boolean is_awaited Some are.
function M.finish(state, app, awaits)
  local is_awaited = false
  local function ends(meta)
    local what = fate(app, meta)
    is_awaited = is_awaited or what == "awaited"
    return (what == "gone" or what == "awaited" and not awaits) and what
  end
  for _, alert in ipairs(state.alerts:firing()) do
    local how = ends(alert)
    if how then
      state.alerts:resolve(alert.id, how == "gone" and "policy" or "left")
    end
  end
  for _, key in ipairs(state:watcher_keys()) do
    local name, node, domain = unpack(tables.parts(key))
    if not state.units[key] and ends({ watcher = name, node = node, domain = domain }) then
      state:drop(key)
    end
  end
  for name in pairs(state.creations) do
    if ends({ node = name, domain = "node" }) then
      state:forget_node(name)
    end
  end
  return is_awaited
end

return M
