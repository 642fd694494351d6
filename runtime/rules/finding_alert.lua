--- From a finding that held to its alert: the investigation, the words, the commands to paste.

local async = require("runtime.async")
local history = require("runtime.history")
local ids = require("runtime.ids")
local units = require("runtime.units")

local M = {}

local MAX_PASTED = 300

local function failed_execution(rule, started_ms, clock, kind, message)
  return {
    id = ids.hex(16),
    code = rule.investigate,
    at_ms = clock.wall_ms(),
    duration_ms = clock.now_ms() - started_ms,
    source = "rule",
    calls = 0,
    error = { kind = kind, message = message },
  }
end

--- Runs a rule's `investigate` in the sandbox. The script sees the finding as `args`. Whatever goes
--- wrong is in the record that comes back.
---@async
---@param opts { executor: table, rule: rule_set.Rule, finding: table, trace_id: string,
--- clock: clock.Clock, timeout_ms: number }
---@return table execution
function M.investigate(opts)
  local started_ms = opts.clock.now_ms()
  local task = async.spawn(function()
    return opts.executor:run(opts.rule.investigate,
      { source = "rule", trace_id = opts.trace_id, args = opts.finding })
  end, { name = "investigate " .. opts.rule.type, on_error = function() end })
  local ok, execution, err = task:join(opts.timeout_ms)
  if ok == nil then
    task:cancel()
    return failed_execution(opts.rule, started_ms, opts.clock, "timeout",
      ("the investigation did not end within %s"):format(units.format_duration(opts.timeout_ms)))
  end
  if not ok or type(execution) ~= "table" then
    return failed_execution(opts.rule, started_ms, opts.clock, "host",
      tostring(not ok and execution or err):match("^[^\n]*"))
  end
  return execution
end

--- A text as one word of a shell's command line.
---@param text string
---@return string
function M.shell_word(text)
  if text:find("^[%w_@%.%-]+$") then
    return text
  end
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- Code that works as one line on a command line, or nil.
local function one_liner(code)
  if not code or code:find("--", 1, true) or code:find("[[", 1, true) or code:find("args") then
    return nil
  end
  local line = code:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
  return #line <= MAX_PASTED and line or nil
end

--- The settings of a watcher as options of a command line; those that are secret, or as the domain
--- has them by default, are left out.
---@param domain domain.Domain
---@param settings? table<string, any>
---@return string
function M.setting_options(domain, settings)
  local options = {}
  for _, setting in ipairs(settings and domain.settings or {}) do
    local value = settings[setting.name]
    if value ~= setting.default and not setting.secret then
      options[#options + 1] = " --set " .. M.shell_word(("%s=%s"):format(setting.name,
        tostring(value)))
    end
  end
  return table.concat(options)
end

local function commands(rule, finding, meta, settings)
  if type(rule.next) == "function" then
    local ok, list = async.pcall(rule.next, finding)
    if ok and type(list) == "table" then
      return list
    end
  elseif rule.next then
    return rule.next
  end
  -- A label of what is no node has no @; see runtime/policy/nodes.lua.
  local on_node = meta.node:find("@", 1, true) and " --node " .. M.shell_word(meta.node) or ""
  on_node = on_node .. (settings or "")
  local list = {}
  local code = one_liner(rule.investigate)
  if code then
    list[1] = ("beamlens exec %s%s -e %s"):format(meta.domain, on_node, M.shell_word(code))
  end
  list[#list + 1] = ("beamlens snapshot %s%s"):format(meta.domain, on_node)
  return list
end

local function amount(value, unit)
  local text = value % 1 == 0 and units.format_count(value) or ("%.1f"):format(value)
  return unit and text .. " " .. unit or text
end

--- What a finding says in one line; its own summary where it has one.
---@param finding table
---@param held_ms number For how long it has held.
---@return string
function M.summary(finding, held_ms)
  if finding.summary then
    return finding.summary
  end
  local who = finding.subject .. (finding.pid and " " .. finding.pid or "")
  local parts = { finding.type:gsub("_", " ") .. "" }
  if finding.value then
    parts[1] = parts[1] .. " " .. amount(finding.value, finding.unit)
  end
  if finding.threshold then
    parts[1] = ("%s (bound %s)"):format(parts[1], amount(finding.threshold, finding.unit))
  end
  if finding.per_s then
    parts[#parts + 1] = ("%s%s/s"):format(finding.per_s >= 0 and "+" or "", amount(finding.per_s))
  end
  parts[#parts + 1] = "for " .. units.format_duration(held_ms)
  if finding.eta_s then
    parts[#parts + 1] = "limit in about " .. units.format_duration(finding.eta_s * 1000)
  end
  return who .. ": " .. table.concat(parts, ", ")
end

--- A sample as alerts and models see it.
---@param sample history.Sample
---@return { id: string, captured_at: number, data: table }
function M.snapshot(sample)
  return { id = sample.id, captured_at = sample.at_ms, data = history.whole(sample.data) }
end

--- Several samples so.
---@param samples history.Sample[]
---@return { id: string, captured_at: number, data: table }[]
function M.snapshots(samples)
  local list = {}
  for i, sample in ipairs(samples) do
    list[i] = M.snapshot(sample)
  end
  return list
end

--- What changes of an alert while its finding holds.
---@param finding table
---@param held_ms number
---@return { summary: string, figures: table[], trend?: table }
function M.seen(finding, held_ms)
  local figures = finding.figures
  if not figures and finding.value then
    figures = { { name = finding.type, value = finding.value, unit = finding.unit } }
  end
  return {
    summary = M.summary(finding, held_ms),
    figures = figures,
    trend = (finding.per_s or finding.eta_s)
      and { per_s = finding.per_s, eta_s = finding.eta_s } or nil,
  }
end

--- The request for `alerts:fire`.
---@param opts { meta: table, rule: rule_set.Rule, finding: table, held_ms: number,
--- samples: history.Sample[], executions: table[], trace_id: string, renotify_ms?: number,
--- settings?: string } `settings`: options to reach the same thing, as of `setting_options`.
---@return table
function M.request(opts)
  local rule, finding, meta = opts.rule, opts.finding, opts.meta
  local request = M.seen(finding, opts.held_ms)
  request.watcher, request.domain, request.node = meta.watcher, meta.domain, meta.node
  request.type, request.subject = finding.type, finding.subject
  request.severity = finding.severity
  request.title = ("%s: %s"):format(rule.title or finding.type:gsub("_", " "), finding.subject)
  request.snapshots = {}
  for _, sample in ipairs(opts.samples) do
    local last = request.snapshots[#request.snapshots]
    if not last or last.id ~= sample.id then
      request.snapshots[#request.snapshots + 1] = M.snapshot(sample)
    end
  end
  request.executions = opts.executions
  request.findings = { finding }
  request.next = commands(rule, finding, meta, opts.settings)
  request.source, request.corroborated = "rule", true
  request.trace_id, request.renotify_ms = opts.trace_id, opts.renotify_ms
  return request
end

return M
