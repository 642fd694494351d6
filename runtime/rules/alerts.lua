--- The alerts of rules: investigated once, fired, kept up to date, resolved.
---
--- An investigation is made once for all the watchers that share the rules, by the sandbox of the
--- first. Each of them then fires its own alert, as its own guard allows; where the store of alerts
--- makes one of several, that one is kept up to date once. An alert is never lost to what adds to
--- it: an investigation that fails, hangs or is cut short and a guard that raises leave an alert
--- without their part.

local async = require("runtime.async")
local finding_alert = require("runtime.rules.finding_alert")
local record = require("runtime.alerts.record")
local told = require("runtime.rules.told")

local M = {}

-- A node on which much goes wrong at once is not asked about all of it at once.
local MAX_INVESTIGATIONS = 4
local INVESTIGATE_MS = 5000

local RANK = record.SEVERITY_RANK

---@class rule_alerts.RuleAlerts
---@field renotify_ms? number The policy's.
---@field settings? string See runtime/rules/finding_alert.lua.
local RuleAlerts = {}
local rule_alerts_mt = { __index = RuleAlerts }

--- No alerts yet. An `entry` in what follows is one of runtime/rules.lua: a finding with its rule.
--- A `user` is the detector of a watcher; its `guard` may change or refuse the request of an alert
--- (nil and a reason refuse it until the finding worsens).
---@param opts { alerts: alerts.Alerts, clock: clock.Clock, users: rules_users.Users,
--- reports: rules_reports.Reports, investigate_ms?: number,
--- holder: fun(id: string): detector.Detector? }
--- `investigate_ms` bounds one investigation (default 5 s). `holder` finds a watcher of the node,
--- of these or of others, that has an alert.
---@return rule_alerts.RuleAlerts
function M.new(opts)
  return setmetatable({
    alerts = opts.alerts,
    clock = opts.clock,
    users = opts.users,
    reports = opts.reports,
    holder_of = opts.holder,
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

-- The watchers whose alert is still to be fired.
function RuleAlerts:waiting(entry)
  local list = {}
  for _, user in ipairs(self.users:told()) do
    if not entry.alert_of[user] and not entry.refused_by[user]
      and not (entry.asking and entry.asking[user]) then
      list[#list + 1] = user
    end
  end
  return list
end

--- Fires the alerts of a finding that held, but for those that are fired, refused or under way.
function RuleAlerts:begin(entry)
  local finding = entry.finding
  if not entry.is_open or RANK[finding.severity] < RANK.warning or finding.muted
    or self.running[entry] then
    return
  end
  local waiting = self:waiting(entry)
  if not waiting[1] then
    entry.is_open = nil
  elseif not entry.rule.investigate or entry.evidence
    or count(self.running) >= MAX_INVESTIGATIONS then
    self:fire(entry, waiting, { entry.evidence })
  else
    self:begin_investigation(entry, waiting[1].executor)
  end
end

function RuleAlerts:begin_investigation(entry, executor)
  local finding = entry.finding
  self.running[entry] = {} -- the task may end before `spawn` returns
  local task = async.spawn(function()
    self:investigate(entry, executor)
  end, { name = "finding " .. finding.type, detached = true, on_error = function(text)
    self.reports:tell(finding.type, text)
  end })
  if self.running[entry] then
    self.running[entry] = task
  end
end

function RuleAlerts:investigate(entry, executor)
  local finding = entry.finding
  local ok, execution = async.pcall(finding_alert.investigate, {
    executor = executor, rule = entry.rule, finding = record.copy(finding),
    trace_id = entry.trace_id, clock = self.clock, timeout_ms = self.investigate_ms,
  })
  if not self.running[entry] then
    return -- stopped meanwhile: `stop` fires them
  end
  self.running[entry] = nil
  if ok then
    entry.evidence = execution
  else
    self.reports:tell(finding.type, tostring(execution))
  end
  self:fire(entry, self:waiting(entry), { entry.evidence })
end

-- What the guard makes of a request; nil when it refuses.
function RuleAlerts:ask_guard(entry, user, request)
  local type_name = entry.finding.type
  local ok, allowed, reason = async.pcall(user.guard, request)
  if not ok then
    self.reports:tell(type_name, "the guard failed, so the alert is fired: " .. tostring(allowed),
      user)
    return request
  elseif not allowed then
    entry.refused_by[user] = tostring(reason or "refused by the policy's guard")
    return nil
  end
  return allowed
end

-- Has a guard look at a request, which may take it some time: nobody else waits for that.
function RuleAlerts:ask(entry, user, request)
  local asking, is_late = entry.asking or {}, false
  entry.asking, asking[user] = asking, true
  local task = async.spawn(function()
    local allowed = self:ask_guard(entry, user, request)
    asking[user] = nil
    if allowed then
      self:set_alert(entry, user, self.alerts:fire(allowed).id)
    end
    if is_late and entry.ended_by then
      self:resolve(entry, entry.ended_by)
    end
  end, { name = "guard of " .. user.meta.watcher, detached = true, on_error = function(text)
    asking[user], entry.is_open = nil, true
    self.reports:tell(entry.finding.type, text, user)
  end })
  if asking[user] then
    asking[user] = task
  end
  is_late = true
end

--- Fires or updates the alerts of some watchers as their finding stands now.
---@param users detector.Detector[]
---@param executions table[]
function RuleAlerts:fire(entry, users, executions)
  for _, user in ipairs(users) do
    local request = finding_alert.request({
      meta = user.meta, rule = entry.rule, finding = told.view(entry, user),
      held_ms = entry.held_ms, samples = { entry.first_sample, entry.sample },
      executions = executions, trace_id = entry.trace_id, renotify_ms = self.renotify_ms,
      settings = self.settings,
    })
    if user.guard then
      self:ask(entry, user, request)
    else
      self:set_alert(entry, user, self.alerts:fire(request).id)
    end
  end
  if entry.ended_by then
    self:resolve(entry, entry.ended_by)
  end
end

--- Notes the alert of a watcher; nil: it has none.
---@param user detector.Detector
---@param id? string
function RuleAlerts:set_alert(entry, user, id)
  entry.alert_of[user], entry.alert_ids = id, nil
end

--- A watcher whose alert this is, or nil.
---@param id string
---@return detector.Detector?
function RuleAlerts:holder(entry, id)
  for _, user in ipairs(self.users:told()) do
    if entry.alert_of[user] == id then
      return user
    end
  end
end

-- The watchers whose alert this is; without an id, those that have one.
function RuleAlerts:holders(entry, id)
  local list = {}
  for _, user in ipairs(self.users:told()) do
    local own = entry.alert_of[user]
    if own and (own == id or not id) then
      list[#list + 1] = user
    end
  end
  return list
end

-- The ids of all alerts of a finding, each once.
function RuleAlerts:ids(entry)
  if not entry.alert_ids then
    local ids, seen = {}, {}
    for _, user in ipairs(self.users:told()) do
      local id = entry.alert_of[user]
      if id and not seen[id] then
        seen[id] = true
        ids[#ids + 1] = id
      end
    end
    entry.alert_ids = ids
  end
  return entry.alert_ids
end

--- Goes on with a finding that was seen again: tells what has worsened, says of the rest that it
--- still holds, and fires what was not fired yet.
---@param has_worsened boolean
function RuleAlerts:go_on(entry, has_worsened)
  if has_worsened then
    self:fire(entry, self:holders(entry), {})
  else
    self:refresh(entry)
  end
  self:begin(entry)
end

-- Says that the finding of firing alerts still holds.
function RuleAlerts:refresh(entry)
  local ids, is_muted = self:ids(entry), entry.finding.muted
  if not ids[1] then
    return
  end
  local seen = finding_alert.seen(entry.finding, entry.held_ms)
  seen.renotify_ms, seen.quiet = self.renotify_ms, is_muted
  for _, id in ipairs(ids) do
    if not self.alerts:refresh(id, seen) and not is_muted then
      self:fire(entry, self:holders(entry, id), {}) -- somebody ended it, but it holds
    end
  end
end

-- Ends an alert for these watchers; it goes on as that of another one that has it, too.
function RuleAlerts:release(entry, id, users, by)
  local other = self.holder_of(id)
  if not other then
    self.alerts:resolve(id, by, { trace_id = entry.trace_id })
    return
  end
  for _, user in ipairs(users) do
    self.alerts:pass_on(id, user.meta.watcher, other.meta.watcher)
  end
end

--- Ends the alerts of a finding that ended; those under way end as soon as they are fired. One that
--- another watcher of the node has as well goes on.
---@param by "rule"|"restart"|"left"|"policy"
function RuleAlerts:resolve(entry, by)
  entry.ended_by = by
  for _, id in ipairs(self:ids(entry)) do
    self:release(entry, id, self:holders(entry, id), by)
  end
end

--- Fires the alert of a watcher without the investigation that is under way.
---@param user detector.Detector
function RuleAlerts:cut_short(entry, user)
  if self.running[entry] and user.is_told and not entry.alert_of[user]
    and not entry.refused_by[user] then
    self:fire(entry, { user }, {})
  end
end

--- Forgets a watcher, which leaves.
---@param user detector.Detector
---@param by? "left"|"policy" The finding has ended for it, and so does its alert, unless another
--- watcher has that, too.
function RuleAlerts:drop(entry, user, by)
  local task = entry.asking and entry.asking[user]
  if task then
    entry.asking[user] = nil
    task:cancel()
  end
  local id = entry.alert_of[user]
  entry.refused_by[user] = nil
  self:set_alert(entry, user, nil)
  if by and id then
    self:release(entry, id, { user }, by)
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
    self:fire(entry, self:waiting(entry), {})
  end
end

return M
