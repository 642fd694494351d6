--- What a model is shown of snapshots, findings and alerts: the fields that it can use, with times
--- in UTC instead of milliseconds.

local json = require("runtime.json")
local units = require("runtime.units")

local M = {}

local function pick(from, names)
  local view = {}
  for _, name in ipairs(names) do
    view[name] = from[name]
  end
  return view
end

local function utc(unix_ms)
  return type(unix_ms) == "number" and units.format_time(unix_ms) or nil
end

--- The order in which a result's keys are printed, where it matters: ids come first.
M.ORDER = { "error", "id", "type", "subject", "state", "from", "captured_at" }

local FINDING = { "id", "type", "subject", "severity", "phase", "value", "threshold", "unit",
  "per_s", "eta_s", "summary", "alert_id", "pid" }

--- A finding.
---@param finding table
---@param snapshot_id? string The snapshot that was current when it began.
---@return table
function M.finding(finding, snapshot_id)
  local view = pick(finding, FINDING)
  view.since = utc(finding.since)
  view.snapshot_id = snapshot_id
  return view
end

local ALERT = { "id", "watcher", "type", "subject", "severity", "status", "title", "summary",
  "count", "flaps", "source", "corroborated", "resolved_by" }

--- An alert, without its evidence.
---@param alert table
---@return table
function M.alert(alert)
  local view = pick(alert, ALERT)
  view.detected_at = utc(alert.detected_at)
  view.last_seen = utc(alert.last_seen)
  view.resolved_at = utc(alert.resolved_at)
  return view
end

--- A snapshot, without the node's own clock, which rates are made of.
---@param snapshot snapshots.Snapshot
---@return table
function M.snapshot(snapshot)
  local data = {}
  for key, value in pairs(snapshot.data) do
    data[key] = value
  end
  data.mono_ms = nil
  return { id = snapshot.id, captured_at = utc(snapshot.captured_at), data = json.object(data) }
end

--- A list of views.
---@param list table[]
---@param view fun(item: table): table
---@return table[]
function M.map(list, view)
  local views = {}
  for i, item in ipairs(list) do
    views[i] = view(item)
  end
  return views
end

return M
