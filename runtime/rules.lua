--- The rule engine of one watcher: asks the rules after each sample and keeps what they find.
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
local restored = require("runtime.rules.restored")
local rule_alerts = require("runtime.rules.alerts")
local rule_set = require("runtime.rules.set")

local M = {}

local MAX_SUBJECTS = 50
local MAX_ERRORS = 20

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
---@field alert_id? string
---@field muted? boolean Its alert is held back by the policy's mute.
---@field refused? string Why the policy's guard holds its alert back.

---@class rules.Rules
local Rules = {}
local rules_mt = { __index = Rules }

--- An engine without findings.
---@param opts { meta: table, domain: table, policy: table, history: history.History,
--- executor: table, alerts: alerts.Alerts, telemetry: telemetry.Bus, clock: clock.Clock,
--- guard?: fun(request: table): table?, string?, settings?: string, investigate_ms?: number,
--- is_watched?: fun(domain: string): boolean }
--- `guard`, `settings` and `investigate_ms`: see runtime/rules/alerts.lua. `is_watched`: whether a
--- watcher of that domain watches the node, too (default: none does).
---@return rules.Rules
function M.new(opts)
  local self = setmetatable({
    meta = opts.meta,
    domain = opts.domain,
    history = opts.history,
    telemetry = opts.telemetry,
    clock = opts.clock,
    is_watched = opts.is_watched or function()
      return false
    end,
    entries = {}, -- type -> subject -> entry
    listeners = {},
    errors = {}, -- type -> distinct error texts that were told
  }, rules_mt)
  self.firing = rule_alerts.new({
    meta = opts.meta, alerts = opts.alerts, executor = opts.executor, clock = opts.clock,
    guard = opts.guard, settings = opts.settings, investigate_ms = opts.investigate_ms,
    report = function(type_name, text)
      self:report(type_name, text)
    end,
  })
  self:set_policy(opts.policy)
  return self
end

function Rules:emit(event, entry, measurements)
  measurements.system_time = self.clock.wall_ms()
  self.telemetry:execute("beamlens." .. event, measurements, {
    watcher = self.meta.watcher, domain = self.meta.domain, node = self.meta.node,
    finding = entry and record.copy(entry.finding),
  })
end

-- Tells of an error once; the same one again, and more than can be new, are left out.
function Rules:report(type_name, text)
  local told = self.errors[type_name] or { count = 0 }
  self.errors[type_name] = told
  local first_line = text:match("^[^\n]*")
  if told[first_line] or told.count >= MAX_ERRORS then
    return
  end
  told[first_line] = true
  told.count = told.count + 1
  self.telemetry:execute("beamlens.rule.failed", { system_time = self.clock.wall_ms() }, {
    watcher = self.meta.watcher, domain = self.meta.domain, node = self.meta.node,
    type = type_name, error = record.summary(text),
  })
end

function Rules:notify(entry, what)
  for _, fn in ipairs(self.listeners) do
    local ok, err = async.pcall(fn, record.copy(entry.finding), what)
    if not ok then
      self:report(entry.finding.type, "a listener of findings failed: " .. tostring(err))
    end
  end
end

--- Calls `fn` whenever a finding begins, fires, worsens or is cleared. It must not wait.
---@param fn fun(finding: rules.Finding, what: "pending"|"firing"|"worsened"|"cleared")
---@return fun() unsubscribe
function Rules:on_finding(fn)
  self.listeners = { unpack(self.listeners) }
  table.insert(self.listeners, fn)
  return function()
    local kept = {}
    for _, other in ipairs(self.listeners) do
      kept[#kept + 1] = other ~= fn and other or nil
    end
    self.listeners = kept
  end
end

--- Puts another policy in force. Findings go on under their changed rules; those of a rule that is
--- gone end, and their alerts are resolved by `policy`.
---@param policy table
function Rules:set_policy(policy)
  self.policy = policy
  self.firing.renotify_ms = policy.renotify_ms
  self.errors = {}
  local problems
  self.rules, problems = rule_set.compile(self.domain.rules, policy.rules)
  for _, problem in ipairs(problems) do
    self:report(problem.type, problem.error)
  end
  local by_type = {}
  for _, rule in ipairs(self.rules) do
    by_type[rule.type] = rule
  end
  for _, entry in ipairs(self:all()) do
    if by_type[entry.finding.type] then
      entry.rule = by_type[entry.finding.type]
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

function Rules:all()
  local list = {}
  for _, by_subject in pairs(self.entries) do
    for _, entry in pairs(by_subject) do
      list[#list + 1] = entry
    end
  end
  return list
end

--- All findings, the worst and oldest first.
---@return rules.Finding[]
function Rules:findings()
  local list = {}
  for _, entry in ipairs(self:all()) do
    list[#list + 1] = record.copy(entry.finding)
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
    self:report(rule.type, err)
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
      self:report(rule.type, ("more than %d subjects at once: the others are left out")
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
    finding = {
      id = ids.hex(16), type = rule.type, subject = seen.subject, phase = "pending",
      since = sample.at_ms,
    },
  }
  take_figures(entry, seen, sample)
  self.entries[rule.type][seen.subject] = entry
  self:emit("finding.pending", entry, { value = seen.value })
  self:notify(entry, "pending")
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
    self:emit("finding.firing", entry, { value = finding.value })
    self:notify(entry, "firing")
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
  local value, told = entry.finding.value, entry.told_value
  return RANK[entry.finding.severity] > entry.told_rank
    or (value and told and told > 0 and value >= 2 * told)
end

-- A firing finding was seen again.
function Rules:go_on(entry)
  local finding = entry.finding
  local worsened = not finding.muted and has_worsened(entry)
  entry.told_value = entry.told_value or finding.value
  if worsened then
    entry.told_rank = math.max(entry.told_rank, RANK[finding.severity])
    entry.told_value = finding.value
    finding.refused = nil
    self:notify(entry, "worsened")
  end
  if not finding.alert_id then
    self.firing:begin(entry)
  elseif worsened then
    self.firing:fire(entry, {})
  else
    self.firing:refresh(entry)
  end
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
  self:emit("finding.cleared", entry, { duration = self.clock.now_ms() - entry.begun_ms })
  self:notify(entry, "cleared")
end

--- Ends all findings: the node restarted, left, or is watched no more.
---@param by "restart"|"left"|"policy"
function Rules:clear(by)
  self.last_sample = nil
  for _, entry in ipairs(self:all()) do
    self:finish(entry, by)
  end
end

--- Stops. Investigations under way are cut short, but their alerts are fired.
function Rules:stop()
  self.firing:stop()
end

return M
