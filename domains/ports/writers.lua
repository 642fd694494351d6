--- The rule about writers that a port does not let go on (S16, S17).
---
--- Writers that wait for slow clients are back-pressure at work: nothing is found of them, nor of
--- several that write to the connection of one client (channels, heartbeats). A finding needs 30 s
--- in which nothing moved, and somebody whom that concerns: a registered process, two that share a
--- connection that this node made, another node, the standard output, or a growing mailbox.

local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local STUCK_MS = 30000
local WINDOW_MS = 60000
-- What it costs a process to be looked at, by the parts of two passes and by whoever else asks.
local IDLE_REDUCTIONS, IDLE_REDUCTIONS_PER_S = 50, 5
local LONG_MAILBOX = 1000

-- Goes back through the passes while `is_same(newer, pass, next_pass)` gives what it was in that
-- pass. Returns for how long that was so, in ms, and what it was at first.
local function standing(passes, now, is_same)
  local first = now
  for i = #passes - 1, 1, -1 do
    local before = is_same(first, passes[i], passes[i + 1])
    if not before then
      return passes[#passes].mono_ms - passes[i + 1].mono_ms, first
    end
    first = before
  end
  return passes[#passes].mono_ms - passes[1].mono_ms, first
end

-- Whether what a sender waits for went on: the other end reads, if slowly.
local function has_moved(sender, pass, next_pass)
  for _, id in ipairs(sender.ports) do
    local before, now = pass.ports.rows[id], next_pass.ports.rows[id]
    if before and now and before.queue_size ~= now.queue_size then
      return true
    end
  end
  return false
end

-- It is the same process, and neither it nor its port did anything in between.
local function same_sender(newer, pass, next_pass)
  local older = pass.ports.sender_of[newer.pid]
  local seconds = (next_pass.mono_ms - pass.mono_ms) / 1000
  local most = math.max(IDLE_REDUCTIONS, IDLE_REDUCTIONS_PER_S * seconds)
  return older and newer.reductions - older.reductions <= most
    and not has_moved(newer, pass, next_pass) and older or nil
end

-- The port took nothing and wrote nothing in between.
local function same_queue(newer, pass)
  local older = pass.ports.rows[newer.id]
  return older and older.queue_size > 0 and older.queue_size == newer.queue_size
    and older.output_bytes == newer.output_bytes and older or nil
end

local function finding(subject, ms, summary, figures, pid)
  return {
    subject = subject, pid = pid, severity = "warning", value = math.floor(ms / 1000), unit = "s",
    threshold = STUCK_MS / 1000, figures = figures,
    summary = ("%s for %s"):format(summary, units.format_duration(ms)),
  }
end

-- Another node, or what the node prints to: a port that concerns more than its writers.
local function what_is(row)
  if row.peer then
    return "connection to " .. row.peer
  end
  local descriptor = row.name:match("^%d+/(%d+)$")
  return descriptor == "1" and "standard output" or descriptor == "2" and "standard error" or nil
end

local function queue_figure(row)
  return { trends.figure("queue_size", row.queue_size, "bytes") }
end

-- `tcp_inet #Port<0.12> to 10.0.0.5:5432`
local function described(row)
  return ("%s %s%s"):format(row.name, row.id, row.remote and " to " .. row.remote or "")
end

-- Adds the registered ones that stand still. `told` gets their pids.
local function add_registered(list, passes, told)
  local found = passes[#passes] and passes[#passes].ports
  for _, sender in ipairs(found and found.senders or {}) do
    local row = found.rows[sender.ports[1]]
    local is_told_by_port = row and what_is(row)
    local ms = sender.name and not is_told_by_port and standing(passes, sender, same_sender) or 0
    if ms >= STUCK_MS then
      told[sender.pid] = true
      list[#list + 1] = finding(sender.name, ms, ("%s %s is blocked while it writes to %s, in %s")
        :format(sender.name, sender.pid, row and described(row) or "a port",
          sender.current_function), { trends.figure("message_queue", sender.message_queue,
          "messages") }, sender.pid)
    end
  end
end

-- Those that stand still, by the port that they wait for.
local function writers_by_port(passes)
  local found, by_port = passes[#passes] and passes[#passes].ports, {}
  for _, sender in ipairs(found and found.senders or {}) do
    local ms = standing(passes, sender, same_sender)
    for _, id in ipairs(ms >= STUCK_MS and sender.ports or {}) do
      local of = by_port[id] or { count = 0, ms = ms }
      by_port[id] = of
      of.count, of.ms = of.count + 1, math.min(of.ms, ms)
      of.is_told = of.is_told or sender.name ~= nil
    end
  end
  return by_port
end

local function add_ports(list, passes, by_port)
  local found = passes[#passes].ports
  for _, id in ipairs(found.top.queue) do
    local row, of = found.rows[id], by_port[id] or { count = 0 }
    local what = what_is(row)
    local ms = what and row.queue_size > 0 and standing(passes, row, same_queue) or 0
    if ms >= STUCK_MS then
      list[#list + 1] = finding(what, ms, ("%s %s: %s wait, and nothing is read"):format(what, id,
        units.format_size(row.queue_size)), queue_figure(row), row.connected_pid)
    elseif not what and not of.is_told and not row.is_accepted and of.count >= 2 then
      local subject = row.remote and ("%s to %s"):format(row.subject, row.remote) or row.subject
      list[#list + 1] = finding(subject, of.ms, ("%d processes that share %s are blocked while "
        .. "they write to it"):format(of.count, described(row)), queue_figure(row),
        row.connected_pid)
    end
  end
end

local function is_writing(row)
  local where = row.current_function or ""
  return where:find("^prim_inet:send") and row.status == "waiting"
    or row.status == "suspended" and (where:find(":port_command/", 1, true)
      or where:find("^prim_inet:")) or false
end

-- Writers whose own mailbox grows while they wait, whether or not they go on now and then.
local function add_mailboxes(list, passes, told)
  local newest = passes[#passes].processes
  for _, pid in ipairs(newest and newest.top.message_queue or {}) do
    local row = newest.rows[pid]
    if row.message_queue > LONG_MAILBOX and not told[pid] and is_writing(row) then
      local ms, first = standing(passes, row, function(newer, pass)
        local older = pass.processes and pass.processes.rows[pid]
        return older and older.message_queue < newer.message_queue and is_writing(older) and older
          or nil
      end)
      if ms >= STUCK_MS then
        list[#list + 1] = finding(row.subject, ms, ("%s %s waits in %s and does not get "
          .. "to its mailbox: %s messages"):format(row.name, pid, row.current_function,
            units.format_count(row.message_queue)), { trends.figure("message_queue",
            row.message_queue, "messages", first.message_queue) }, pid)
      end
    end
  end
end

-- The passes of the last minute; at least two, since those of a large node are further apart.
local function last_passes(history)
  local passes = history:sweeps()
  local list = {}
  for i = #passes, 1, -1 do
    local is_old = list[2] and passes[#passes].mono_ms - passes[i].mono_ms > WINDOW_MS
    if is_old or not passes[i].ports then
      break
    end
    table.insert(list, 1, passes[i])
  end
  return list
end

-- Those in which the senders answered.
local function with_senders(passes)
  local list = {}
  for _, pass in ipairs(passes) do
    list[#list + 1] = not pass.ports.senders_late and pass or nil
  end
  return list
end

--- Writers that are blocked, and whom that concerns.
function M.blocked(history)
  local passes = last_passes(history)
  if not passes[1] then
    return nil
  end
  local known, list, told = with_senders(passes), {}, {}
  add_registered(list, known, told)
  add_ports(list, passes, writers_by_port(known))
  add_mailboxes(list, passes, told)
  return list
end

return M
