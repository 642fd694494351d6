--- The client without a model: it sets the state from what the rules found, and waits.
---
--- It keeps a watcher's loop going when there is no key, and is the last resort when models fail.

local units = require("runtime.units")

local M = {}

M.options = {}

---@class providers.Rules
local Rules = {}
local rules_mt = { __index = Rules }

local LEVEL = { healthy = 0, observing = 1, warning = 2, critical = 3 }
local STATE_OF_SEVERITY = { info = "observing", warning = "warning", critical = "critical" }
local MAX_REASON = 300

--- Creates the provider.
function M.new()
  return setmetatable({ model = "rules", options = {}, calls = 0 }, rules_mt)
end

--- It needs none.
function Rules:has_key() -- luacheck: no unused args
  return true
end

-- The state that one finding means. A clearing one still holds: its alert still fires.
local function state_of_finding(finding)
  if finding.phase == "pending" then
    return "observing"
  end
  return STATE_OF_SEVERITY[finding.severity] or "observing"
end

-- The worst of a list: its state and itself. Of equal ones the first.
local function worst_of(list, state_of)
  local state, worst = "healthy", nil
  for _, item in ipairs(list) do
    local own = state_of(item)
    if LEVEL[own] > LEVEL[state] then
      state, worst = own, item
    end
  end
  return state, worst
end

-- Alerts of rules: one may outlive its finding, and the state must not fall below it.
local function state_of_alert(alert)
  if alert.source ~= "rule" or (alert.status or "firing") ~= "firing" then
    return "healthy"
  end
  return STATE_OF_SEVERITY[alert.severity] or "observing"
end

local function format_number(value)
  if value % 1 == 0 then
    return units.format_count(value)
  end
  return ("%.1f"):format(value)
end

local function trend_of(finding)
  local parts = {}
  if type(finding.per_s) == "number" and finding.per_s ~= 0 then
    local sign = finding.per_s > 0 and "+" or "-"
    parts[#parts + 1] = (", %s%s/s"):format(sign, format_number(math.abs(finding.per_s)))
  end
  if type(finding.eta_s) == "number" then
    local eta = units.format_duration(finding.eta_s * 1000)
    parts[#parts + 1] = (", limit in about %s"):format(eta)
  end
  return table.concat(parts)
end

-- "mailbox_growth of orders_worker is firing: 39 818 messages, +18 900/s, limit in about 6 m"
local function describe_finding(finding)
  local value = ""
  if type(finding.value) == "number" then
    local unit = finding.unit and finding.unit ~= "" and " " .. finding.unit or ""
    value = ": " .. format_number(finding.value) .. unit
  end
  local subject = finding.subject and finding.subject ~= "" and " of " .. finding.subject or ""
  return ("%s%s is %s%s%s"):format(finding.type, subject, finding.phase or "firing", value,
    trend_of(finding))
end

local function describe(state, from, finding, alert, count)
  local text
  if finding then
    text = describe_finding(finding)
  elseif alert then
    text = ("the alert %s of %s still fires"):format(alert.type, tostring(alert.subject))
  else
    text = ("no rule finds anything; the state was %s"):format(tostring(from))
  end
  if count > 1 and state ~= "healthy" then
    text = ("%s; %d findings in all"):format(text, count)
  end
  return text:sub(1, MAX_REASON)
end

-- True when the conversation ends with this very change: it had no effect, so that it is not
-- asked for again and again.
local function already_tried(request, state)
  for i = #(request.messages or {}), 1, -1 do
    local call = request.messages[i].call
    if call then
      return call.name == "set_state" and (call.args or {}).state == state
    end
  end
  return false
end

local function choose(request)
  local context = request.context
  if not context then
    error("the rules client needs request.context", 3)
  end
  local findings = context.findings or {}
  local state, finding = worst_of(findings, state_of_finding)
  local alert_state, alert = worst_of(context.alerts or {}, state_of_alert)
  if LEVEL[alert_state] > LEVEL[state] then
    state, finding = alert_state, nil
  end
  local reason = describe(state, context.state, finding, alert, #findings)
  if state ~= context.state and not already_tried(request, state) then
    return "set_state", { state = state, reason = reason }
  end
  return "wait", { ms = context.wait.max_ms, reason = reason }
end

--- Decides from `request.context` alone.
---@param request table
---@return table result
function Rules:decide(request)
  self.calls = self.calls + 1
  local tool, args = choose(request)
  return {
    tool = tool,
    args = args,
    id = ("rules_%d"):format(self.calls),
    text = "",
    stop = "tool_use",
    usage = { input = 0, output = 0, cache_read = 0, cache_write = 0 },
    model = self.model,
  }
end

return M
