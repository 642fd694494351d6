--- The rules of the beam domain about who watches and who waits for whom: monitors that are never
--- given up (S22), and processes that wait for each other's answer (S23).

local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local WINDOW_S = 30 * 60
local MANY = 10000
local LEAST_RISE = 5000
local REPEATED = 2 -- monitors for each different process
local CERTAIN_S, LIKELY_S = 15, 60
local KEPT_S = 5 * 60
-- What it costs a waiting process to be looked at by a pass, and to get a message that it does not
-- take.
local LOOKED_AT, PER_ARRIVAL = 40, 4
local NAMED = 3

local function latest(history)
  local sample = history:latest()
  return sample and sample.sweep
end

-- Many monitors are normal where there are many to watch: a scope of process groups, say. More than
-- there are processes, or several on each, were forgotten.
local function is_repeated(row, process_count)
  return row.is_bound or row.monitors >= REPEATED * row.monitored
    or (process_count ~= nil and row.monitors > process_count)
end

--- Monitors of one process that become ever more, on those whom it monitors already (S22).
function M.growth(history, node)
  local pass = latest(history)
  if not pass or not pass.monitors or trends.is_quiet(history, node) then
    return nil
  end
  local process_count = trends.number(history:latest().data, "process_count")
  local list = {}
  for pid, row in pairs(pass.monitors.rows) do
    if row.monitors >= MANY and is_repeated(row, process_count) then
      local growth = trends.steady(history:track("monitors", pid, "monitors", WINDOW_S), WINDOW_S,
        LEAST_RISE)
      if growth then
        list[#list + 1] = {
          subject = row.subject, pid = pid, severity = "warning", value = row.monitors,
          threshold = MANY, unit = "monitors", per_s = growth.per_s,
          summary = ("%s %s: %s%s monitors%s, %s %s before"):format(row.name, pid,
            row.is_bound and "more than " or "", units.format_count(row.monitors),
            row.monitored and (" of %s processes"):format(units.format_count(row.monitored)) or "",
            units.format_count(growth.before), units.format_duration(growth.seconds * 1000)),
          figures = { trends.figure("monitors", row.monitors, "monitors", growth.before) },
        }
      end
    end
  end
  return list
end

-- All that can be reached from `pid` by going from one who waits to those it may wait for.
local function reachable(rows, pid)
  local seen, open = {}, { pid }
  while open[1] do
    for _, other in ipairs(rows[table.remove(open)].waits_for) do
      if not seen[other] and rows[other] then
        seen[other] = true
        open[#open + 1] = other
      end
    end
  end
  return seen
end

-- The circles among those that wait: sets of processes of which each can be reached from each, and
-- from which none can be reached that may wait for somebody at work. A circle is certain when its
-- members monitor nobody else; others seem idle, but may owe an answer.
local function circles(rows)
  local from, taken, found = {}, {}, {}
  for pid, row in pairs(rows) do
    from[pid] = row.is_calling and reachable(rows, pid) or {}
  end
  for pid in pairs(rows) do
    if from[pid][pid] and not taken[pid] then
      local circle, is_closed = { pids = {}, is_certain = true }, true
      for other in pairs(from[pid]) do
        if from[other][pid] then
          circle.pids[#circle.pids + 1] = other
          taken[other] = true
        end
        is_closed = is_closed and rows[other].may_answer == 0
        circle.is_certain = circle.is_certain and rows[other].monitored == #rows[other].waits_for
      end
      found[#found + 1] = is_closed and circle or nil
    end
  end
  return found
end

-- It waited for the same ones in an earlier pass, and did nothing since.
local function stood_still(newer, older, pid)
  local was, is = older.monitors.rows[pid], newer.monitors.rows[pid]
  local before, now = older.processes.rows[pid], newer.processes.rows[pid]
  if not was or not was.is_calling or not before or not now
    or before.current_function ~= now.current_function
    or table.concat(was.waits_for, " ") ~= table.concat(is.waits_for, " ") then
    return false
  end
  local arrived = math.max(0, now.message_queue - before.message_queue)
  return now.reductions - before.reductions <= LOOKED_AT + PER_ARRIVAL * arrived
end

-- For how many seconds all of a circle have waited, as the passes saw it.
local function waited_s(passes, circle)
  local newest = passes[#passes]
  for i = #passes - 1, 1, -1 do
    for _, pid in ipairs(circle.pids) do
      if not stood_still(passes[i + 1], passes[i], pid) then
        return (newest.mono_ms - passes[i + 1].mono_ms) / 1000
      end
    end
  end
  return (newest.mono_ms - passes[1].mono_ms) / 1000
end

local function listed(words)
  local shown = { unpack(words, 1, NAMED) }
  if #words > NAMED then
    shown[NAMED + 1] = ("%d more"):format(#words - NAMED)
  end
  local last = table.remove(shown)
  return #shown == 0 and last or ("%s and %s"):format(table.concat(shown, ", "), last)
end

local function circle_finding(pass, circle, seconds)
  local rows, waiting = {}, 0
  for i, pid in ipairs(circle.pids) do
    rows[i] = pass.processes.rows[pid]
    waiting = waiting + rows[i].message_queue
  end
  table.sort(rows, function(a, b)
    return a.subject .. a.pid < b.subject .. b.pid
  end)
  local subjects, names = {}, {}
  for i, row in ipairs(rows) do
    subjects[i], names[i] = row.subject, ("%s %s"):format(row.name, row.pid)
  end
  return {
    subject = listed(subjects), pid = rows[1].pid, severity = "warning",
    value = #rows, threshold = 2, unit = "processes",
    summary = ("%s wait for each other's answer for %s, in %s; %s messages wait for them"):format(
      listed(names), units.format_duration(seconds * 1000), rows[1].current_function,
      units.format_count(waiting)),
    figures = { trends.figure("message_queue", waiting, "messages") },
  }
end

--- Processes that wait for each other's answer, so that none of them ever goes on (S23).
function M.deadlock(history)
  local passes = {}
  for _, pass in ipairs(history:sweeps(KEPT_S)) do
    passes[#passes + 1] = pass.monitors and pass.processes and pass
  end
  local newest = passes[#passes]
  local list = {}
  for _, circle in ipairs(newest and circles(newest.monitors.rows) or {}) do
    local seconds = waited_s(passes, circle)
    if #circle.pids > 1 and seconds >= (circle.is_certain and CERTAIN_S or LIKELY_S) then
      list[#list + 1] = circle_finding(newest, circle, seconds)
    end
  end
  return list
end

return M
