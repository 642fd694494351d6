--- The ports domain: sockets, programs and other ports of a node, and its file descriptors.

local calls = require("domains.ports.calls")
local counters = require("runtime.domain.counters")
local files = require("domains.node.files")
local json = require("runtime.json")
local rules = require("domains.ports.rules")

local MIB = 1024 * 1024

local read = counters.reader({
  "mono_ms", "uptime_ms", "memory", "process_count", "port_count", "port_limit",
})

local function round2(number)
  return math.floor(number * 100 + 0.5) / 100
end

local function pct(part, whole)
  return part and whole and whole > 0 and round2(part / whole * 100) or json.null
end

-- Counters of the node at one moment, and the descriptors of its OS process.
local function snapshot(target)
  local now, err, code = read(target)
  if not now then
    return nil, err, code
  end
  local fd = files.read(target)
  return {
    port_count = now.port_count,
    port_limit = now.port_limit,
    port_utilization_pct = pct(now.port_count, now.port_limit),
    fd_count = fd.count or json.null,
    fd_limit = fd.limit or json.null,
    fd_utilization_pct = pct(fd.count, fd.limit),
    process_count = now.process_count,
    memory_code_mb = round2(now.memory.code / MIB),
    uptime_s = math.floor(now.uptime_ms / 1000),
    mono_ms = now.mono_ms,
  }
end

local function count(name, doc, nullable)
  return { name = name, type = "integer", doc = doc, nullable = nullable }
end

local function text(name, doc)
  return { name = name, type = "string", doc = doc }
end

local function bytes(name, doc)
  return { name = name, type = "integer", unit = "bytes", doc = doc }
end

local INPUT = bytes("input_bytes", "that came in through it")
local OUTPUT = bytes("output_bytes", "that were written to it, the queue included")

local ID = text("id", "#Port<0.12>")
local NAME = text("name", "the driver (tcp_inet), or a program's command")
local OWNER = { name = "connected_pid", type = "string", nullable = true, doc = "its owner" }
local OS_PID = count("os_pid", "of the program behind it; null when there is none", true)
local MEMORY = { name = "memory_kb", type = "integer", unit = "KiB",
  doc = "of the port itself, without what is queued" }
local QUEUE = bytes("queue_size", "taken from writers and not written yet")

local function optional(field)
  local copy = { optional = true }
  for key, value in pairs(field) do
    copy[key] = value
  end
  return copy
end

local CALLBACKS = {
  {
    name = "ports_list",
    returns = { list = true, ID, NAME, OWNER, OS_PID },
    doc = "The ports of the node, the oldest first; at most 500 (total, skipped).",
    run = calls.list,
  },
  {
    name = "ports_info",
    params = {
      { name = "port_id", type = "string", max = 64, doc = "as ports_list prints it: "
        .. "#Port<0.12>" },
    },
    returns = {
      optional(ID), optional(NAME), optional(OWNER), optional(INPUT), optional(OUTPUT),
      optional(OS_PID), optional(QUEUE), optional(MEMORY),
      optional(text("error", "port_not_found")),
    },
    doc = "One port, now. An unknown one, or one that was closed, gives "
      .. "{ error = \"port_not_found\" }.",
    run = calls.info,
  },
  {
    name = "ports_top",
    params = {
      { name = "limit", type = "integer", default = 10, min = 1, max = 50 },
      {
        name = "sort_by", type = "string", default = "input",
        values = { "input", "output", "memory", "queue" },
      },
    },
    returns = {
      list = true, ID, NAME, OWNER, INPUT, OUTPUT, MEMORY, QUEUE,
    },
    doc = "The ports that lead in one order, as the last sweep of the node saw them (sampled_at).",
    run = calls.top,
  },
}

return {
  name = "ports",
  title = "Ports",
  description = "The ports and file descriptors of an Erlang or Elixir node: sockets, programs, "
    .. "queues, limits.",
  instructions = [[
What to look for:
- port_utilization_pct or fd_utilization_pct above 80: at 100 the node can open no socket, no
  program and no file. Files are descriptors and no ports; a socket of the module socket is neither
  a port. See which name grows in ports_list.
- Ports that grow for half an hour while processes do not: something opens sockets or programs and
  does not close them.
- A queue_size that stays high in ports_top(5, "queue") while output_bytes stands still: nobody
  reads at the other end, and who writes there is blocked. That matters where the writer is
  registered, several share a connection that this node made, or its mailbox grows.
Connections come and go with load, together with processes. A writer that waits for its own slow
client is back-pressure at work, not a fault.]],
  metrics = {
    count("port_count"),
    count("port_limit"),
    { name = "port_utilization_pct", type = "number", unit = "%", doc = "of the limit" },
    count("fd_count", "open file descriptors of the OS process; null when late", true),
    count("fd_limit", "the soft limit; null when there is none, or late", true),
    {
      name = "fd_utilization_pct", type = "number", unit = "%", doc = "of the limit",
      nullable = true,
    },
    count("process_count"),
    { name = "memory_code_mb", type = "number", unit = "MiB" },
    count("uptime_s", "seconds"),
    count("mono_ms", "the node's monotonic clock"),
  },
  snapshot = snapshot,
  sweeps = { "ports", "processes" },
  callbacks = CALLBACKS,
  rules = rules.rules,
}
