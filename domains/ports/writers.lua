--- The rule about writers that a port does not let go on (S16, S17).
---
--- Writers that wait for slow clients of their own are back-pressure at work: nothing is found of
--- them. A finding needs 30 s in which nothing moved, and somebody whom that concerns: a registered
--- process, two that share a port, another node, the standard output, or a growing mailbox.

local names = require("runtime.names")
local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local STUCK_MS = 30000
local WINDOW_S = 60
local IDLE_REDUCTIONS = 50 -- what it costs a process to be looked at by two parts of a pass
local LONG_MAILBOX = 1000

local function sender_of(found, pid)
  for _, sender in ipairs(found.senders) do
    if sender.pid == pid then
      return sender
    end
  end
end

-- Goes back through the passes while `is_same(newer, older)` gives what it was in the older one.
-- Returns for how long that was so, in ms, and what it was at first.
local function standing(passes, now, is_same)
  local first = now
  for i = #passes - 1, 1, -1 do
    local before = is_same(first, passes[i])
    if not before then
      return passes[#passes].mono_ms - passes[i + 1].mono_ms, first
    end
    first = before
  end
  return passes[#passes].mono_ms - passes[1].mono_ms, first
end

-- It is the same process, and did nothing in between.
local function same_sender(newer, pass)
  local older = sender_of(pass.ports, newer.pid)
  return older and newer.reductions - older.reductions <= IDLE_REDUCTIONS and older or nil
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

local function queue_figure(row)
  return { trends.figure("queue_size", row.queue_size, "bytes") }
end

local function add_registered(list, found, passes)
  for _, sender in ipairs(found.senders) do
    local ms = sender.name and standing(passes, sender, same_sender) or 0
    if ms >= STUCK_MS then
      local row = found.rows[sender.ports[1]]
      list[#list + 1] = finding(sender.name, ms, ("%s %s is blocked while it writes to %s, in %s")
        :format(sender.name, sender.pid, row and ("%s %s"):format(row.name, row.id) or "a port",
          sender.current_function), { trends.figure("message_queue", sender.message_queue,
          "messages") }, sender.pid)
    end
  end
end

-- Those that stand still, by the port that they wait for.
local function writers_by_port(found, passes)
  local by_port = {}
  for _, sender in ipairs(found.senders) do
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

local function what_is(row)
  if row.peer then
    return "connection to " .. row.peer
  end
  local descriptor = row.name:match("^%d+/(%d+)$")
  return descriptor == "1" and "standard output" or descriptor == "2" and "standard error" or nil
end

local function add_ports(list, found, passes)
  local by_port = writers_by_port(found, passes)
  for _, id in ipairs(found.top.queue) do
    local row, of = found.rows[id], by_port[id] or { count = 0 }
    local what = row.queue_size > 0 and not of.is_told and what_is(row)
    local ms = what and standing(passes, row, same_queue) or 0
    if ms >= STUCK_MS then
      list[#list + 1] = finding(what, ms, ("%s %s: %s wait, and nothing is read"):format(what, id,
        units.format_size(row.queue_size)), queue_figure(row), row.connected_pid)
    elseif not what and not of.is_told and of.count >= 2 then
      list[#list + 1] = finding(row.subject, of.ms, ("%d processes that share %s %s are blocked "
        .. "while they write to it"):format(of.count, row.name, id), queue_figure(row),
        row.connected_pid)
    end
  end
end

local function is_writing(row)
  local where = row.current_function or ""
  return where:find("^prim_inet:send_recv_reply/") and row.status == "waiting"
    or row.status == "suspended" and (where:find(":port_command/", 1, true)
      or where:find("^prim_inet:")) or false
end

-- Writers whose own mailbox grows while they wait, whether or not they go on now and then.
local function add_mailboxes(list, passes)
  local newest = passes[#passes].processes
  for _, pid in ipairs(newest and newest.top.message_queue or {}) do
    local row = newest.rows[pid]
    if row.message_queue > LONG_MAILBOX and not row.registered and is_writing(row) then
      local ms, first = standing(passes, row, function(newer, pass)
        local older = pass.processes and pass.processes.rows[pid]
        return older and older.message_queue < newer.message_queue and is_writing(older) and older
          or nil
      end)
      if ms >= STUCK_MS then
        list[#list + 1] = finding(names.stable(row.name), ms, ("%s %s waits in %s and does not get "
          .. "to its mailbox: %s messages"):format(row.name, pid, row.current_function,
            units.format_count(row.message_queue)), { trends.figure("message_queue",
            row.message_queue, "messages", first.message_queue) }, pid)
      end
    end
  end
end

--- Writers that are blocked, and whom that concerns.
function M.blocked(history)
  local passes = {}
  for _, pass in ipairs(history:sweeps(WINDOW_S)) do
    passes[#passes + 1] = pass.ports and pass
  end
  local found = passes[1] and passes[#passes].ports
  if not found then
    return nil
  end
  local list = {}
  add_registered(list, found, passes)
  add_ports(list, found, passes)
  add_mailboxes(list, passes)
  return list
end

return M
