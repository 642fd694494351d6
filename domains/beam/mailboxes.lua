--- The rules of the beam domain about one process: its mailbox, and its work.
---
--- Each looks at what the last sweep passes saw of a process. `hold` and `clear_hold` of a rule do
--- the dwelling; what is here says whether the condition stands now.

local culprits = require("domains.beam.culprits")
local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local FLOOR = 1000
local WINDOW_S = 300
local RISE_S = 8 -- less than from one pass to the next
local RECENT_S = 20
local DRAIN_S = 60
local CRITICAL_ETA_S = 15 * 60
local STUCK_S = 25
local BLOCKED_S = 240
local ARRIVALS = 0.02
local READS_PER_PASS = 20 -- reductions that our own questions may cost a process, per pass
local BUSY_REDUCTIONS_PER_S = 1000000
local BUSY_SHARE = 0.4
local BUSY_PASSES = 3
local SMALL_NODE = 4 -- schedulers

-- What the passes of the last minutes saw of a process, oldest first, from the first that has it.
-- A pass that lacks it saw its mailbox below the 50 longest: as good as empty.
local function series(history, pid, seconds)
  local points = {}
  for _, pass in ipairs(history:sweeps(seconds)) do
    local found = pass.processes
    local row = found and found.rows[pid]
    if row then
      points[#points + 1] = {
        s = pass.mono_ms / 1000, queue = row.message_queue, row = row,
        memory_kb = row.memory_kb,
      }
    elseif #points > 0 and found and found.skipped == 0 then
      points[#points + 1] = { s = pass.mono_ms / 1000, queue = 0 }
    end
  end
  return points
end

-- The highest mailbox so far, and whether it ever fell below half of the highest before.
local function peak_of(points)
  local peak, halved = 0, false
  for _, point in ipairs(points) do
    halved = halved or (peak >= FLOOR and point.queue < peak / 2)
    peak = math.max(peak, point.queue)
  end
  return peak, halved
end

-- The newest point that is at least `seconds` older than the last.
local function point_before(points, seconds)
  local last = points[#points]
  for i = #points - 1, 1, -1 do
    if last.s - points[i].s >= seconds then
      return points[i]
    end
  end
  return nil
end

-- Where the present rise began: before it the mailbox was not smaller.
local function rise_begin(points)
  local i = #points
  while i > 1 and points[i - 1].queue < points[i].queue do
    i = i - 1
  end
  return points[i]
end

local function is_growing(points, base)
  local last, first = points[#points], points[1]
  local peak, halved = peak_of(points)
  return last.queue >= FLOOR and not halved and last.queue >= 0.95 * peak
    and last.queue > base.queue
    and last.queue >= points[#points - 1].queue * 0.98
    and last.queue >= 1.1 * first.queue
end

-- A finding goes on until the mailbox is small, or half of what it was, or soon empty.
local function still_stands(points, base)
  local last = points[#points]
  local peak = peak_of(points)
  if last.queue < FLOOR / 2 or last.queue < peak / 2 then
    return false
  end
  local per_s = (last.queue - base.queue) / (last.s - base.s)
  return per_s >= 0 or last.queue / -per_s > DRAIN_S
end

-- MiB per second by which the memory ends: what the process takes, or the node with it, since
-- large binaries in messages are not counted as the process's own.
local function memory_rate(history, start, last)
  local own = (last.memory_kb - start.memory_kb) / 1024 / math.max(1, last.s - start.s)
  if own <= 0 then
    return nil
  end
  return math.max(own, history:rate("memory_rss_mb", 60) or 0)
end

local function growth_finding(history, row, points, base)
  local last = points[#points]
  local start = rise_begin(points)
  if not start.memory_kb or last.s - start.s < last.s - base.s then
    start = base
  end
  local per_s = (last.queue - base.queue) / (last.s - base.s)
  local eta_s = per_s > 0 and start.memory_kb
    and trends.memory_eta(history:latest().data, memory_rate(history, start, last)) or nil
  local is_critical = eta_s ~= nil and eta_s <= CRITICAL_ETA_S
  local summary = ("%s %s: mailbox %s, %s for %s, in %s"):format(row.name, row.pid,
    units.format_count(last.queue), trends.format_rate(per_s),
    units.format_duration((last.s - start.s) * 1000), row.current_function or "?")
  if eta_s and eta_s < 48 * 3600 then
    summary = ("%s; memory limit in %s"):format(summary, trends.format_eta(eta_s))
  end
  return {
    subject = row.subject, pid = row.pid, severity = is_critical and "critical" or "warning",
    value = last.queue, threshold = FLOOR, unit = "messages", per_s = per_s, eta_s = eta_s,
    summary = summary,
    figures = {
      trends.figure("message_queue", last.queue, "messages", start.queue),
      trends.figure("message_queue_per_s", per_s, "messages/s"),
      trends.figure("memory_kb", last.memory_kb, "KiB", start.memory_kb),
    },
  }
end

local function candidates(history, order)
  local sample = history:latest()
  local found = sample and sample.sweep and sample.sweep.processes
  local rows = {}
  for _, pid in ipairs(found and found.top[order] or {}) do
    rows[#rows + 1] = found.rows[pid]
  end
  return rows, found, sample and sample.sweep
end

--- A mailbox that grows and does not drain (S01).
function M.growth(history, _, held)
  local findings = {}
  for _, row in ipairs((candidates(history, "message_queue"))) do
    if row.message_queue >= FLOOR / 2 then
      local points = series(history, row.pid, WINDOW_S)
      local base = point_before(points, RISE_S)
      if base and points[#points].row == row
        and (is_growing(points, base)
          or (held[row.subject] and held[row.subject].pid == row.pid
            and still_stands(points, base))) then
        findings[#findings + 1] = growth_finding(history, row, points, base)
      end
    end
  end
  return findings
end

local function waits_in_call(current_function)
  return current_function == "gen:do_call/4" or current_function == "gen:do_call/5"
end

-- Since when the process neither took a message nor did anything else; nil when it works.
local function idle_since(points)
  local last = points[#points]
  local since
  for i = #points, 1, -1 do
    local row = points[i].row
    local later = points[i + 1] or last
    if not row or row.status ~= "waiting" or row.current_function ~= last.row.current_function
      or row.message_queue > later.queue
      -- While many arrive, what it spends on them hides whether it takes one.
      or last.queue - row.message_queue > ARRIVALS * last.queue then
      break
    end
    local allowed = READS_PER_PASS * (#points - i + 1) + 2 * (last.queue - row.message_queue)
    if last.row.reductions - row.reductions > allowed then
      break
    end
    since = points[i].s
  end
  return since
end

local function stuck_finding(row, points, idle_s)
  local first = points[1]
  local why = waits_in_call(row.current_function) and "it waits for the answer to a call"
    or "nothing it waits for is among them"
  return {
    subject = row.subject, pid = row.pid, severity = "warning",
    value = row.message_queue, threshold = FLOOR, unit = "messages",
    summary = ("%s %s: mailbox %s, none taken for %s, waiting in %s: %s"):format(row.name, row.pid,
      units.format_count(row.message_queue), units.format_duration(idle_s * 1000),
      row.current_function or "?", why),
    figures = {
      trends.figure("message_queue", row.message_queue, "messages", first.queue),
      trends.figure("memory_kb", row.memory_kb, "KiB", first.memory_kb),
    },
  }
end

--- A mailbox whose messages match nothing that the process waits for (S02). One that was suspended
--- by hand is left alone; one that waits for an answer gets four minutes; those on which all depend
--- have a rule of their own (domains/beam/singletons.lua).
function M.stuck(history)
  local findings = {}
  local rows, _, sweep = candidates(history, "message_queue")
  local singletons = sweep and sweep.singletons and sweep.singletons.rows or {}
  for _, row in ipairs(rows) do
    local call = row.current_function or ""
    if row.message_queue >= FLOOR and row.status == "waiting"
      and not call:find("^sys:suspend_loop")
      and not (row.registered and singletons[row.name]) then
      local points = series(history, row.pid, 360)
      local since = points[#points].row == row and idle_since(points)
      local idle_s = since and points[#points].s - since or 0
      if idle_s >= (waits_in_call(call) and BLOCKED_S or STUCK_S) then
        findings[#findings + 1] = stuck_finding(row, points, idle_s)
      end
    end
  end
  return findings
end

-- Whether the last passes all saw it at work, and none saw it take a message.
local function never_rests(points)
  if #points < BUSY_PASSES then
    return false
  end
  for i = math.max(1, #points - 29), #points do
    local row = points[i].row
    local before = points[i - 1]
    if not row or (i > #points - BUSY_PASSES and not culprits.is_busy(row))
      or (before and before.queue > row.message_queue) then
      return false
    end
  end
  return true
end

-- Whether one busy process is felt: others wait, or it has at least a quarter of the schedulers. On
-- a large machine a long computation of one process takes nothing from anybody.
local function is_felt(history, node)
  if (node.schedulers_online or 1) <= SMALL_NODE then
    return true
  end
  for _, sample in ipairs(history:since(RECENT_S)) do
    if (trends.number(sample.data, "scheduler_run_queue") or 0) >= 1 then
      return true
    end
  end
  return false
end

--- A process that never rests and takes no message (S10), where that is felt.
function M.runaway(history, node)
  local rows, found = candidates(history, "reductions_per_s")
  if not found or not is_felt(history, node) then
    return nil
  end
  local run_queue = trends.number(history:latest().data, "scheduler_run_queue") or 0
  local total = 0
  for _, row in ipairs(rows) do
    total = total + row.reductions_per_s
  end
  local findings = {}
  for _, row in ipairs(rows) do
    if row.reductions_per_s >= BUSY_REDUCTIONS_PER_S and row.reductions_per_s >= BUSY_SHARE * total
      and culprits.is_busy(row) then
      local points = series(history, row.pid, WINDOW_S)
      if points[#points].row == row and never_rests(points) then
        local share = row.reductions_per_s / total * 100
        findings[#findings + 1] = {
          subject = row.subject, pid = row.pid, severity = "warning",
          value = share, threshold = BUSY_SHARE * 100, unit = "% of the reductions",
          summary = ("%s %s: never rests, %.0f %% of the node's work, in %s; run queue %d"):format(
            row.name, row.pid, share, row.current_function or "?", run_queue),
          figures = {
            trends.figure("reductions_per_s", row.reductions_per_s, "reductions/s"),
            trends.figure("scheduler_run_queue", run_queue, "processes"),
          },
        }
      end
    end
  end
  return findings
end

return M
