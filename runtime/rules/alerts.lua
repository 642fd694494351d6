--- The alerts of a watcher's rules: investigated once, fired, kept up to date, resolved.
---
--- An alert is never lost to what adds to it: an investigation that fails, hangs or is cut short
--- and a guard that raises leave an alert without their part.

local async = require("runtime.async")
local finding_alert = require("runtime.rules.finding_alert")
local record = require("runtime.alerts.record")

local M = {}

-- A node on which much goes wrong at once is not asked about all of it at once.
local MAX_INVESTIGATIONS = 4
local INVESTIGATE_MS = 5000

local RANK = record.SEVERITY_RANK

---@class rule_alerts.RuleAlerts
---@field renotify_ms? number The policy's.
local RuleAlerts = {}
local rule_alerts_mt = { __index = RuleAlerts }

--- No alerts yet. An `entry` in what follows is one of runtime/rules.lua: a finding with its rule.
---@param opts { meta: table, alerts: alerts.Alerts, executor: table, clock: clock.Clock,
--- report: fun(type: string, error: string), guard?: fun(request: table): table?, string?,
--- settings?: string, investigate_ms?: number } `guard` may change or refuse the request
--- of an alert (nil and a reason refuse it until the finding worsens); it must not wait.
--- `settings`: see runtime/rules/finding_alert.lua. `investigate_ms` bounds one investigation
--- (default 5 s).
---@return rule_alerts.RuleAlerts
function M.new(opts)
  return setmetatable({
    meta = opts.meta,
    alerts = opts.alerts,
    executor = opts.executor,
    clock = opts.clock,
    report = opts.report,
    guard = opts.guard,
    settings = opts.settings,
    investigate_ms = opts.investigate_ms or INVESTIGATE_MS,
    running = {}, -- entry -> the task of its investigation
  }, rule_alerts_mt)
end

local function count(set)
  local n = 0
  for _ in pairs(set) do
    n = n + 1
  end
  return n
end

--- Fires the alert of a finding that held, unless it has none to fire or it is under way.
function RuleAlerts:begin(entry)
  local finding = entry.finding
  if RANK[finding.severity] < RANK.warning or finding.muted or finding.refused
    or self.running[entry] then
    return
  end
  if not entry.rule.investigate or count(self.running) >= MAX_INVESTIGATIONS then
    self:fire(entry, {})
    return
  end
  self.running[entry] = {} -- the task may end before `spawn` returns
  local task = async.spawn(function()
    self:investigate(entry)
  end, { name = "finding " .. finding.type, detached = true, on_error = function(text)
    self.report(finding.type, text)
  end })
  if self.running[entry] then
    self.running[entry] = task
  end
end

function RuleAlerts:investigate(entry)
  local finding = entry.finding
  local ok, execution = async.pcall(finding_alert.investigate, {
    executor = self.executor, rule = entry.rule, finding = record.copy(finding),
    trace_id = entry.trace_id, clock = self.clock, timeout_ms = self.investigate_ms,
  })
  if not self.running[entry] then
    return -- stopped meanwhile: `stop` fires it
  end
  self.running[entry] = nil
  if not ok then
    self.report(finding.type, tostring(execution))
  end
  self:fire(entry, ok and { execution } or {})
end

-- What the guard makes of a request; nil when it refuses.
function RuleAlerts:ask_guard(finding, request)
  if not self.guard then
    return request
  end
  local ok, allowed, reason = async.pcall(self.guard, request)
  if not ok then
    self.report(finding.type, "the guard failed, so the alert is fired: " .. tostring(allowed))
    return request
  elseif not allowed then
    finding.refused = tostring(reason or "refused by the policy's guard")
    return nil
  end
  return allowed
end

--- Fires or updates the alert as its finding stands now.
---@param executions table[]
function RuleAlerts:fire(entry, executions)
  local finding = entry.finding
  local request = self:ask_guard(finding, finding_alert.request({
    meta = self.meta, rule = entry.rule, finding = finding, held_ms = entry.held_ms,
    samples = { entry.first_sample, entry.sample }, executions = executions,
    trace_id = entry.trace_id, renotify_ms = self.renotify_ms, settings = self.settings,
  }))
  if not request then
    return
  end
  finding.alert_id = self.alerts:fire(request).id
  if entry.ended_by then
    self:resolve(entry, entry.ended_by)
  end
end

--- Says that the finding of a firing alert still holds.
function RuleAlerts:refresh(entry)
  local finding = entry.finding
  local seen = finding_alert.seen(finding, entry.held_ms)
  seen.renotify_ms, seen.quiet = self.renotify_ms, finding.muted
  if not self.alerts:refresh(finding.alert_id, seen) and not finding.muted then
    self:fire(entry, {}) -- somebody ended it, but it holds
  end
end

--- Ends the alert of a finding that ended; one under way ends as soon as it is fired.
---@param by "rule"|"restart"|"left"|"policy"
function RuleAlerts:resolve(entry, by)
  entry.ended_by = by
  if entry.finding.alert_id then
    self.alerts:resolve(entry.finding.alert_id, by, { trace_id = entry.trace_id })
  end
end

--- Cuts investigations short and fires their alerts.
function RuleAlerts:stop()
  local running = self.running
  self.running = {}
  local entries = {}
  for entry in pairs(running) do
    entries[#entries + 1] = entry
  end
  table.sort(entries, function(a, b)
    return a.finding.id < b.finding.id
  end)
  for _, entry in ipairs(entries) do
    running[entry]:cancel()
    self:fire(entry, {})
  end
end

return M
