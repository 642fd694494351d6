--- The rules that are in force for a watcher: those of its domain, as its policy changes them.

local async = require("runtime.async")
local record = require("runtime.alerts.record")
local units = require("runtime.units")

local M = {}

local DEFAULT_HOLD, DEFAULT_LOOK_BACK = "60s", "5m"

---@class rule_set.Rule
---@field type string
---@field severity "info"|"warning"|"critical" Of a finding that says none.
---@field forced_severity? string The policy's; findings have no say then.
---@field hold_ms number
---@field clear_hold_ms number
---@field looks_back_s number How much history it needs before it can find anything.
---@field when fun(history, node, held): table|nil
---@field subject? string Of a finding that names none. Default: the node.
---@field left_to? string A domain that has this rule, too: asked only where no watcher of it is.
---@field investigate? string Lua for the sandbox; the finding is its `args`.
---@field title? string
---@field next? string[]|fun(finding: table): string[]

local function hold_ms(ms, text)
  return ms or assert(units.duration_ms(text or DEFAULT_HOLD))
end

local function read_rule(rule, change)
  change = change or {}
  if type(rule) ~= "table" or type(rule.type) ~= "string" or type(rule.when) ~= "function" then
    error("a rule needs a type and a function when", 0)
  end
  local severity = change.severity or rule.severity or "warning"
  if not record.SEVERITY_RANK[severity] then
    error(("the severity of rule %s is info, warning or critical"):format(rule.type), 0)
  end
  return {
    type = rule.type,
    severity = severity,
    forced_severity = change.severity,
    hold_ms = hold_ms(change.hold_ms or rule.hold_ms, rule.hold),
    clear_hold_ms = hold_ms(change.clear_hold_ms or rule.clear_hold_ms, rule.clear_hold),
    looks_back_s = hold_ms(nil, rule.looks_back or DEFAULT_LOOK_BACK) / 1000,
    when = rule.when,
    subject = rule.subject,
    left_to = rule.left_to,
    investigate = rule.investigate,
    title = rule.title,
    next = rule.next,
  }
end

local function type_of(rule)
  return type(rule) == "table" and tostring(rule.type) or "?"
end

--- Brings rules and changes together. A further detector in the list part of `changes` takes the
--- place of the domain's rule of the same type. A rule that cannot be read is left out.
---@param domain_rules table[]
---@param changes? table By type; in its list part further detectors.
---@return rule_set.Rule[] rules
---@return { type: string, error: string }[] problems
function M.compile(domain_rules, changes)
  changes = changes or {}
  local sources, position = {}, {}
  for _, list in ipairs({ domain_rules or {}, changes }) do
    for _, rule in ipairs(list) do
      local at = position[type_of(rule)] or #sources + 1
      sources[at] = rule
      position[type_of(rule)] = at
    end
  end
  local rules, problems = {}, {}
  for _, source in ipairs(sources) do
    local name = type_of(source)
    local ok, rule = pcall(read_rule, source, changes[name])
    if not ok then
      problems[#problems + 1] = { type = name, error = tostring(rule) }
    elseif not changes[name] or changes[name].enabled ~= false then
      rules[#rules + 1] = rule
    end
  end
  return rules, problems
end

local NUMBERS = { "value", "threshold", "per_s", "eta_s" }

local function finite(value)
  return type(value) == "number" and value == value and math.abs(value) < math.huge
end

-- One finding as a rule returned it, with its defaults.
local function read_finding(rule, raw, node_name)
  if type(raw) ~= "table" then
    error(("a finding is a table, not a %s"):format(type(raw)), 0)
  end
  local finding = {
    subject = tostring(raw.subject or rule.subject or node_name),
    severity = rule.forced_severity or raw.severity or rule.severity,
    figures = type(raw.figures) == "table" and raw.figures or nil,
  }
  for _, name in ipairs({ "unit", "summary", "pid" }) do
    finding[name] = type(raw[name]) == "string" and raw[name] or nil
  end
  if not record.SEVERITY_RANK[finding.severity] then
    error(("a finding's severity is info, warning or critical, not %s")
      :format(tostring(finding.severity)), 0)
  end
  for _, name in ipairs(NUMBERS) do
    finding[name] = finite(raw[name]) and raw[name] or nil
  end
  return finding
end

local function ask(rule, history, node, held)
  local result = rule.when(history, node, held)
  if not result then
    return {}
  end
  if type(result) ~= "table" then
    error(("when returned a %s; it returns nil, a finding or a list of them"):format(type(result)),
      0)
  end
  local list = (result[1] ~= nil or next(result) == nil) and result or { result }
  local found, position = {}, {}
  for _, raw in ipairs(list) do
    local finding = read_finding(rule, raw, node.name)
    local at = position[finding.subject]
    if not at then
      found[#found + 1] = finding
      position[finding.subject] = #found
    elseif record.SEVERITY_RANK[finding.severity]
      > record.SEVERITY_RANK[found[at].severity] then
      found[at] = finding -- two of one name: the worse stands for both
    end
  end
  return found
end

--- Asks a rule what it finds now. What it raises, and a result that is none, come back as an error.
---@param rule rule_set.Rule
---@param history history.History
---@param node { name: string, uptime_s?: number, schedulers_online?: number }
---@param held table<string, table> The findings of this rule that held for their time, by subject.
---@return table[]? found One per subject.
---@return string? err
function M.ask(rule, history, node, held)
  local ok, found = async.pcall(ask, rule, history, node, held)
  if not ok then
    return nil, tostring(found)
  end
  return found
end

return M
