--- Alerts as they are kept over a restart: with when they began and were last told, by the clock on
--- the wall, since the monotonic one begins anew.

local M = {}

local TEXTS = { "id", "watcher", "domain", "node", "type", "subject", "severity", "title",
  "summary", "source", "status", "fingerprint" }
local NUMBERS = { "detected_at", "last_seen", "count", "flaps" }
local LISTS = { "figures", "snapshots", "executions", "findings", "next" }
local RANK = { info = true, warning = true, critical = true }

---@class alerts_kept.Kept
---@field alert alerts.Alert
---@field told_at number Unix milliseconds.
---@field begun_at number Unix milliseconds.
---@field told_by string

--- An alert with what else is to be kept of it; nil when it is no more.
---@param alerts alerts.Alerts
---@param id string
---@return alerts_kept.Kept?
function M.export(alerts, id)
  local entry = alerts.by_id[id]
  if not entry then
    return nil
  end
  local ahead_ms = alerts.clock.wall_ms() - alerts.clock.now_ms()
  return { alert = entry.alert, told_at = math.floor(entry.told_at_ms + ahead_ms),
    begun_at = math.floor(entry.begun_at_ms + ahead_ms), told_by = entry.told_by }
end

--- The ids of all alerts.
---@param alerts alerts.Alerts
---@return string[]
function M.ids(alerts)
  local list = {}
  for i, entry in ipairs(alerts.entries) do
    list[i] = entry.alert.id
  end
  return list
end

--- What is wrong with an alert that was read; nil when nothing is.
---@param alert any
---@return string?
function M.mistake(alert)
  if type(alert) ~= "table" then
    return "it is no object"
  end
  for kind, names in pairs({ string = TEXTS, number = NUMBERS, table = LISTS }) do
    for _, name in ipairs(names) do
      if type(alert[name]) ~= kind then
        return ("its %s is no %s"):format(name, kind)
      end
    end
  end
  if not RANK[alert.severity] or alert.status ~= "firing" and type(alert.resolved_at) ~= "number"
  then
    return "its severity or status is none"
  end
end

-- A time of the wall as one of the monotonic clock; what lies ahead is now.
local function mono(clock, unix_ms)
  return clock.now_ms() - math.max(0, clock.wall_ms() - unix_ms)
end

local function entry_of(alerts, kept)
  local alert = kept.alert
  return { alert = alert, told_at_ms = mono(alerts.clock, kept.told_at),
    begun_at_ms = mono(alerts.clock, kept.begun_at), told_by = kept.told_by,
    resolved_at_ms = alert.status ~= "firing" and mono(alerts.clock, alert.resolved_at) or nil }
end

--- Takes over alerts of before a restart. Where the same one fires again already, under another id,
--- the older one is resolved by `restart`.
---@param alerts alerts.Alerts
---@param list alerts_kept.Kept[] The ones that began first come first.
function M.restore(alerts, list)
  local entries, twice = {}, {}
  for _, kept in ipairs(list) do
    local alert = kept.alert
    if not alerts.by_id[alert.id] then
      local entry = entry_of(alerts, kept)
      entries[#entries + 1] = entry
      alerts.by_id[alert.id] = entry
      twice[#twice + 1] = alert.status == "firing" and alerts.latest[alert.fingerprint] and alert
        or nil
    end
  end
  local newer = alerts.latest
  alerts.latest = {}
  for _, entry in ipairs(entries) do
    alerts.latest[entry.alert.fingerprint] = entry
  end
  for fingerprint, entry in pairs(newer) do
    alerts.latest[fingerprint] = entry
  end
  for _, entry in ipairs(alerts.entries) do
    entries[#entries + 1] = entry
  end
  alerts.entries = entries
  for _, alert in ipairs(twice) do
    alerts:resolve(alert.id, "restart")
  end
  for _, kept in ipairs(list) do
    alerts:evict(kept.alert)
  end
end

return M
