--- The alerts of this process: firing them, seeing them again, resolving them.
---
--- An alert is known by its fingerprint (node, domain, type, subject). While it fires, whoever
--- fires it again raises its `count`; when it comes back within 30 min of its end, it is the same
--- alert, reopened. `alert_fired` tells of what is worth waking somebody for (`cause`: new, raised,
--- renotified, reopened), `alert_updated` of the rest, `alert_resolved` of the end. Events and what
--- `fire`, `resolve`, `get` and `find` return, are copies: later changes do not show in them.
---
---   local alert, cause = alerts:fire({ watcher = "beam", domain = "beam", node = "shop@db1",
---     type = "mailbox_growth", subject = "orders", severity = "warning", source = "rule", … })
---   alerts:resolve(alert.id, "rule")

local ids = require("runtime.ids")
local record = require("runtime.alerts.record")

local M = {}

local REOPEN_MS = 30 * 60 * 1000
local DEFAULT_LIMIT = 100
local DEFAULT_RENOTIFY_MS = 60 * 60 * 1000

local RANK = record.SEVERITY_RANK
local RESOLVED_BY = {
  rule = true, model = true, restart = true, left = true, policy = true, expired = true,
}

---@class alerts.Alert
---@field id string 16 hexadecimal digits.
---@field watcher string
---@field domain string
---@field node string
---@field type string
---@field subject string The culprit; the node's name when the whole node is.
---@field severity "info"|"warning"|"critical" The highest since it fired.
---@field title string At most 80 characters.
---@field summary string At most 2000 characters.
---@field figures { name: string, value: any, unit?: string, before?: any }[]
---@field trend? { per_s?: number, eta_s?: number }
---@field snapshots { id: string, captured_at: number, data: table }[] At most 10.
---@field executions table[] At most 20.
---@field findings table[] At most 20.
---@field next string[] At most three commands to paste.
---@field source "rule"|"model" Who fired it first.
---@field corroborated boolean Whether a rule's finding supports it.
---@field status "firing"|"resolved"
---@field detected_at number Unix ms.
---@field last_seen number Unix ms.
---@field resolved_at? number Unix ms.
---@field resolved_by? "rule"|"model"|"restart"|"left"|"policy"|"expired"
---@field count integer How often it was fired.
---@field flaps integer How often it was reopened.
---@field trace_id? string 32 hexadecimal digits, of the cycle or finding that fired it.
---@field fingerprint string 16 hexadecimal digits.

---@class alerts.Alerts
local Alerts = {}
local alerts_mt = { __index = Alerts }

--- No alerts yet.
---@param opts { telemetry: telemetry.Bus, clock: clock.Clock, limit?: integer,
--- renotify_ms?: number } `limit`: how many are kept of each watcher and node (default 100, see
--- `set_limit`); the one that ended first goes first, a firing one never. `renotify_ms`: how long a
--- firing alert stays quiet (default 1 h).
---@return alerts.Alerts
function M.new(opts)
  return setmetatable({
    telemetry = opts.telemetry,
    clock = opts.clock,
    limit = opts.limit or DEFAULT_LIMIT,
    renotify_ms = opts.renotify_ms or DEFAULT_RENOTIFY_MS,
    entries = {}, -- oldest first; each { alert, told_at_ms, begun_at_ms, resolved_at_ms, … }
    by_id = {},
    latest = {}, -- fingerprint -> its newest entry
    limits = {}, -- "watcher\0node" -> limit
    on_change = function() end, -- (id, is_seen_only): see runtime/state_store.lua
    listeners = {}, -- "watcher\0node" -> what is called when an alert of theirs is told
  }, alerts_mt)
end

local function owner_of(alert)
  return alert.watcher .. "\0" .. alert.node
end

--- Changes how many alerts of a watcher on a node are kept.
---@param watcher string
---@param node string
---@param limit integer
function Alerts:set_limit(watcher, node, limit)
  self.limits[owner_of({ watcher = watcher, node = node })] = limit
end

--- Calls `fn` whenever an alert of a watcher on a node is told (`alert_fired`), after the event. It
--- must not wait.
---@param watcher string
---@param node string
---@param fn fun(alert: alerts.Alert, cause: string)|nil nil: no longer.
function Alerts:on_fired(watcher, node, fn)
  self.listeners[owner_of({ watcher = watcher, node = node })] = fn
end

function Alerts:emit(event, entry, measurements, metadata)
  local alert = entry.alert
  measurements.system_time = self.clock.wall_ms()
  metadata.watcher, metadata.domain, metadata.node = alert.watcher, alert.domain, alert.node
  metadata.trace_id = metadata.trace_id or alert.trace_id
  metadata.alert = record.copy(alert)
  self.telemetry:execute("beamlens.watcher." .. event, measurements, metadata)
  self.on_change(alert.id, false)
end

-- Tells of an entry that somebody should look at now.
function Alerts:tell(entry, cause, trace_id)
  entry.told_at_ms = self.clock.now_ms()
  self:emit("alert_fired", entry, {}, { cause = cause, trace_id = trace_id })
  local listener = self.listeners[owner_of(entry.alert)]
  if listener then
    listener(record.copy(entry.alert), cause)
  end
  return record.copy(entry.alert), cause
end

-- The place of the alert of this owner that ended first, and how many it has.
local function oldest_of(self, owner)
  local oldest, count
  count = 0
  for i, entry in ipairs(self.entries) do
    if owner_of(entry.alert) == owner then
      count = count + 1
      if entry.resolved_at_ms
        and (not oldest or entry.resolved_at_ms < self.entries[oldest].resolved_at_ms) then
        oldest = i
      end
    end
  end
  return oldest, count
end

-- Makes room beside this alert: the one that ended first goes first.
function Alerts:evict(alert)
  local owner = owner_of(alert)
  local limit = self.limits[owner] or self.limit
  local oldest, count = oldest_of(self, owner)
  while oldest and count > limit do
    local gone = table.remove(self.entries, oldest)
    self.by_id[gone.alert.id] = nil
    if self.latest[gone.alert.fingerprint] == gone then
      self.latest[gone.alert.fingerprint] = nil
    end
    self.on_change(gone.alert.id, false)
    oldest, count = oldest_of(self, owner)
  end
end

function Alerts:add(fields)
  local now = self.clock.wall_ms()
  fields.id = ids.hex(16)
  fields.severity = record.clamp_severity(fields.severity, fields.corroborated)
  fields.status = "firing"
  fields.detected_at, fields.last_seen = now, now
  fields.count, fields.flaps = 1, 0
  local entry = { alert = fields, begun_at_ms = self.clock.now_ms(), told_by = fields.source }
  self.entries[#self.entries + 1] = entry
  self.by_id[fields.id] = entry
  self.latest[fields.fingerprint] = entry
  self:evict(fields)
  return self:tell(entry, "new", fields.trace_id)
end

-- Brings what was seen now into an alert that is known.
function Alerts:merge(entry, fields)
  local alert = entry.alert
  alert.count = alert.count + 1
  alert.last_seen = self.clock.wall_ms()
  alert.corroborated = alert.corroborated or fields.corroborated
  alert.title = fields.title
  if fields.summary ~= "" then
    alert.summary, entry.told_by = fields.summary, fields.source
  end
  alert.trend = fields.trend or alert.trend
  for _, name in ipairs({ "snapshots", "executions", "findings" }) do
    alert[name] = record.merge_list(name, alert[name], fields[name])
  end
  for _, name in ipairs({ "figures", "next" }) do
    if fields[name][1] then
      alert[name] = fields[name]
    end
  end
end

function Alerts:is_renotify_due(entry, renotify_ms)
  return self.clock.now_ms() - entry.told_at_ms >= (renotify_ms or self.renotify_ms)
end

function Alerts:see_again(entry, fields, renotify_ms)
  self:merge(entry, fields)
  local alert = entry.alert
  local severity = record.clamp_severity(fields.severity, alert.corroborated)
  if RANK[severity] > RANK[alert.severity] then
    alert.severity = severity
    return self:tell(entry, "raised", fields.trace_id)
  end
  if self:is_renotify_due(entry, renotify_ms) then
    return self:tell(entry, "renotified", fields.trace_id)
  end
  self:emit("alert_updated", entry, {}, { trace_id = fields.trace_id })
  return record.copy(alert), "updated"
end

function Alerts:reopen(entry, fields)
  local alert = entry.alert
  alert.corroborated = fields.corroborated -- what supported it last time has ended
  self:merge(entry, fields)
  alert.severity = record.clamp_severity(fields.severity, alert.corroborated)
  alert.status, alert.watcher = "firing", fields.watcher
  alert.resolved_at, alert.resolved_by = nil, nil
  alert.flaps = alert.flaps + 1
  alert.trace_id = fields.trace_id
  entry.resolved_at_ms = nil
  entry.begun_at_ms = self.clock.now_ms()
  for i, other in ipairs(self.entries) do
    if other == entry then
      table.remove(self.entries, i)
      break
    end
  end
  self.entries[#self.entries + 1] = entry
  return self:tell(entry, "reopened", fields.trace_id)
end

--- Fires an alert, or sees it again.
---@param opts table Fields of the alert: `watcher`, `domain`, `node`, `type`, `severity` and
--- `source` are needed. `corroborated` is true for a rule's; without it the severity is at most
--- `warning`. `renotify_ms` replaces the default for this alert.
---@return alerts.Alert
---@return "new"|"raised"|"renotified"|"reopened"|"updated" cause
function Alerts:fire(opts)
  local fields = record.fields(opts)
  local entry = self.latest[fields.fingerprint]
  if not entry then
    return self:add(fields)
  end
  if entry.alert.status == "firing" then
    return self:see_again(entry, fields, opts.renotify_ms)
  end
  if self.clock.now_ms() - entry.resolved_at_ms < REOPEN_MS then
    return self:reopen(entry, fields)
  end
  return self:add(fields)
end

--- Says that a firing alert still holds, with its newest figures. No event, unless it is time to
--- notify again. A summary that the model wrote stays.
---@param id string
---@param seen { title?: string, summary?: string, figures?: table[], trend?: table,
--- renotify_ms?: number, quiet?: boolean } `quiet`: do not notify now (muted).
---@return true? ok
---@return string? cause `"renotified"`, or the error.
---@return string? code `"ENOENT"`, or `"ERESOLVED"`: it has ended.
function Alerts:refresh(id, seen)
  local entry = self.by_id[id]
  if not entry then
    return nil, ("ENOENT: no alert %s"):format(tostring(id)), "ENOENT"
  end
  local alert = entry.alert
  if alert.status ~= "firing" then
    return nil, ("ERESOLVED: alert %s has ended"):format(id), "ERESOLVED"
  end
  alert.last_seen = self.clock.wall_ms()
  if seen.summary and entry.told_by == "rule" then
    alert.summary = record.summary(seen.summary)
  end
  alert.figures = seen.figures and record.bounded_list("figures", seen.figures) or alert.figures
  alert.trend = seen.trend and record.copy(seen.trend) or alert.trend
  if not seen.quiet and self:is_renotify_due(entry, seen.renotify_ms) then
    self:tell(entry, "renotified")
    return true, "renotified"
  end
  self.on_change(id, true)
  return true
end

--- Says that a firing alert is another watcher's now: the one whose it was has ended, or finds it
--- no more, but the other one does.
---@param id string
---@param from string
---@param to string
function Alerts:pass_on(id, from, to)
  local entry = self.by_id[id]
  if entry and entry.alert.watcher == from and entry.alert.status == "firing" then
    entry.alert.watcher = to
    self.on_change(id, false)
  end
end

--- Ends an alert.
---@param id string
---@param by "rule"|"model"|"restart"|"left"|"policy"|"expired"
---@param opts? { trace_id?: string }
---@return alerts.Alert? alert
---@return string? err
---@return string? code `"ENOENT"`, or `"ERESOLVED"`: it has ended already.
function Alerts:resolve(id, by, opts)
  if not RESOLVED_BY[by] then
    error(("an alert is not resolved by %q"):format(tostring(by)), 2)
  end
  local entry = self.by_id[id]
  if not entry then
    return nil, ("ENOENT: no alert %s"):format(tostring(id)), "ENOENT"
  end
  local alert = entry.alert
  if alert.status ~= "firing" then
    return nil, ("ERESOLVED: alert %s has ended already"):format(id), "ERESOLVED"
  end
  alert.status = "resolved"
  alert.resolved_at, alert.resolved_by = self.clock.wall_ms(), by
  entry.resolved_at_ms = self.clock.now_ms()
  self:emit("alert_resolved", entry, { duration = entry.resolved_at_ms - entry.begun_at_ms },
    { trace_id = opts and opts.trace_id })
  self:evict(alert)
  return record.copy(alert)
end

--- One alert, whole.
---@param id string
---@return alerts.Alert?
function Alerts:get(id)
  local entry = self.by_id[id]
  return entry and record.copy(entry.alert)
end

--- The newest alert with this fingerprint, firing or resolved, whole.
---@param fingerprint string
---@return alerts.Alert?
function Alerts:find(fingerprint)
  local entry = self.latest[fingerprint]
  return entry and record.copy(entry.alert)
end

--- Alerts without their snapshots, newest first. Shallow copies: their lists are to be read only.
---@param filter? { watcher?: string, node?: string, status?: string, limit?: integer }
---@return alerts.Alert[]
function Alerts:list(filter)
  filter = filter or {}
  local found = {}
  for i = #self.entries, 1, -1 do
    local alert = self.entries[i].alert
    if (not filter.watcher or alert.watcher == filter.watcher)
      and (not filter.node or alert.node == filter.node)
      and (not filter.status or alert.status == filter.status)
      and #found < (filter.limit or math.huge) then
      local shown = {}
      for key, value in pairs(alert) do
        if key ~= "snapshots" then
          shown[key] = value
        end
      end
      found[#found + 1] = shown
    end
  end
  return found
end

--- The firing alerts without their snapshots, newest first.
---@param filter? { watcher?: string, node?: string, limit?: integer }
---@return alerts.Alert[]
function Alerts:firing(filter)
  filter = filter or {}
  return self:list({
    watcher = filter.watcher, node = filter.node, limit = filter.limit, status = "firing",
  })
end

return M
