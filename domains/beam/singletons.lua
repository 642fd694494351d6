--- The rule of the beam domain about the processes of which a node has one, such as who loads code
--- or starts applications: one that does not come to its messages (S26 to S29).

local no_eval = require("domains.beam.no_eval")
local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local LEAST_UPTIME_S = 5 * 60
local HUNG_S, BEHIND_S = 30, 60
local BEHIND = 100 -- messages
local KEPT_S = 6 * 60
-- What it costs a waiting process to be looked at by a pass, and to get a message that it does not
-- take.
local LOOKED_AT, PER_ARRIVAL = 40, 4

-- It waits in the same place as in the pass before, and took no message and did nothing since.
local function stood_still(older, newer)
  local arrived = newer.message_queue - older.message_queue
  return older.pid == newer.pid and older.message_queue > 0 and arrived >= 0
    and older.status == "waiting" and newer.status == "waiting"
    and older.current_function == newer.current_function
    and newer.reductions - older.reductions <= LOOKED_AT + PER_ARRIVAL * arrived
end

-- Its mailbox is long, and was not shortened since the pass before.
local function fell_behind(older, newer)
  return older.pid == newer.pid and older.message_queue > BEHIND
    and newer.message_queue >= older.message_queue
end

-- For how many seconds one has been as `is_so` says, as the passes saw it.
local function since_s(passes, name, is_so)
  local newest = passes[#passes]
  for i = #passes - 1, 1, -1 do
    local older, newer = passes[i].singletons.rows[name], passes[i + 1].singletons.rows[name]
    if not older or not newer or not is_so(older, newer) then
      return (newest.mono_ms - passes[i + 1].mono_ms) / 1000
    end
  end
  return (newest.mono_ms - passes[1].mono_ms) / 1000
end

local function finding(row, seconds, what)
  return {
    subject = row.name, pid = row.pid, severity = "warning",
    value = row.message_queue, threshold = 1, unit = "messages",
    summary = ("%s %s: %s messages wait, %s for %s, in %s"):format(row.name, row.pid,
      units.format_count(row.message_queue), what, units.format_duration(seconds * 1000),
      row.current_function),
    figures = { trends.figure("message_queue", row.message_queue, "messages") },
  }
end

--- One of them that took none of its messages for half a minute, or falls behind for a whole one.
function M.hung(history, node)
  if not node.uptime_s or node.uptime_s < LEAST_UPTIME_S then
    return nil
  end
  local passes = {}
  for _, pass in ipairs(history:sweeps(KEPT_S)) do
    passes[#passes + 1] = pass.singletons and pass
  end
  local newest = passes[#passes]
  local silent = no_eval.find(history) -- then there are no new passes
  local list = { silent }
  for name, row in pairs(newest and not silent and newest.singletons.rows or {}) do
    local hung_s = row.message_queue > 0 and since_s(passes, name, stood_still) or 0
    local behind_s = row.message_queue > BEHIND and since_s(passes, name, fell_behind) or 0
    if hung_s >= HUNG_S then
      list[#list + 1] = finding(row, hung_s, "none taken")
    elseif behind_s >= BEHIND_S then
      list[#list + 1] = finding(row, behind_s, "more than it takes")
    end
  end
  return list
end

return M
