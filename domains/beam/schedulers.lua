--- The rules of the beam domain about the schedulers: the ordinary ones (S11), and the dirty ones,
--- which run what takes long: files, and native code. When all of these are taken, whoever needs
--- one waits, however idle the node looks (S14).

local culprits = require("domains.beam.culprits")
local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local QUEUE_PER_SCHEDULER = 2
local SATURATED_S = 60

local KINDS = {
  { subject = "dirty IO schedulers", queue = "dirty_io_run_queue",
    schedulers = "dirty_io_schedulers" },
  { subject = "dirty CPU schedulers", queue = "dirty_cpu_run_queue",
    schedulers = "dirty_cpu_schedulers_online" },
}
local IDLE_STATUS = { waiting = true, suspended = true, exiting = true }

--- More processes wait for a scheduler than two per scheduler, in every sample of a minute (S11).
--- What is found names those that do most of the work.
function M.saturation(history, node, held)
  local schedulers = node.schedulers_online
  if not schedulers or not history:covers(SATURATED_S) then
    return nil
  end
  local bound = (held.schedulers and 1 or QUEUE_PER_SCHEDULER) * schedulers
  local least
  for _, sample in ipairs(history:since(SATURATED_S)) do
    local queue = trends.number(sample.data, "scheduler_run_queue") or 0
    least = math.min(least or queue, queue)
  end
  if least <= bound then
    return nil
  end
  local pass = history:latest().sweep
  local found = pass and pass.processes and culprits.of(pass.processes)
  local figures = { trends.figure("scheduler_run_queue", least, "processes") }
  if found then
    figures[2] = trends.figure("busy_processes", found.count, "processes")
    figures[3] = trends.figure("share_of_work", math.floor(found.share_pct + 0.5), "%")
  end
  return {
    subject = "schedulers", pid = found and found.pid, severity = "warning", value = least,
    threshold = QUEUE_PER_SCHEDULER * schedulers, unit = "processes",
    summary = ("%d or more processes wait for %d schedulers for %s%s"):format(least, schedulers,
      units.format_duration(SATURATED_S * 1000),
      found and "; " .. found.text or ""),
    figures = figures,
  }
end

-- Where most of those are that do not wait for a message.
local function busiest_place(history)
  local pass = history:latest().sweep
  local found = pass and pass.processes
  local counts, leader = {}, nil
  for _, row in pairs(found and found.rows or {}) do
    local place = row.current_function
    if place and not IDLE_STATUS[row.status] then
      counts[place] = (counts[place] or 0) + 1
      if not leader or counts[place] > counts[leader]
        or (counts[place] == counts[leader] and place < leader) then
        leader = place
      end
    end
  end
  return leader
end

--- More wait for dirty schedulers of a kind than there are.
function M.dirty_queue(history, _, held)
  local data = history:latest().data
  local list = {}
  for _, kind in ipairs(KINDS) do
    local queue = trends.number(data, kind.queue)
    local schedulers = trends.number(data, kind.schedulers)
    local bound = schedulers and (held[kind.subject] and schedulers / 2 or schedulers)
    if queue and bound and queue > bound then
      local place = busiest_place(history)
      list[#list + 1] = {
        subject = kind.subject, severity = "warning", value = queue, threshold = schedulers,
        unit = "processes",
        summary = ("%d processes wait for the %d %s%s"):format(queue, schedulers, kind.subject,
          place and ("; many are in " .. place) or ""),
        figures = { trends.figure(kind.queue, queue, "processes",
          history:value_ago(kind.queue, 60)) },
      }
    end
  end
  return list
end

return M
