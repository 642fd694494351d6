--- The gc domain: garbage collection on a node, and the processes with the largest heaps.

local counters = require("runtime.domain.counters")
local fields = require("domains.node.fields")
local json = require("runtime.json")
local node_memory = require("domains.node.memory")
local rules = require("domains.gc.rules")
local units = require("runtime.units")

local count, mb, mib = fields.count, fields.mb, fields.mib

local read = counters.reader({
  "garbage_collection", "wordsize", "memory", "process_count", "port_count", "uptime_ms", "mono_ms",
})

local function stats(now)
  local collections, words = unpack(now.garbage_collection)
  return {
    total_gcs = collections,
    words_reclaimed = words,
    bytes_reclaimed_mb = mib(words * now.wordsize),
  }
end

local function snapshot(target)
  local now, err, code = read(target)
  if not now then
    return nil, err, code
  end
  local data, memory = stats(now), now.memory
  local pass = target.sweep and target.sweep:latest()
  local found = pass and pass.processes
  local largest = found and found.rows[found.top.heap[1]]
  data.largest_heap_mb = largest and fields.round2(largest.total_heap_kb / 1024) or json.null
  data.process_count, data.port_count = now.process_count, now.port_count
  data.memory_total_mb = mib(memory.total)
  data.memory_processes_mb = mib(memory.processes)
  data.memory_code_mb = mib(memory.code)
  data.uptime_s, data.mono_ms = math.floor(now.uptime_ms / 1000), now.mono_ms
  node_memory.add(target, data, memory.total)
  return data
end

local function gc_stats(target)
  local now, err, code = read(target)
  if not now then
    return nil, err, code
  end
  return stats(now)
end

local function top_processes(target, limit)
  local found, err, _, pass = target:swept("processes")
  if not found then
    return nil, err
  end
  local rows = {}
  for i = 1, math.min(limit, #found.top.heap) do
    local row = found.rows[found.top.heap[i]]
    rows[i] = {
      pid = row.pid, name = row.name, heap_size_kb = row.heap_size_kb,
      total_heap_size_kb = row.total_heap_kb, minor_gcs = row.minor_gcs,
      fullsweep_after = row.fullsweep_after, message_queue_len = row.message_queue,
      binary_kb = row.binary_kb,
    }
  end
  return json.array(rows), { total = found.total, returned = #rows, skipped = found.skipped,
    took_ms = found.took_ms, sampled_at = units.format_time(pass.swept_at) }
end

return {
  name = "gc",
  title = "Garbage collection",
  description = "Garbage collection on an Erlang or Elixir node: how much is collected, and which "
    .. "processes have the largest heaps.",
  instructions = [[
What to look for:
- total_gcs and words_reclaimed count from the start of the node: only their differences say
  something. Many collections are normal under load.
- One process whose heap is a large part of the memory limit and keeps growing: its collections
  take long and stop it, and a copy of its heap may not fit. A batch that ends, or a table of routes
  that a process keeps, is normal: compare two readings.
- A large heap with few minor_gcs and a long mailbox: it does not get to collect.]],
  sweeps = { "processes" },
  metrics = {
    count("total_gcs", "since the start"),
    count("words_reclaimed", "since the start"),
    mb("bytes_reclaimed_mb", "since the start"),
    fields.nullable(mb("largest_heap_mb", "of one process, as the last sweep saw it")),
    count("process_count"),
    count("port_count"),
    mb("memory_total_mb", "allocated by the virtual machine"),
    mb("memory_processes_mb"),
    mb("memory_code_mb"),
    fields.nullable(mb("memory_rss_mb", "resident memory of the OS process")),
    fields.nullable(mb("memory_limit_mb", "the smallest of machine and cgroups")),
    fields.nullable(fields.metric("memory_utilization_pct", "%", "of the limit")),
    { name = "memory_basis", type = "string", nullable = true,
      doc = "what memory_utilization_pct counts" },
    count("uptime_s", "seconds"),
    count("mono_ms", "the node's monotonic clock"),
  },
  snapshot = snapshot,
  callbacks = {
    {
      name = "gc_stats",
      returns = {
        count("total_gcs"), count("words_reclaimed"), mb("bytes_reclaimed_mb"),
      },
      doc = "Collections since the start of the node; compare two readings.",
      run = gc_stats,
    },
    {
      name = "gc_top_processes",
      params = { { name = "limit", type = "integer", default = 10, min = 1, max = 50 } },
      returns = {
        list = true,
        { name = "pid", type = "string" },
        { name = "name", type = "string", doc = "registered name, else label, else initial call" },
        { name = "heap_size_kb", type = "integer", unit = "KiB", doc = "the youngest generation" },
        { name = "total_heap_size_kb", type = "integer", unit = "KiB", doc = "all of it" },
        { name = "minor_gcs", type = "integer", doc = "since the last full collection" },
        { name = "fullsweep_after", type = "integer", doc = "minor ones before a full one" },
        { name = "message_queue_len", type = "integer", unit = "messages" },
        { name = "binary_kb", type = "integer", unit = "KiB", doc = "large binaries it refers to" },
      },
      doc = "The processes with the largest heaps, as the last sweep of the node saw them.",
      run = top_processes,
    },
  },
  rules = rules,
}
