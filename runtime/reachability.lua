--- The rules of every node, which need no snapshot and no model: is it there, does it answer?
---
--- `node_down` (critical): the connection closed, or never stood, and trying again failed for 60 s;
--- a warning while the node answers but refuses us. `node_unresponsive` (warning): no answer for
--- 15 s. Both end when the node is back; `node_down` takes over from `node_unresponsive` when it
--- fires. `node_restarted`: an info alert for each new incarnation, a warning from the third in
--- 10 min on; it ends 10 min after the last one. A restart within the 60 s raises no `node_down`.
--- Their alerts carry the last snapshots before, and "node" as watcher and domain. The node's first
--- watcher says of these rules what it says of its own: changes, mutes, and by its guard what may
--- be fired.

local async = require("runtime.async")
local finding_alert = require("runtime.rules.finding_alert")
local ids = require("runtime.ids")
local members = require("runtime.members")
local mute = require("runtime.rules.mute")
local record = require("runtime.alerts.record")
local restored = require("runtime.rules.restored")
local units = require("runtime.units")

local M = {}

local TICK_MS = 1000
-- One look stands for at most this long: a host that was stopped saw nothing in between.
local MAX_STEP_MS = 10000
-- The first connection may take this long before it is worth a finding.
local CONNECTING_MS = 5000
local UNRESPONSIVE_AFTER_MS = 15000
local RESTART_WINDOW_MS = 10 * 60 * 1000
local RESTARTS_FOR_WARNING = 3

local RANK = record.SEVERITY_RANK
local DOCTOR = "beamlens doctor --node "

local RULES = {
  node_down = { severity = "critical", hold_ms = 60000, title = "Node down" },
  node_unresponsive = { severity = "warning", hold_ms = UNRESPONSIVE_AFTER_MS,
    title = "Node does not answer" },
  node_restarted = { severity = "info", hold_ms = 0, title = "Node restarted" },
}

---@class reachability.Reachability
local Reachability = {}
local reachability_mt = { __index = Reachability }

--- Rules for one node; not running yet.
---@param opts { target: table, alerts: alerts.Alerts, telemetry: telemetry.Bus,
--- clock: clock.Clock, last_snapshots: (fun(): table[]), rules?: table, mute?: table,
--- guard?: (async fun(request: table): table?, string?), renotify_ms?: number } `rules` changes
--- them by type: `hold_ms`, `severity`, `enabled`; `mute`: see runtime/rules/mute.lua. `guard` may
--- change or refuse the request of an alert (nil and a reason refuse it until it worsens).
---@return reachability.Reachability
function M.new(opts)
  return setmetatable({
    target = opts.target,
    node = opts.target.node,
    alerts = opts.alerts,
    telemetry = opts.telemetry,
    clock = opts.clock,
    last_snapshots = opts.last_snapshots,
    changes = opts.rules or {},
    windows = opts.mute,
    guard = opts.guard,
    renotify_ms = opts.renotify_ms,
    entries = {}, -- type -> { finding, held_ms, title, trace_id }
    restarts = {}, -- monotonic ms of each in the window
    listeners = members.new(),
  }, reachability_mt)
end

--- Begins to watch. A node that is not up yet is down from now on.
function Reachability:start()
  if self.task then
    return
  end
  self.looked_at_ms = self.clock.now_ms()
  self.unsubscribe = self.target:subscribe(function(kind, info)
    self:on_event(kind, info or {})
  end)
  local status = self.target:status()
  if status.status == "connecting" then
    self.connecting_since_ms = self.looked_at_ms
  elseif status.status ~= "up" then
    self:on_event(status.status, status)
  end
  self.task = async.spawn(function()
    while true do
      async.sleep(TICK_MS)
      self:check()
    end
  end, { name = "reachability " .. self.node, detached = true })
end

--- Ends. Firing alerts stay, unless the node is not watched any more.
---@param resolved_by? "policy"|"left"
function Reachability:stop(resolved_by)
  if self.task then
    self.task:cancel()
    self.unsubscribe()
    self.task = nil
  end
  if resolved_by then
    for type_name in pairs(RULES) do
      self:clear(type_name, resolved_by)
    end
  end
end

--- Puts other changes to the rules in force.
---@param changes? table
---@param windows? table As `mute` of `new`.
function Reachability:set_rules(changes, windows)
  self.changes, self.windows = changes or {}, windows
  for type_name in pairs(RULES) do
    if not self:rule(type_name) then
      self:clear(type_name, "policy")
    end
  end
end

--- The findings about this node, in the shape of rules' findings.
---@return rules.Finding[]
function Reachability:findings()
  local list = {}
  for _, type_name in ipairs({ "node_down", "node_unresponsive", "node_restarted" }) do
    local entry = self.entries[type_name]
    list[#list + 1] = entry and record.copy(entry.finding)
  end
  return list
end

--- Calls `fn` whenever a finding begins, fires, worsens or is cleared. It must not wait.
---@param fn fun(finding: rules.Finding, what: "pending"|"firing"|"worsened"|"cleared")
---@return fun() unsubscribe
function Reachability:on_finding(fn)
  local listener = { fn = fn }
  self.listeners:add(listener)
  return function()
    self.listeners:remove(listener)
  end
end

-- The rule as it is in force; nil when it is switched off.
function Reachability:rule(type_name)
  local base, change = RULES[type_name], self.changes[type_name] or {}
  if change.enabled == false then
    return nil
  end
  return {
    hold_ms = change.hold_ms or base.hold_ms,
    severity = change.severity or base.severity,
    is_forced = change.severity ~= nil,
    title = base.title,
  }
end

function Reachability:emit(event, entry, what, measurements)
  measurements.system_time = self.clock.wall_ms()
  self.telemetry:execute("beamlens.finding." .. event, measurements, {
    watcher = "node", domain = "node", node = self.node, finding = record.copy(entry.finding),
  })
  self:notify(entry, what)
end

function Reachability:notify(entry, what)
  for _, listener in ipairs(self.listeners:list()) do
    local ok, err = async.pcall(listener.fn, record.copy(entry.finding), what)
    if not ok then
      self:failed(entry, "a listener of findings failed: " .. tostring(err))
    end
  end
end

function Reachability:failed(entry, text)
  self.telemetry:execute("beamlens.rule.failed", { system_time = self.clock.wall_ms() }, {
    watcher = "node", domain = "node", node = self.node, type = entry.finding.type,
    error = record.summary(text),
  })
end

function Reachability:on_event(kind, info)
  if kind == "up" then
    self.connecting_since_ms = nil
    self:clear("node_down", "rule")
    self:clear("node_unresponsive", "rule")
  elseif kind == "responsive" then
    self:clear("node_unresponsive", "rule")
  elseif kind == "down" or kind == "refused" then
    self:on_lost(kind == "refused", info)
  elseif kind == "unresponsive" then
    self:on_silent(info.silent_ms or UNRESPONSIVE_AFTER_MS)
  elseif kind == "restarted" then
    self:on_restart()
  end
end

local function reason(info)
  local text = info.err or info.error
  if text then
    return ": " .. text
  end
  return info.code and ": " .. info.code or ""
end

-- The connection ended, or another try to make one failed.
function Reachability:on_lost(is_refused, info)
  local silent = self.entries.node_unresponsive
  if silent and silent.finding.phase == "pending" then
    self:clear("node_unresponsive", "rule")
  end
  local rule = self:rule("node_down")
  if not rule then
    return
  end
  local entry = self.entries.node_down
  if not entry then
    self:look() -- the time before this is no part of it
    local since_ms = self.connecting_since_ms or self.looked_at_ms
    entry = self:begin("node_down", rule, self.looked_at_ms - since_ms)
  end
  local before = entry.finding.severity
  entry.reason = reason(info)
  entry.title = is_refused and "Node refuses to be watched" or rule.title
  entry.finding.severity = is_refused and not rule.is_forced and "warning" or rule.severity
  self:describe_down(entry, is_refused)
  if RANK[entry.finding.severity] > RANK[before] then
    entry.finding.refused = nil
  end
  if entry.finding.alert_id and entry.finding.severity ~= before then
    self:raise(entry)
  end
end

function Reachability:describe_down(entry, is_refused)
  entry.describe = function()
    return ("%s %s for %s%s"):format(self.node,
      is_refused and "refuses the connection" or "cannot be reached",
      units.format_duration(entry.held_ms), entry.reason)
  end
end

function Reachability:on_silent(silent_ms)
  local rule = self:rule("node_unresponsive")
  if not rule or self.entries.node_unresponsive then
    return
  end
  self:look()
  local entry = self:begin("node_unresponsive", rule, silent_ms)
  entry.describe = function()
    return ("%s answers no call for %s although the connection stands"):format(self.node,
      units.format_duration(entry.held_ms))
  end
  self:check()
end

function Reachability:on_restart()
  local rule = self:rule("node_restarted")
  local now_ms = self.clock.now_ms()
  table.insert(self.restarts, now_ms)
  self:forget_restarts(now_ms)
  if not rule then
    return
  end
  local count = #self.restarts
  local entry = self.entries.node_restarted
  entry = entry or self:begin("node_restarted", rule, 0)
  if not rule.is_forced and count >= RESTARTS_FOR_WARNING then
    entry.finding.severity = "warning"
  end
  entry.finding.value, entry.finding.unit = count, "restarts"
  entry.finding.threshold = RESTARTS_FOR_WARNING
  entry.describe = function()
    return count == 1 and ("%s restarted"):format(self.node)
      or ("%s restarted %d times in 10 min"):format(self.node, count)
  end
  entry.finding.refused = nil
  if not entry.finding.alert_id then
    self:check()
  else
    self:raise(entry)
    self:notify(entry, "worsened")
  end
end

function Reachability:forget_restarts(now_ms)
  while self.restarts[1] and now_ms - self.restarts[1] >= RESTART_WINDOW_MS do
    table.remove(self.restarts, 1)
  end
end

-- How long it is since the last look, as far as it counts.
function Reachability:look()
  local now_ms = self.clock.now_ms()
  local step_ms = math.min(now_ms - self.looked_at_ms, MAX_STEP_MS)
  self.looked_at_ms = now_ms
  for _, entry in pairs(self.entries) do
    entry.held_ms = entry.held_ms + step_ms
  end
end

--- Fires what has held for its time, and ends what is over. Called every second; specs that move
--- the clock call it themselves.
function Reachability:check()
  self:look()
  if self.connecting_since_ms and not self.entries.node_down
    and self.looked_at_ms - self.connecting_since_ms >= CONNECTING_MS then
    self:on_lost(false, self.target:status())
  end
  self:forget_restarts(self.looked_at_ms)
  if not self.restarts[1] then
    self:clear("node_restarted", "rule")
  end
  for type_name in pairs(RULES) do
    local entry, rule = self.entries[type_name], self:rule(type_name)
    if entry and rule and entry.finding.phase == "pending" and entry.held_ms >= rule.hold_ms then
      entry.finding.phase = "firing"
      self:emit("firing", entry, "firing", { value = entry.finding.value })
      self:raise(entry)
      if type_name == "node_down" then
        self:clear("node_unresponsive", "rule")
      end
    elseif entry and entry.finding.phase == "firing" and not entry.finding.alert_id then
      self:raise(entry)
    elseif entry and entry.finding.alert_id then
      local seen = finding_alert.seen(entry.finding, entry.held_ms)
      seen.summary, seen.renotify_ms = entry.describe(), self.renotify_ms
      seen.quiet = self:is_muted(entry)
      if not self.alerts:refresh(entry.finding.alert_id, seen) then
        self:raise(entry) -- somebody ended it, but it holds
      end
    end
  end
end

function Reachability:begin(type_name, rule, held_ms)
  local entry = {
    held_ms = held_ms, begun_ms = self.clock.now_ms() - held_ms,
    title = rule.title,
    trace_id = ids.hex(32),
    snapshots = self.last_snapshots(),
    describe = function()
      return rule.title
    end,
    finding = {
      id = ids.hex(16), type = type_name, subject = self.node, severity = rule.severity,
      phase = "pending", since = self.clock.wall_ms() - held_ms,
    },
  }
  self.entries[type_name] = entry
  self:emit("pending", entry, "pending", {})
  return entry
end

--- Takes over an alert that fires since before a restart of the host.
---@param alert alerts.Alert
---@return boolean ok False when its rule is in force no more.
function Reachability:adopt(alert)
  local rule, finding = self:rule(alert.type), restored.finding(alert)
  if not rule or not finding then
    return false
  end
  self.entries[alert.type] = self.entries[alert.type] or {
    held_ms = math.max(0, alert.last_seen - alert.detected_at), title = rule.title,
    begun_ms = restored.begun_ms(finding, self.clock),
    trace_id = alert.trace_id, snapshots = alert.snapshots, finding = finding, reason = "",
    describe = function()
      return alert.summary
    end,
  }
  if alert.type == "node_restarted" then
    local ago_ms = math.max(0, self.clock.wall_ms() - alert.detected_at)
    for _ = 1, math.min(finding.value or 1, RESTARTS_FOR_WARNING) do
      table.insert(self.restarts, self.clock.now_ms() - ago_ms)
    end
  end
  return true
end

function Reachability:is_muted(entry)
  return mute.is_muted(self.windows, entry.finding.type, self.clock.wall_ms())
end

-- Fires the alert, or updates it.
function Reachability:fire(entry, request)
  entry.finding.alert_id = self.alerts:fire(request).id
  if entry.ended_by then
    self:resolve(entry)
  end
end

-- Does so as the guard allows, which may take it some time.
function Reachability:ask(entry, request)
  entry.is_asking = true
  async.spawn(function()
    local ok, allowed, why = async.pcall(self.guard, request)
    entry.is_asking = nil
    if not ok then
      self:failed(entry, "the guard failed, so the alert is fired: " .. tostring(allowed))
      allowed = request
    end
    if allowed then
      self:fire(entry, allowed)
    else
      entry.finding.refused = tostring(why or "refused by the policy's guard")
    end
  end, { name = "guard of " .. self.node, detached = true, on_error = function(text)
    entry.is_asking = nil
    self:failed(entry, text)
  end })
end

-- Has the alert fired or updated, unless it is muted or the guard has refused it.
function Reachability:raise(entry)
  entry.finding.muted = self:is_muted(entry) or nil
  if entry.finding.muted or entry.finding.refused or entry.is_asking then
    return -- it is fired at the window's end, if it holds then
  end
  entry.finding.summary = entry.describe()
  local request = finding_alert.request({
    meta = { watcher = "node", domain = "node", node = self.node },
    rule = { title = entry.title, next = { DOCTOR .. finding_alert.shell_word(self.node) } },
    finding = entry.finding, held_ms = entry.held_ms, samples = {}, executions = {},
    trace_id = entry.trace_id, renotify_ms = self.renotify_ms,
  })
  request.snapshots = entry.snapshots
  if self.guard then
    self:ask(entry, request)
  else
    self:fire(entry, request)
  end
end

function Reachability:resolve(entry)
  self.alerts:resolve(entry.finding.alert_id, entry.ended_by, { trace_id = entry.trace_id })
end

function Reachability:clear(type_name, by)
  local entry = self.entries[type_name]
  if not entry then
    return
  end
  self.entries[type_name], entry.ended_by = nil, by
  if entry.finding.alert_id then
    self:resolve(entry)
  end
  self:emit("cleared", entry, "cleared",
    { duration = self.clock.now_ms() - entry.begun_ms })
end

return M
