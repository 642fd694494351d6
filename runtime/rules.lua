--- The rule engine: asks the rules after each sample and keeps what they find, once for all
--- watchers of a feed whose rules are the same (runtime/rules/key.lua).
---
--- Shared are the findings with their holds, and their investigations. Each watcher has its own
--- events, listeners and guard, and its own alert (runtime/rules/alerts.lua). It is known here by
--- its detector, as a `user`. Nothing is done for each of them while no finding changes.
---
--- A finding (of one type and subject) is pending until it held for its rule's `hold`, then firing;
--- when its rule finds it no more it is clearing, and gone after `clear_hold`. Both count the time
--- of samples, not of a clock on the wall: while no sample comes, nothing holds and nothing clears.
--- A rule sees as `held` its findings that are firing or clearing, never one that is pending.
--- A warning or critical finding fires its alert when it begins to fire, and its end resolves it.

local async = require("runtime.async")
local ids = require("runtime.ids")
local mute = require("runtime.rules.mute")
local record = require("runtime.alerts.record")
local reports = require("runtime.rules.reports")
local restored = require("runtime.rules.restored")
local rule_alerts = require("runtime.rules.alerts")
local rule_set = require("runtime.rules.set")
local told = require("runtime.rules.told")
local users = require("runtime.rules.users")

local M = {}

local MAX_SUBJECTS = 50

local RANK = record.SEVERITY_RANK

---@class rules.Finding
---@field id string
---@field type string
---@field subject string
---@field severity "info"|"warning"|"critical"
---@field phase "pending"|"firing"|"clearing"
---@field since number Unix ms of the sample that began it.
---@field value? number
---@field threshold? number
---@field unit? string
---@field per_s? number
---@field eta_s? number
---@field summary? string
---@field figures? table[]
---@field pid? string
---@field alert_id? string The watcher's alert, as the next two.
---@field muted? boolean Its alert is held back by the policy's mute.
---@field refused? string Why the policy's guard holds its alert back.

---@class rules.Entry A finding with what is known of it.
---@field finding rules.Finding Without what each watcher has its own of.
---@field alert_of table<detector.Detector, string> The ids of the watchers' alerts.
---@field refused_by table<detector.Detector, string> Why a watcher's guard refused its alert.
---@field is_open? boolean Some watcher may have neither.

---@class rules.Rules
---@field key? string Set by runtime/detector/feed.lua.
---@field by_type table<string, rule_set.Rule> The rules in force.
---@field users rules_users.Users
---@field reports rules_reports.Reports
local Rules = {}
local rules_mt = { __index = Rules }

--- An engine without findings.
---@param opts { meta: { domain: string, node: string }, domain: table, history: history.History,
--- alerts: alerts.Alerts, telemetry: telemetry.Bus, clock: clock.Clock, sweep?: sweep.Sweep,
--- settings?: string, investigate_ms?: number, is_watched?: (fun(domain: string): boolean),
--- holder: fun(id: string): detector.Detector? }
--- `settings`, `investigate_ms`, `holder`: see runtime/rules/alerts.lua. `is_watched`: whether a
--- watcher of that domain watches the node, too (default: none does). A policy has to be set before
--- it is asked.
---@return rules.Rules
function M.new(opts)
  local self = setmetatable({
    meta = opts.meta,
    domain = opts.domain,
    history = opts.history,
    sweep = opts.sweep,
    users = users.new(),
    telemetry = opts.telemetry,
    clock = opts.clock,
    is_watched = opts.is_watched or function()
      return false
    end,
    entries = {}, -- type -> subject -> entry
  }, rules_mt)
  self.reports = reports.new({ meta = opts.meta, users = self.users, telemetry = opts.telemetry,
    clock = opts.clock })
  self.firing = rule_alerts.new({
    alerts = opts.alerts, clock = opts.clock, investigate_ms = opts.investigate_ms,
    holder = opts.holder, users = self.users, reports = self.reports,
  })
  self:set_settings(opts.settings)
  return self
end

--- Puts another policy in force. Findings go on under their changed rules; those of a rule that is
--- gone end, and their alerts are resolved by `policy`.
---@param policy table
function Rules:set_policy(policy)
  self.policy = policy
  self.firing.renotify_ms = policy.renotify_ms
  self.reports:clear()
  local problems
  self.rules, problems = rule_set.compile(self.domain.rules, policy.rules)
  for _, problem in ipairs(problems) do
    self.reports:tell(problem.type, problem.error)
  end
  self.by_type = {}
  for _, rule in ipairs(self.rules) do
    self.by_type[rule.type] = rule
  end
  for _, entry in ipairs(self:all()) do
    if self.by_type[entry.finding.type] then
      entry.rule = self.by_type[entry.finding.type]
    else
      self:finish(entry, "policy")
    end
  end
end

--- Takes other settings of the domain; see runtime/rules/alerts.lua.
---@param settings? string
function Rules:set_settings(settings)
  self.firing.settings = settings
end

--- The entry of a finding's type and subject, or nil.
---@param finding rules.Finding
---@return rules.Entry?
function Rules:entry(finding)
  local by_subject = self.entries[finding.type]
  return by_subject and by_subject[finding.subject]
end

--- Adds an entry.
---@param entry rules.Entry
function Rules:put(entry)
  local finding = entry.finding
  self.entries[finding.type] = self.entries[finding.type] or {}
  self.entries[finding.type][finding.subject] = entry
end

--- All entries.
---@return rules.Entry[]
function Rules:all()
  local list = {}
  for _, by_subject in pairs(self.entries) do
    for _, entry in pairs(by_subject) do
      list[#list + 1] = entry
    end
  end
  return list
end

--- A watcher that has this alert, or nil.
---@param id string
---@return detector.Detector?
function Rules:holder(id)
  for _, entry in ipairs(self:all()) do
    local user = self.firing:holder(entry, id)
    if user then
      return user
    end
  end
end

--- All findings as they are for a watcher, the worst and oldest first.
---@param user detector.Detector
---@return rules.Finding[]
function Rules:findings(user)
  local list = {}
  for i, entry in ipairs(self:all()) do
    list[i] = told.view(entry, user)
  end
  table.sort(list, function(a, b)
    if a.severity ~= b.severity then
      return RANK[a.severity] > RANK[b.severity]
    elseif a.since ~= b.since then
      return a.since < b.since
    end
    return a.type .. "\0" .. a.subject < b.type .. "\0" .. b.subject
  end)
  return list
end

-- For how long of sampled time the last sample and this one stand: never more than the two can, so
-- that what was not looked at does not count.
function Rules:step_ms(sample)
  local last = self.last_sample
  self.last_sample = sample
  if not last or sample.after_gap then
    return 0
  end
  local most = 2 * self.policy.sample_ms + (sample.took_ms or 0)
  return math.max(0, math.min(sample.mono_ms - last.mono_ms, most))
end

--- Asks all rules about the newest sample of the history.
---@param sample history.Sample
function Rules:evaluate(sample)
  local step_ms = self:step_ms(sample)
  local data = sample.data
  local node = {
    name = self.meta.node, uptime_s = data.uptime_s, schedulers_online = data.schedulers_online,
  }
  for _, rule in ipairs(self.rules) do
    if rule.left_to and self.is_watched(rule.left_to) then
      self:leave(rule)
    else
      self:ask(rule, node, sample, step_ms)
    end
  end
end

-- Another watcher of the node tells of it: one fault is one alert.
function Rules:leave(rule)
  for _, entry in pairs(self.entries[rule.type] or {}) do
    self:finish(entry, "policy")
  end
end

function Rules:ask(rule, node, sample, step_ms)
  local held = {}
  for subject, entry in pairs(self.entries[rule.type] or {}) do
    held[subject] = entry.finding.phase ~= "pending" and record.copy(entry.finding) or nil
  end
  local found, err = rule_set.ask(rule, self.history, node, held)
  if found then
    local ok, failure = async.pcall(self.apply, self, rule, found, sample, step_ms)
    err = not ok and tostring(failure) or nil
  end
  if err then
    self.reports:tell(rule.type, err)
  end
end

function Rules:apply(rule, found, sample, step_ms)
  local by_subject = self.entries[rule.type] or {}
  self.entries[rule.type] = by_subject
  local count = 0
  for _, entry in pairs(by_subject) do
    entry.is_seen = false
    count = count + 1
  end
  for _, seen in ipairs(found) do
    local entry = by_subject[seen.subject]
    if entry then
      self:hold(entry, seen, sample, step_ms)
    elseif count < MAX_SUBJECTS then
      count = count + 1
      self:begin(rule, seen, sample)
    else
      self.reports:tell(rule.type, ("more than %d subjects at once: the others are left out")
        :format(MAX_SUBJECTS))
    end
  end
  for _, entry in pairs(by_subject) do
    if not entry.is_seen then
      self:miss(entry, step_ms)
    end
  end
end

local FIGURES = {
  "severity", "value", "threshold", "unit", "per_s", "eta_s", "summary", "figures", "pid",
}

local function take_figures(entry, seen, sample)
  for _, name in ipairs(FIGURES) do
    entry.finding[name] = record.copy(seen[name])
  end
  entry.sample, entry.is_seen = sample, true
  entry.first_sample = entry.first_sample or sample
  entry.is_restored = nil
end

function Rules:begin(rule, seen, sample)
  local entry = {
    rule = rule, held_ms = 0, clear_ms = 0, first_sample = sample,
    begun_ms = self.clock.now_ms(),
    alert_of = {}, refused_by = {}, is_open = true,
    finding = {
      id = ids.hex(16), type = rule.type, subject = seen.subject, phase = "pending",
      since = sample.at_ms,
    },
  }
  take_figures(entry, seen, sample)
  self:put(entry)
  if self.sweep then
    self.sweep:hasten() -- so that its alert shows who is at work now
  end
  told.all(self, entry, "pending")
  self:hold(entry, seen, sample, 0)
end

-- The rule finds it (still).
function Rules:hold(entry, seen, sample, step_ms)
  local finding = entry.finding
  take_figures(entry, seen, sample)
  entry.held_ms = entry.held_ms + step_ms
  if finding.phase == "pending" and entry.held_ms >= entry.rule.hold_ms then
    finding.phase = "firing"
    finding.muted = self:is_muted(entry) or nil
    entry.trace_id = ids.hex(32)
    entry.told_rank, entry.told_value = RANK[finding.severity], finding.value
    told.all(self, entry, "firing")
    self.firing:begin(entry)
  elseif finding.phase ~= "pending" then
    finding.phase = "firing"
    finding.muted = self:is_muted(entry) or nil
    self:go_on(entry)
  end
end

function Rules:is_muted(entry)
  return mute.is_muted(self.policy.mute, entry.finding.type, entry.sample.at_ms)
end

local function has_worsened(entry)
  local value, before = entry.finding.value, entry.told_value
  return RANK[entry.finding.severity] > entry.told_rank
    or (value and before and before > 0 and value >= 2 * before)
end

-- A firing finding was seen again.
function Rules:go_on(entry)
  local finding = entry.finding
  local worsened = not finding.muted and has_worsened(entry)
  entry.told_value = entry.told_value or finding.value
  if worsened then
    entry.told_rank = math.max(entry.told_rank, RANK[finding.severity])
    entry.told_value = finding.value
    entry.refused_by, entry.evidence, entry.is_open = {}, nil, true
    told.all(self, entry, "worsened")
  end
  self.firing:go_on(entry, worsened)
end

-- The rule does not find it.
function Rules:miss(entry, step_ms)
  local finding = entry.finding
  if finding.phase == "pending" then
    self:finish(entry, "rule")
    return
  elseif restored.is_too_early(entry, self.history) then
    return
  end
  if finding.phase == "firing" then
    finding.phase = "clearing"
    entry.clear_ms = 0
  else
    entry.clear_ms = entry.clear_ms + step_ms
  end
  if entry.clear_ms >= entry.rule.clear_hold_ms then
    self:finish(entry, "rule")
  end
end

-- Ends a finding, and the alert that it fired.
function Rules:finish(entry, by)
  local finding = entry.finding
  self.entries[finding.type][finding.subject] = nil
  self.firing:resolve(entry, by)
  told.all(self, entry, "cleared")
end

--- Ends all findings: the node restarted, left, or is watched no more.
---@param by "restart"|"left"|"policy"
function Rules:clear(by)
  self.last_sample = nil
  for _, entry in ipairs(self:all()) do
    self:finish(entry, by)
  end
end

--- Ends investigations: those under way are cut short, but their alerts are fired.
function Rules:stop()
  self.firing:stop()
end

return M
