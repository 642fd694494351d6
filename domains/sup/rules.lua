--- The rules of the sup domain. They look at what the sweep's part for supervisors keeps
--- (runtime/sweep/children.lua), and at how the children of each supervisor went.

local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local LONG_S, SHORT_S = 30 * 60, 5 * 60
local SHORT_ETA_S, HOUR_S, DAY_S = 10 * 60, 3600, 24 * 3600
local FLOOR = 500
local STORM_PER_S = 1
local STORM_PASSES = 2
local SETTLED_S = 30 * 60

local function newest(history)
  local sample = history:latest()
  local pass = sample and sample.sweep
  return pass and pass.supervisors, sample
end

-- Whether load explains it: ports, or the processes that are not below this supervisor, grew alike;
-- by their share or by their number, since one that was small grows by a large share.
local function is_explained(growth, samples)
  local first, last = samples[1].data, samples[#samples].data
  local before = { ports = trends.number(first, "port_count") }
  local now = { ports = trends.number(last, "port_count") }
  local were, are = trends.number(first, "process_count"), trends.number(last, "process_count")
  before.others, now.others = were and were - growth.before, are and are - growth.now
  for key, was in pairs(before) do
    if now[key] and now[key] - was >= (growth.now - growth.before) / 2 then
      return true
    end
  end
  return trends.is_explained(growth, before, now, { "ports", "others" })
end

local function growth_of(history, pid, data)
  for _, window_s in ipairs({ LONG_S, SHORT_S }) do
    local growth = trends.steady(history:track("supervisors", pid, "children", window_s), window_s,
      FLOOR)
    if growth and not is_explained(growth, history:since(window_s)) then
      local limit = trends.number(data, "process_limit")
      growth.eta_s = limit and math.max(0, limit - data.process_count) / growth.per_s
      if growth.eta_s and growth.eta_s < (window_s == LONG_S and DAY_S or SHORT_ETA_S) then
        return growth
      end
    end
  end
  return nil
end

--- Children of one supervisor that become more and more while nothing else does (S09).
function M.growth(history, node)
  local found, sample = newest(history)
  if not found or trends.is_quiet(history, node) then
    return nil
  end
  local findings = {}
  for pid, row in pairs(found.rows) do
    local growth = row.children >= FLOOR and growth_of(history, pid, sample.data)
    if growth then
      findings[#findings + 1] = {
        subject = row.subject, pid = pid,
        severity = growth.eta_s < HOUR_S and "critical" or "warning",
        value = growth.now, threshold = sample.data.process_limit, unit = "children",
        per_s = growth.per_s, eta_s = growth.eta_s,
        summary = ("%s %s: %s children, %s %s before, and nothing else grows; the limit of %s "
          .. "processes in %s"):format(row.name, pid, units.format_count(growth.now),
          units.format_count(growth.before), units.format_duration(growth.seconds * 1000),
          units.format_count(sample.data.process_limit), trends.format_eta(growth.eta_s)),
        figures = { trends.figure("children", growth.now, "children", growth.before) },
      }
    end
  end
  return findings
end

-- In each of the last passes it was restarting permanent children, more than one a second.
local function storms(passes, pid)
  for i = #passes - STORM_PASSES + 1, #passes do
    local found = passes[i] and passes[i].supervisors
    local row = found and found.rows[pid]
    if not row or not row.restarts or row.restarts.per_s <= STORM_PER_S then
      return false
    end
  end
  return true
end

--- Permanent children that crash and are restarted, again and again (S24).
function M.storm(history)
  local found = newest(history)
  local findings, passes = {}, {}
  for _, pass in ipairs(history:sweeps()) do
    passes[#passes + 1] = pass.supervisors and pass
  end
  for pid, row in pairs(found and found.rows or {}) do
    if row.restarts and storms(passes, pid) then
      local restarts = row.restarts
      local who = #restarts.ids == 1 and restarts.ids[1] or ("%d children"):format(#restarts.ids)
      findings[#findings + 1] = {
        subject = #restarts.ids == 1 and ("%s: %s"):format(row.subject, who) or row.subject,
        pid = pid, severity = "warning",
        value = restarts.per_s, threshold = STORM_PER_S, unit = "restarts/s",
        summary = ("%s %s restarts %s again and again: %d times or more in %.1f s"):format(row.name,
          pid, who, restarts.restarts, restarts.seconds),
        figures = { trends.figure("restarts_per_s", restarts.per_s, "restarts/s") },
      }
    end
  end
  return findings
end

local REASONS = {
  restarting = "it is to be restarted and does not start",
  silent = "it does not run, and its supervisor does not answer",
}

local function missing_finding(row, missing, now_ms)
  return {
    subject = ("%s: %s"):format(row.subject, missing.id), pid = row.pid, severity = "warning",
    value = (now_ms - missing.since_ms) / 1000, unit = "s",
    summary = ("%s of %s %s is missing: %s"):format(missing.id, row.name, row.pid,
      REASONS[missing.state]),
  }
end

local function gone_finding(gone, now_ms)
  return {
    subject = gone.name, severity = "critical",
    value = (now_ms - gone.since_ms) / 1000, unit = "s",
    summary = ("supervisor %s is no more; it had run for %s or longer%s"):format(gone.name,
      units.format_duration(gone.seen_s * 1000),
      gone.application and (", and its application %s still runs"):format(gone.application) or ""),
  }
end

--- What has run for 30 min and does not run any more, though nobody stopped it (S25).
function M.missing(history)
  local found = newest(history)
  local findings = {}
  for _, row in pairs(found and found.rows or {}) do
    for _, missing in ipairs(row.registered and row.missing or {}) do
      if missing.seen_s >= SETTLED_S then
        findings[#findings + 1] = missing_finding(row, missing, found.mono_ms)
      end
    end
  end
  for _, gone in ipairs(found and found.gone or {}) do
    if gone.seen_s >= SETTLED_S then
      findings[#findings + 1] = gone_finding(gone, found.mono_ms)
    end
  end
  return findings
end

local INVESTIGATE_CHILDREN = [[
local rows = sup_list()
table.sort(rows, function(a, b) return a.active_children > b.active_children end)
local largest = {}
for i = 1, math.min(8, #rows) do
  local row = rows[i]
  largest[i] = { name = row.name, pid = row.pid, child_count = row.child_count,
    active_children = row.active_children, application = row.application }
end
return { largest = largest, supervisors = #rows }
]]

local INVESTIGATE_ONE = [[
local finding = type(args) == "table" and args or {}
local who = finding.pid or finding.subject or "kernel_sup"
local first = sup_children(who)
sleep(500)
local second = sup_children(who)
if first.error or second.error then
  return { supervisor = who, error = first.error or second.error }
end
local before, rows = {}, {}
for _, child in ipairs(first) do
  if child.id then before[child.id] = child.pid end
end
for _, child in ipairs(second) do
  local was = child.id and before[child.id]
  if #rows < 20 and (was ~= child.pid or child.pid == "restarting" or child.pid == "undefined") then
    rows[#rows + 1] = { id = child.id, pid = child.pid, pid_500_ms_before = was, type = child.type }
  end
end
return { supervisor = who, children = #second, not_as_before = rows }
]]

-- Commands for an Erlang shell on the node.
local function look_at_supervisor(finding)
  local a, b, c = tostring(finding.pid):match("^<(%d+)%.(%d+)%.(%d+)>$")
  if not a then
    return { "supervisor:which_children(kernel_sup).", "application:which_applications()." }
  end
  local pid = ("c:pid(%s,%s,%s)"):format(a, b, c)
  return {
    ("supervisor:count_children(%s)."):format(pid),
    ("lists:sublist(supervisor:which_children(%s), 20)."):format(pid),
  }
end

---@type rule_set.Rule[]
M.rules = {
  {
    type = "child_growth", severity = "warning", hold = "60s", clear_hold = "5m",
    looks_back = "30m",
    title = "Children of a supervisor pile up",
    when = M.growth, investigate = INVESTIGATE_CHILDREN, next = look_at_supervisor,
  },
  {
    -- Two passes have seen it, ten seconds apart; a hold of ten more would depend on whether a
    -- sample comes a millisecond early.
    type = "restart_storm", severity = "warning", hold = "5s", clear_hold = "30s",
    title = "A child is restarted again and again",
    when = M.storm, investigate = INVESTIGATE_ONE, next = look_at_supervisor,
  },
  {
    type = "child_missing", severity = "warning", hold = "60s", clear_hold = "20s",
    title = "A child or supervisor is missing",
    when = M.missing, investigate = INVESTIGATE_ONE, next = look_at_supervisor,
  },
}

return M
