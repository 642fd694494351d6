--- Findings of before a restart of the host: they go on from their alerts, which still fire.
---
--- Such a finding counts as held, so that its alert is not told anew when its rule finds it again.
--- When the rule does not, it clears as any other, but not before there is as much history as the
--- rule needs to find anything.

local record = require("runtime.alerts.record")

local M = {}

local RANK = record.SEVERITY_RANK

--- The finding that an alert was fired for; nil for a model's alert that none supported.
---@param alert alerts.Alert
---@return rules.Finding?
function M.finding(alert)
  local first = alert.findings[1]
  local is_own = type(first) == "table" and first.type == alert.type
    and type(first.subject) == "string"
  if not is_own and alert.source ~= "rule" then
    return nil
  end
  local finding = is_own and record.copy(first)
    or { id = alert.id, type = alert.type, subject = alert.subject, since = alert.detected_at }
  finding.severity, finding.phase = alert.severity, "firing"
  finding.alert_id, finding.muted, finding.refused = alert.id, nil, nil
  return finding
end

--- When it began, by the monotonic clock of this run.
---@param finding rules.Finding
---@param clock clock.Clock
---@return number
function M.begun_ms(finding, clock)
  return clock.now_ms() - math.max(0, clock.wall_ms() - finding.since)
end

--- Gives a firing alert back to the rules of its watcher.
---@param rules rules.Rules
---@param user detector.Detector The watcher's.
---@param alert alerts.Alert
---@return boolean ok False when the rule that fired it is in force no more.
function M.adopt(rules, user, alert)
  local finding = M.finding(alert)
  if not finding then
    return true
  end
  local rule = rules.by_type[alert.type]
  if not rule then
    return alert.source ~= "rule"
  end
  local entry = rules:entry(finding)
  if not entry then
    entry = {
      rule = rule, finding = finding, held_ms = math.max(0, alert.last_seen - alert.detected_at),
      begun_ms = M.begun_ms(finding, rules.clock), clear_ms = 0, trace_id = alert.trace_id,
      told_rank = RANK[finding.severity], told_value = finding.value, is_restored = true,
      alert_of = {}, refused_by = {}, is_open = true,
    }
    finding.alert_id = nil
    rules:put(entry)
  end
  rules.firing:set_alert(entry, user, alert.id)
  return true
end

--- Whether a finding that its rule does not find is to be kept as it is: the rule cannot know yet.
---@param entry table Of runtime/rules.lua.
---@param history history.History
---@return boolean
function M.is_too_early(entry, history)
  return entry.is_restored == true and not history:covers(entry.rule.looks_back_s)
end

return M
