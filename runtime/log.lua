--- The event stream of `run`: every telemetry event as a line of JSON, or short lines for people.

local json = require("runtime.json")
local releases = require("runtime.releases")
local telemetry = require("runtime.telemetry")
local units = require("runtime.units")

local M = {}

local CALM_LINE_EVERY_MS = 3600000
-- Above so many nodes one calm line stands for all of them.
local NODES_WITH_FIGURES = 5

local COLOURS = {
  critical = "\27[1;31m", warning = "\27[33m", observing = "\27[36m", info = "\27[36m",
  healthy = "\27[32m", dim = "\27[2m", off = "\27[0m",
}

--- One event as one line of JSON.
---@return string
function M.json_line(time_ms, event, measurements, metadata)
  return json.encode({
    time = units.format_time(time_ms),
    event = event,
    measurements = json.object(measurements),
    metadata = json.object(metadata),
  })
end

-- A metric's value with the unit that its name ends in.
local function format_metric(name, value)
  if value == json.null or value == nil then
    return name .. " unknown"
  end
  local base, unit = name:match("^(.*)_(pct)$")
  if not base then
    base, unit = name:match("^(.*)_(mb)$")
  end
  if unit == "pct" then
    return ("%s %.1f %%"):format(base:gsub("_utilization", ""):gsub("_", " "), value)
  elseif unit == "mb" then
    return ("%s %s"):format(base:gsub("_", " "), units.format_size(value * 1024 * 1024))
  elseif type(value) == "number" then
    return ("%s %s"):format(name:gsub("_", " "), units.format_count(value))
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

-- Text for the events that people want to see: (measurements, metadata, paint) -> lines.
local TEXT = {}

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
    tostring(metadata.error):match("^[^\n]*"),
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

for _, name in ipairs({ "beamlens.watcher.hook_failed", "beamlens.rule.failed",
  "beamlens.handler.failed", "beamlens.reload.failed", "beamlens.store.row_failed" }) do
  TEXT[name] = function(_, metadata, paint)
    return paint("warning", name:match("^beamlens%.(.*)$")) .. (": %s"):format(
      tostring(metadata.error):match("^[^\n]*"))
  end
end

-- The same failure again and again is told ever more rarely.
TEXT["beamlens.sampler.failed"] = function(measurements, metadata, paint)
  local count = measurements.in_a_row or 1
  if math.log10(count) % 1 ~= 0 then
    return nil
  end
  return ("%s: %s%s"):format(paint("warning", "sampler.failed"),
    tostring(metadata.error):match("^[^\n]*"),
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

-- A copy for a terminal: whoever named a process wrote these texts, so control characters go.
local function clean(value, depth)
  if type(value) == "string" then
    return (value:gsub("%c", " "))
  elseif type(value) ~= "table" or depth == 0 then
    return value
  end
  local copy = {}
  for key, item in pairs(value) do
    copy[key] = clean(item, depth - 1)
  end
  return copy
end

---@class log.Log
local Log = {}
local log_mt = { __index = Log }

--- Creates a log that prints the bus's events.
---@param opts { output: output.Output, format: "text"|"json", telemetry: telemetry.Bus,
---  clock: clock.Clock, key_metrics: fun(domain: string): string[],
---  extent: fun(): { nodes: integer, up: integer, watchers: integer } }
--- `key_metrics` names the figures that a line about a domain shows; `extent` says how much is
--- watched: with several nodes each line names its own.
---@return log.Log
function M.new(opts)
  local self = setmetatable({
    output = opts.output,
    format = opts.format,
    clock = opts.clock,
    key_metrics = opts.key_metrics,
    extent = opts.extent,
    calm_at = {}, -- "watcher node" -> when its last line was printed
    shown = {}, -- "watcher node" -> true after its first figures
    untested = {}, -- node -> the release of which it was said that it is not tested
  }, log_mt)
  assert(opts.telemetry:attach_many("beamlens-log", telemetry.event_names(), function(...)
    self:on_event(...)
  end))
  return self
end

local function painter(self)
  if not self.output.is_terminal then
    return function(_, text)
      return text
    end
  end
  return function(colour, text)
    return (COLOURS[colour] or "") .. text .. COLOURS.off
  end
end

local function watcher_key(metadata)
  return ("%s %s"):format(metadata.watcher, metadata.node)
end

-- One calm line an hour for all of many nodes.
local function extent_line(self, extent)
  local now = self.clock.now_ms()
  if self.told_extent_at and now - self.told_extent_at < CALM_LINE_EVERY_MS then
    return nil
  end
  self.told_extent_at = now
  return ("watching %d nodes, of which %d are up, with %d watchers"):format(extent.nodes,
    extent.up, extent.watchers)
end

-- The first figures of a watcher, and one calm line an hour.
local function figures_line(self, metadata)
  local key, now = watcher_key(metadata), self.clock.now_ms()
  if self.shown[key] and now - (self.calm_at[key] or now) < CALM_LINE_EVERY_MS then
    return nil
  end
  self.shown[key], self.calm_at[key] = true, now
  local parts = {}
  for _, metric in ipairs(self.key_metrics(metadata.domain)) do
    parts[#parts + 1] = format_metric(metric, metadata.data[metric])
  end
  return "figures " .. table.concat(parts, ", ")
end

-- What a release that is not tested may mean is worth one line, not one at each reconnect.
local function warn_untested(self, metadata)
  local node, release = metadata.node, metadata.otp_release
  if metadata.tested == false and self.untested[node] ~= release then
    self.untested[node] = release
    self:write(nil, painter(self)("warning", "note") .. " "
      .. releases.untested_line(node, release))
  end
end

function Log:on_event(event, measurements, metadata)
  local now = self.clock.wall_ms()
  if self.format == "json" then
    self.output:write_line(M.json_line(now, event, measurements, metadata))
    return
  end
  local extent = self.extent()
  local is_many = extent.nodes > NODES_WITH_FIGURES
  if event == "beamlens.sampler.sample" then
    local line = is_many and extent_line(self, extent) or not is_many
      and figures_line(self, metadata)
    self:write_about(not is_many and metadata, line, extent)
  elseif TEXT[event] then
    local line = TEXT[event](measurements, clean(metadata, 4), painter(self))
    if metadata.watcher and not is_many then
      self.calm_at[watcher_key(metadata)] = self.clock.now_ms()
    end
    self:write_about(metadata, line, extent)
  end
  if event == "beamlens.node.left" then
    self:forget_node(metadata.node)
  elseif event == "beamlens.node.up" then
    warn_untested(self, clean(metadata, 1))
  end
end

-- Writes a line about a watcher. Among several nodes it names its own.
function Log:write_about(metadata, line, extent)
  local who = metadata and metadata.watcher
  if who and extent.nodes > 1 then
    who = ("%s %s"):format(who, metadata.node)
  end
  if line then
    self:write(who, line)
  end
end

function Log:forget_node(node)
  for _, times in ipairs({ self.calm_at, self.shown }) do
    for key in pairs(times) do
      if key:sub(-#node - 1) == " " .. node then
        times[key] = nil
      end
    end
  end
end

--- Prints a line that is not an event, in the text format only.
---@param watcher? string
---@param text string
function Log:write(watcher, text)
  if self.format == "text" then
    local prefix = watcher and ("[%s] "):format(watcher) or ""
    local clock = units.format_clock(self.clock.wall_ms())
    self.output:write_line(("%s %s%s"):format(clock, prefix, text))
  end
end

return M
