--- What the eight tools do. A handler gets the watcher, the checked arguments and the call, and
--- returns the result for the model and `info`:
---
---   is_error   the result is a refusal
---   ends       the cycle is over
---
--- A refusal is `{ error = text }`, in words from which a model can correct itself.

local json = require("runtime.json")
local mute = require("runtime.rules.mute")
local standing = require("runtime.watcher.standing")
local views = require("runtime.watcher.views")

local M = {}

local KEEPS_CONVERSATION_MS = 15000
local MAX_TITLE = 80
-- Ids shown to a model that named wrong ones.
local SHOWN_IDS = 20

local function refuse(err, more)
  local result = more or {}
  result.error = err
  return result, { is_error = true }
end

local function own_filter(watcher, status)
  return { watcher = watcher.meta.watcher, node = watcher.meta.node, status = status }
end

local function stays_view(alerts)
  return views.map(alerts, function(alert)
    return { id = alert.id, type = alert.type, subject = alert.subject, severity = alert.severity }
  end)
end

-- Splits the alerts that the model wants resolved: unknown ids, and those that may end.
local function wanted(ids, firing)
  local by_id, unknown, chosen = {}, {}, {}
  for _, alert in ipairs(firing) do
    by_id[alert.id] = alert
  end
  for _, id in ipairs(ids) do
    if by_id[id] then
      chosen[#chosen + 1] = by_id[id]
    else
      unknown[#unknown + 1] = id
    end
  end
  return chosen, unknown
end

--- set_state: `{state, from, resolved, stays?, note?}`.
---@async
function M.set_state(watcher, args, call)
  local firing = watcher.alerts:list(own_filter(watcher, "firing"))
  local chosen, unknown = wanted(args.resolve or {}, firing)
  if #unknown > 0 then
    local ids = stays_view(firing)
    return refuse("alerts not found: " .. table.concat(unknown, ", "), { firing = ids })
  end
  local held = standing.held(watcher.detector:findings())
  local resolved = {}
  local _, unsupported = standing.split(args.state == "healthy" and firing or chosen, held)
  for _, alert in ipairs(unsupported) do
    if watcher.alerts:resolve(alert.id, call.source, { trace_id = watcher.trace_id }) then
      resolved[#resolved + 1] = alert.id
    end
  end
  local stays = (standing.split(firing, held))
  local floor = standing.floor(stays)
  local state = standing.worse(args.state, floor)
  local from = watcher:change_state(state, args.reason or "", call.source)
  local result = { state = state, from = from, resolved = json.array(resolved) }
  if state ~= args.state or (#stays > 0 and (args.state == "healthy" or #chosen > #resolved)) then
    result.stays = stays_view(stays)
    result.note = ("rules still hold these alerts: they stay, and the state stays at least %s")
      :format(floor)
  end
  return result
end

local function find_snapshots(watcher, ids)
  local found, missing, seen = {}, {}, {}
  for _, id in ipairs(ids) do
    local snapshot = watcher.snapshots:get(id)
    if not snapshot then
      missing[#missing + 1] = id
    elseif not seen[id] then
      seen[id] = true
      found[#found + 1] = snapshot
    end
  end
  return found, missing
end

-- A pid is no subject: the next incarnation has another one. The sweep knows who it is.
local function without_pid(watcher, subject)
  local pid = subject and subject:match("<%d+%.%d+%.%d+>")
  if not pid then
    return subject
  end
  local latest = watcher.detector.history and watcher.detector.history:latest()
  local row = latest and latest.sweep and latest.sweep.processes
    and latest.sweep.processes.rows[pid]
  if row then
    return row.subject
  end
  local rest = subject:gsub("%s*<%d+%.%d+%.%d+>%s*", "")
  return rest ~= "" and rest or nil
end

-- The held finding that the alert is about: of its subject, or the only one of its type.
local function finding_for(type_name, subject, held)
  local of_type = {}
  for _, finding in ipairs(held) do
    if finding.type == type_name and (not subject or finding.subject == subject) then
      of_type[#of_type + 1] = finding
    end
  end
  return (subject or #of_type == 1) and of_type[1] or nil
end

local function rule_of(watcher, type_name)
  for _, rule in ipairs(watcher.domain.rules or {}) do
    if rule.type == type_name then
      return rule
    end
  end
end

-- Type, subject, title and supporting finding of what the model wants to say.
local function identify(watcher, args, held)
  local rule = rule_of(watcher, args.type)
  local subject = without_pid(watcher, args.subject)
  if not rule then
    local title = args.type ~= "other" and args.type or args.summary
    return "other", subject or watcher.meta.node, title:sub(1, 4 * MAX_TITLE)
  end
  local finding = finding_for(rule.type, subject, held)
  subject = subject or (finding and finding.subject) or watcher.meta.node
  local title = rule.title or (rule.type:gsub("_", " "))
  return rule.type, subject, ("%s: %s"):format(title, subject), finding
end

-- The findings of this watcher, the supporting one first.
local function evidence(findings, finding)
  local list = { finding }
  for _, each in ipairs(findings) do
    if each ~= finding then
      list[#list + 1] = each
    end
  end
  return list
end

local function refuse_alert(watcher, err, more)
  watcher:emit("beamlens.watcher.alert_failed", { error = err })
  return refuse(err, more)
end

local function fire(watcher, args, snapshots)
  local findings = watcher.detector:findings()
  local type_name, subject, title, finding = identify(watcher, args, standing.held(findings))
  local meta = watcher.meta
  return watcher.alerts:fire({
    watcher = meta.watcher, domain = meta.domain, node = meta.node,
    type = type_name, subject = subject,
    severity = finding and args.severity or standing.milder(args.severity, "warning"),
    title = title,
    summary = args.summary,
    figures = finding and finding.figures,
    trend = finding and (finding.per_s or finding.eta_s)
      and { per_s = finding.per_s, eta_s = finding.eta_s } or nil,
    snapshots = snapshots,
    executions = watcher.cycle and watcher.cycle.executions or {},
    findings = evidence(findings, finding),
    source = "model",
    corroborated = finding ~= nil,
    trace_id = watcher.trace_id,
    renotify_ms = watcher.policy.renotify_ms,
  })
end

--- fire_alert: the alert with its `cause`.
---@async
function M.fire_alert(watcher, args)
  local ids = args.snapshot_ids or {}
  if #ids == 0 then
    return refuse_alert(watcher,
      "snapshot_ids required: alerts must reference at least one snapshot")
  end
  local snapshots, missing = find_snapshots(watcher, ids)
  if #missing > 0 then
    return refuse_alert(watcher, "snapshots not found: " .. table.concat(missing, ", "),
      { snapshot_ids = json.array(watcher.snapshots:ids(SHOWN_IDS)) })
  end
  local type_name = rule_of(watcher, args.type) and args.type or "other"
  if mute.is_muted(watcher.policy.mute, type_name, watcher.clock.wall_ms()) then
    return refuse_alert(watcher, ("alerts of type %s are muted now by the operator"):format(
      type_name))
  end
  watcher.snapshots:pin(ids)
  local alert, cause = fire(watcher, args, snapshots)
  watcher:settle("model")
  local view = views.alert(alert)
  view.cause, view.snapshot_ids = cause, json.array(ids)
  if args.severity == "critical" and not alert.corroborated then
    view.note = "critical became warning: no held rule finding has this type and subject"
  end
  return view
end

--- get_alerts: `{alerts, total}`, newest first.
---@async
function M.get_alerts(watcher, args)
  local filter = own_filter(watcher, args.status)
  if args.scope == "node" then
    filter.watcher = nil
  end
  filter.limit = watcher.policy.history.alerts
  local all, page = watcher.alerts:list(filter), {}
  for i = 1, math.min(args.limit or 10, #all) do
    page[i] = views.alert(all[i])
  end
  watcher:emit("beamlens.watcher.get_alerts", {}, { count = #page })
  return { alerts = json.array(page), total = #all }
end

--- take_snapshot: `{id, captured_at, data, findings}`.
---@async
function M.take_snapshot(watcher)
  local started_ms = watcher.clock.now_ms()
  local sample, err = watcher.detector:sample_now()
  if not sample then
    return refuse("no snapshot: " .. tostring(err))
  end
  local snapshot = watcher.snapshots:add(sample)
  watcher:emit("beamlens.watcher.take_snapshot", { snapshot_id = snapshot.id,
    data = snapshot.data }, { duration = watcher.clock.now_ms() - started_ms })
  local result = views.snapshot(snapshot)
  result.findings = json.array(watcher:finding_views())
  return result
end

--- get_snapshot: the snapshot, or `{error = "snapshot_not_found", id}`.
---@async
function M.get_snapshot(watcher, args)
  local snapshot = watcher.snapshots:get(args.id)
  watcher:emit("beamlens.watcher.get_snapshot", { snapshot_id = args.id,
    found = snapshot ~= nil })
  if not snapshot then
    return refuse("snapshot_not_found", { id = args.id })
  end
  return views.snapshot(snapshot)
end

--- get_snapshots: `{snapshots, total, offset}`, newest first.
---@async
function M.get_snapshots(watcher, args)
  local page = watcher.snapshots:page(args.limit or 10, args.offset)
  watcher:emit("beamlens.watcher.get_snapshots", {}, { count = #page.snapshots })
  return { snapshots = json.array(views.map(page.snapshots, views.snapshot)), total = page.total,
    offset = page.offset }
end

--- execute: `{id, value}` or `{id, error}`, with what the script printed and, where it dropped its
--- value, a `hint` to return it.
---@async
function M.execute(watcher, args, call)
  local record = watcher.executor:run(args.code, { trace_id = watcher.trace_id,
    source = call.source })
  if watcher.cycle then
    table.insert(watcher.cycle.executions, record)
  end
  local result = { id = record.id }
  if record.output and record.output ~= "" then
    result.output = record.output
  end
  if record.error then
    result.error = record.error
    return result, { is_error = true }
  end
  result.value = record.value == nil and json.null or record.value
  result.hint = record.hint
  return result
end

--- wait: `{waited_ms, woken_by, clamped?, lengthened?}`. One that ends the cycle is not waited here
--- but when the cycle is over; see runtime/watcher/tool_call.lua.
---@async
function M.wait(watcher, args, call)
  local bounds = call.wait or watcher.policy.wait
  local ms = math.max(bounds.min_ms, math.min(bounds.max_ms, args.ms))
  local clamped
  if ms ~= args.ms then
    clamped = ("asked for %.14g ms; waits are from %.14g to %.14g ms"):format(args.ms,
      bounds.min_ms, bounds.max_ms)
  end
  if call.source == "model" and args.note then
    watcher.note = args.note ~= "" and { text = args.note, at_ms = watcher.clock.wall_ms() } or nil
  end
  watcher:confirm_state()
  local lengthened
  if call.source == "model" and watcher.pace then
    local bounded_ms = ms
    ms = watcher.pace:stretch(ms, bounds.max_ms)
    lengthened = ms > bounded_ms and ("from %.14g to %.0f ms, so that the budget lasts"):format(
      bounded_ms, ms) or nil
  end
  if ms > KEEPS_CONVERSATION_MS or call.source ~= "model" then
    local result = { clamped = clamped, lengthened = lengthened }
    return result, { wait = { ms = ms, asked_ms = args.ms, note = args.note, result = result } }
  end
  local result = watcher:wait(ms, { asked_ms = args.ms, note = args.note })
  result.clamped, result.lengthened = clamped, lengthened
  return result
end

return M
