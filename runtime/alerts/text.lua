--- Alerts in words, for people: one in a line, or whole with its evidence.

local json = require("runtime.json")
local units = require("runtime.units")

local M = {}

local MAX_VALUE = 2000
-- Clocks: nobody reads them.
local NOT_SHOWN = { mono_ms = true }

-- What came from a node must not move the cursor of a terminal.
local function clean(text)
  return (tostring(text):gsub("[%z\1-\8\11-\31\127]", " "))
end

local function one_line(text)
  return (clean(text):gsub("%s*\n%s*", " "))
end

local function status_of(alert)
  if alert.status == "firing" then
    return "firing"
  end
  return "resolved by " .. tostring(alert.resolved_by)
end

--- A line: id, when, severity, status, where, what.
---@param alert alerts.Alert
---@return string
function M.line(alert)
  return ("%s %s %-8s %-8s %s [%s] %s"):format(alert.id, units.format_time(alert.detected_at),
    alert.severity, alert.status, clean(alert.node), clean(alert.watcher), one_line(alert.title))
end

local function value_text(value)
  if type(value) == "number" then
    return value % 1 == 0 and units.format_count(value) or ("%.2f"):format(value)
  elseif value == json.null or value == nil then
    return "unknown"
  end
  local text = type(value) == "string" and value or json.encode(value)
  return #text > MAX_VALUE and text:sub(1, MAX_VALUE) .. "…" or clean(text)
end

local function indent(text, by)
  return by .. clean(text):gsub("\n", "\n" .. by)
end

local function figures(alert, add)
  for _, figure in ipairs(alert.figures) do
    local unit = figure.unit and figure.unit ~= "count" and " " .. figure.unit or ""
    local before = figure.before ~= nil and figure.before ~= json.null
      and (" (was %s)"):format(value_text(figure.before)) or ""
    add("  %s: %s%s%s", clean(figure.name), value_text(figure.value), unit, before)
  end
  local trend = alert.trend or {}
  if type(trend.per_s) == "number" then
    add("  trend: %+.1f/s%s", trend.per_s, type(trend.eta_s) == "number"
      and ", limit in about " .. units.format_duration(trend.eta_s * 1000) or "")
  end
end

local function executions(alert, add)
  for _, execution in ipairs(alert.executions) do
    local code = tostring(execution.code):gsub("^%s+", ""):gsub("%s+$", "")
    add("Execution %s:", tostring(execution.id))
    add("%s", indent(code, "  > "))
    local failed = type(execution.error) == "table" and execution.error.message or execution.error
    add("%s", indent(failed and "failed: " .. value_text(failed)
      or value_text(execution.value), "  "))
  end
end

local function snapshots(alert, add)
  for _, snapshot in ipairs(alert.snapshots) do
    local names, parts = {}, {}
    for name in pairs(type(snapshot.data) == "table" and snapshot.data or {}) do
      names[#names + 1] = not NOT_SHOWN[name] and name or nil
    end
    table.sort(names)
    for i, name in ipairs(names) do
      parts[i] = ("%s %s"):format(clean(name), value_text(snapshot.data[name]))
    end
    add("Snapshot %s of %s:", tostring(snapshot.id), units.format_time(snapshot.captured_at))
    add("  %s", table.concat(parts, ", "))
  end
end

local function times(alert, now_ms, add)
  add("  since %s, for %s, %s", units.format_time(alert.detected_at), units.format_duration(
    math.max(0, (alert.resolved_at or now_ms) - alert.detected_at)), status_of(alert))
  add("  last seen %s, fired %s times, reopened %s times", units.format_time(alert.last_seen),
    units.format_count(alert.count), units.format_count(alert.flaps))
end

--- All of it.
---@param alert alerts.Alert
---@param now_ms number Unix milliseconds.
---@return string
function M.whole(alert, now_ms)
  local lines = {}
  local function add(format, ...)
    lines[#lines + 1] = format:format(...)
  end
  add("%s %s %s: %s", alert.id, alert.severity, alert.type, one_line(alert.title))
  add("  of %s, watcher %s (%s), found by a %s%s", clean(alert.node), clean(alert.watcher),
    clean(alert.domain), alert.source,
    alert.corroborated and "" or ", which no rule supports")
  times(alert, now_ms, add)
  add("%s", indent(alert.summary, "  "))
  figures(alert, add)
  snapshots(alert, add)
  executions(alert, add)
  if alert.next[1] then
    add("Next:")
    for _, command in ipairs(alert.next) do
      add("  %s", clean(command))
    end
  end
  return table.concat(lines, "\n")
end

return M
