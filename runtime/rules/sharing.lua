--- Watchers that come to share an evaluation of rules, leave it, or go on with one of their own.
---
--- What a watcher holds of a finding (its alert, or why its guard refused that) goes where it goes.

local record = require("runtime.alerts.record")
local told = require("runtime.rules.told")

local M = {}

local function announce(rules, user, entry)
  told.one(rules, user, entry, "pending")
  if entry.finding.phase ~= "pending" then
    told.one(rules, user, entry, "firing")
  end
end

--- A watcher begins to be told. It learns of what there is already, but not of what it had before a
--- restart of the host.
---@param rules rules.Rules
---@param user detector.Detector
function M.begin(rules, user)
  rules.users:changed()
  for _, entry in ipairs(rules:all()) do
    entry.is_open, entry.alert_ids = true, nil
    if not entry.is_restored then
      announce(rules, user, entry)
    end
  end
end

-- Takes a watcher off a finding, which ends for it where it is said by what.
local function drop(rules, user, entry, by)
  rules.firing:drop(entry, user, by)
  if by and user.is_told then
    told.one(rules, user, entry, "cleared")
  end
end

-- An entry as it goes on for one watcher alone.
local function copy(entry, user, rule)
  local own = {}
  for name, value in pairs(entry) do
    own[name] = value
  end
  own.rule, own.finding, own.is_open = rule, record.copy(entry.finding), true
  own.asking, own.alert_ids = nil, nil
  own.alert_of = { [user] = entry.alert_of[user] }
  own.refused_by = { [user] = entry.refused_by[user] }
  return own
end

--- A watcher goes on with rules that are its own. A finding whose rule is gone ends for it by
--- "policy".
---@param from rules.Rules
---@param to rules.Rules
---@param user detector.Detector
function M.continue(from, to, user)
  to.last_sample = from.last_sample
  for _, entry in ipairs(from:all()) do
    local rule = to.by_type[entry.finding.type]
    if rule then
      to:put(copy(entry, user, rule))
    else
      drop(from, user, entry, "policy")
    end
  end
end

--- A watcher goes over to rules that others have. A finding that these do not have ends for it by
--- "policy".
---@param from rules.Rules
---@param to rules.Rules
---@param user detector.Detector
function M.carry(from, to, user)
  for _, entry in ipairs(from:all()) do
    local same = to:entry(entry.finding)
    if same then
      to.firing:set_alert(same, user, entry.alert_of[user])
      same.refused_by[user] = entry.refused_by[user]
    else
      drop(from, user, entry, "policy")
    end
  end
  for _, entry in ipairs(to:all()) do
    entry.is_open = true
    if user.is_told and not from:entry(entry.finding) then
      announce(to, user, entry)
    end
  end
end

--- A watcher leaves; what it has fired stays.
---@param rules rules.Rules
---@param user detector.Detector
function M.leave(rules, user)
  for _, entry in ipairs(rules:all()) do
    drop(rules, user, entry)
  end
  rules.users:remove(user)
end

--- A watcher ends; the others go on.
---@param rules rules.Rules
---@param user detector.Detector
---@param resolved_by? "policy"|"left" Ends all findings for it, and its alerts as resolved by this;
--- not those that another one of them has as well.
function M.stop(rules, user, resolved_by)
  for _, entry in ipairs(rules:all()) do
    if not resolved_by then
      rules.firing:cut_short(entry, user)
    end
    drop(rules, user, entry, resolved_by)
  end
  rules.users:remove(user)
end

return M
