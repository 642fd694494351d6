--- What people read of an event: a line, or a few.

local json = require("runtime.json")
local units = require("runtime.units")

local M = {}

--- A metric with the unit that its name ends in: `memory 0.2 %`.
---@param name string
---@param value any
---@return string
function M.metric(name, value)
  local base, unit = name:match("^(.*)_(pct)$")
  if not base then
    base, unit = name:match("^(.*)_(mb)$")
  end
  local title = (base or name):gsub("_utilization", ""):gsub("_", " ")
  if value == json.null or value == nil then
    return title .. " unknown"
  elseif unit == "pct" then
    return ("%s %.1f %%"):format(title, value)
  elseif unit == "mb" then
    return ("%s %s"):format(title, units.format_size(value * 1024 * 1024))
  elseif type(value) == "number" then
    return ("%s %s"):format(title, units.format_count(value))
  end
  return ("%s %s"):format(name, tostring(value))
end

local function format_eta(seconds)
  return seconds and ", limit in about " .. units.format_duration(seconds * 1000) or ""
end

--- A finding in one line: type, subject, value against threshold, rate.
local function describe_finding(finding)
  if finding.summary then
    return ("%s: %s"):format(finding.type, finding.summary)
  elseif not finding.value then
    return ("%s %s"):format(finding.type, finding.subject or "")
  end
  return ("%s %s: %s (threshold %s)%s"):format(finding.type, finding.subject or "",
    units.format_count(finding.value or 0), units.format_count(finding.threshold or 0),
    format_eta(finding.eta_s))
end

local function format_figures(alert)
  local parts = {}
  for _, figure in ipairs(alert.figures or {}) do
    if type(figure.value) == "number" then
      local before = type(figure.before) == "number" and figure.before ~= figure.value
        and (" (was %s)"):format(units.format_count(figure.before)) or ""
      parts[#parts + 1] = ("%s %s%s%s"):format(figure.name:gsub("_kb$", ""):gsub("_", " "),
        units.format_count(figure.value),
        figure.unit and figure.unit ~= "count" and " " .. figure.unit or "", before)
    end
  end
  local trend = alert.trend or {}
  if type(trend.per_s) == "number" then
    parts[#parts + 1] = ("trend %+.0f/s%s"):format(trend.per_s,
      type(trend.eta_s) == "number" and format_eta(trend.eta_s) or "")
  end
  return table.concat(parts, ", ")
end

--- For the events that people want to see: (measurements, metadata, paint) -> lines, or nil where
--- this one need not be told. `paint(what, text)` gives a text the colour of a severity or state.
---@type table<string, fun(measurements: table, metadata: table, paint: function): string?>
M.of_event = {}

local TEXT = M.of_event

TEXT["beamlens.node.up"] = function(measurements, metadata)
  return ("connected to %s, OTP %s, as %s, in %d ms"):format(metadata.node,
    metadata.otp_release or "?", metadata.own_name or "?", measurements.duration or 0)
end

TEXT["beamlens.node.down"] = function(measurements, metadata, paint)
  return paint("critical", metadata.was_up and "lost" or "down") .. (" %s: %s; next try in %s")
    :format(metadata.node, metadata.error, units.format_duration(measurements.retry_ms or 0))
end

TEXT["beamlens.node.unresponsive"] = function(measurements, metadata, paint)
  return paint("warning", "silent") .. (" %s has not answered for %s"):format(metadata.node,
    units.format_duration(measurements.silent_ms or 0))
end

TEXT["beamlens.node.restarted"] = function(_, metadata, paint)
  return paint("info", "restarted") .. " " .. metadata.node
end

TEXT["beamlens.node.joined"] = function(_, metadata)
  return ("found %s in the cluster of %s"):format(metadata.node, metadata.cluster)
end

TEXT["beamlens.node.left"] = function(_, metadata, paint)
  return paint("info", "left") .. (" %s: no member of its cluster knows it any more"):format(
    metadata.node)
end

TEXT["beamlens.node.ignored"] = function(_, metadata, paint)
  return paint("warning", "ignored") .. (" %s, of which %s told: %s"):format(metadata.node,
    metadata.via, metadata.error)
end

TEXT["beamlens.watcher.state_change"] = function(_, metadata, paint)
  return ("state   %s -> %s: %s"):format(metadata.from, paint(metadata.to, metadata.to),
    metadata.reason or "")
end

TEXT["beamlens.finding.pending"] = function(_, metadata)
  return "pending " .. describe_finding(metadata.finding)
end

TEXT["beamlens.finding.firing"] = function(_, metadata, paint)
  return paint(metadata.finding.severity, "firing") .. "  " .. describe_finding(metadata.finding)
end

TEXT["beamlens.finding.cleared"] = function(measurements, metadata, paint)
  return paint("healthy", "cleared") .. (" %s %s after %s"):format(metadata.finding.type,
    metadata.finding.subject or "", units.format_duration(measurements.duration or 0))
end

TEXT["beamlens.watcher.alert_fired"] = function(_, metadata, paint)
  local alert = metadata.alert
  return ("%s %s %s %s (%s) %s\n         %s\n         %s"):format(
    paint(alert.severity, "ALERT"), alert.id, paint(alert.severity, alert.severity), alert.type,
    alert.corroborated == false and metadata.cause .. ", the model alone" or metadata.cause,
    alert.title or "", alert.summary or "", format_figures(alert))
end

TEXT["beamlens.watcher.alert_confirmed"] = function(_, metadata, paint)
  local alert = metadata.alert
  return paint(alert.severity, "confirmed") .. (" %s %s %s"):format(alert.id, alert.type,
    alert.subject or "")
end

TEXT["beamlens.watcher.alert_resolved"] = function(measurements, metadata, paint)
  local alert = metadata.alert
  return paint("healthy", "resolved") .. (" %s %s %s after %s"):format(alert.id, alert.type,
    alert.subject or "", units.format_duration(measurements.duration or 0))
end

TEXT["beamlens.llm.prompt_cut"] = function(measurements, metadata, paint)
  return paint("warning", "model") .. (" %s cuts prompts at %s tokens without a word: %s"):format(
    metadata.client, units.format_count(measurements.prompt_tokens), metadata.cure)
end

TEXT["beamlens.watcher.llm_error"] = function(measurements, metadata, paint)
  return paint("warning", "model") .. (" %s; the rules decide, next try in %s"):format(
    metadata.error, units.format_duration(measurements.retry_ms or 0))
end

local function budget_text(what)
  return function(measurements, metadata, paint)
    local limit = metadata.budget == "usd_per_day" and ("%.2f USD a day"):format(metadata.limit)
      or units.format_count(metadata.limit) .. " tokens an hour"
    return paint("warning", "budget") .. what:format(limit, metadata.account,
      units.format_clock(measurements.until_time):sub(1, 5))
  end
end

TEXT["beamlens.watcher.budget_exhausted"] = budget_text(
  " of %s is spent (%s); the rules decide until %s UTC")
TEXT["beamlens.watcher.budget_reserved"] = budget_text(" of %s: calm watching has used its share "
  .. "(%s); the rest is for findings, and else the rules decide until %s UTC")

TEXT["beamlens.watcher.crashed"] = function(measurements, metadata, paint)
  return paint("critical", "crashed") .. (": %s; restart in %s"):format(
    tostring(metadata.error),
    units.format_duration(measurements.restart_ms or 0))
end

local function format_resource(resource, value)
  return resource == "cpu" and ("%.0f %% of a core"):format(value) or units.format_size(value)
end

TEXT["beamlens.host.over_limit"] = function(measurements, metadata, paint)
  return paint("critical", "host") .. (" uses %s for %s; the limit is %s"):format(
    format_resource(metadata.resource, measurements.value),
    units.format_duration(measurements.held_ms),
    format_resource(metadata.resource, measurements.limit))
end

TEXT["beamlens.host.recovered"] = function(measurements, metadata, paint)
  return paint("healthy", "host") .. (" uses %s again, after %s"):format(
    format_resource(metadata.resource, measurements.value),
    units.format_duration(measurements.duration))
end

TEXT["beamlens.watcher.stalled"] = function(measurements, _, paint)
  return paint("critical", "stalled") .. " without a decision for "
    .. units.format_duration(measurements.busy_ms)
end

TEXT["beamlens.watcher.paused"] = function(measurements, metadata, paint)
  local for_ms = measurements.for_ms
  return paint("warning", "paused") .. (" by the %s%s: %s"):format(metadata.by,
    for_ms and " for " .. units.format_duration(for_ms) or "", metadata.reason)
end

TEXT["beamlens.watcher.resumed"] = function(measurements, _, paint)
  return paint("healthy", "resumed") .. " after a pause of "
    .. units.format_duration(measurements.duration)
end

-- The events whose text is an error, each with what names whose error it is.
for name, whose in pairs({ ["beamlens.watcher.hook_failed"] = "hook",
  ["beamlens.rule.failed"] = "type", ["beamlens.handler.failed"] = "handler",
  ["beamlens.reload.failed"] = false, ["beamlens.store.row_failed"] = false }) do
  TEXT[name] = function(_, metadata, paint)
    local who = whose and metadata[whose]
    return paint("warning", name:match("^beamlens%.(.*)$")) .. (": %s%s"):format(
      who and who .. " " or "", tostring(metadata.error))
  end
end

-- The same failure again and again is told ever more rarely.
TEXT["beamlens.sampler.failed"] = function(measurements, metadata, paint)
  local count = measurements.in_a_row or 1
  if math.log10(count) % 1 ~= 0 then
    return nil
  end
  return ("%s: %s%s"):format(paint("warning", "sampler.failed"), tostring(metadata.error),
    count > 1 and (" (%s times in a row)"):format(units.format_count(count)) or "")
end

TEXT["beamlens.reload.applied"] = function(_, metadata)
  local parts = {}
  for _, what in ipairs({ "started", "stopped" }) do
    local names = metadata[what]
    parts[#parts + 1] = names[1] and ("; %s %s"):format(what, table.concat(names, ", ")) or nil
  end
  return ("reloaded %s (watchers changed: %d)%s"):format(table.concat(metadata.files, ", "),
    #metadata.changed, table.concat(parts))
end

return M
