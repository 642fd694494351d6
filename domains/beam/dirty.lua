--- The rule of the beam domain about the dirty schedulers, which run what takes long: files, and
--- native code. When all are taken, whoever needs one waits, however idle the node looks (S14).

local trends = require("runtime.trends")

local M = {}

local KINDS = {
  { subject = "dirty IO schedulers", queue = "dirty_io_run_queue",
    schedulers = "dirty_io_schedulers" },
  { subject = "dirty CPU schedulers", queue = "dirty_cpu_run_queue",
    schedulers = "dirty_cpu_schedulers_online" },
}
local IDLE_STATUS = { waiting = true, suspended = true, exiting = true }

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
function M.queue(history, _, held)
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
