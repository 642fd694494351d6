--- The beam domain: the virtual machine of a node. Memory, processes, ports, atoms, schedulers.

local counters = require("runtime.domain.counters")
local dist = require("host.dist")
local fields = require("domains.node.fields")
local json = require("runtime.json")
local names = require("runtime.names")
local node_memory = require("domains.node.memory")
local rules = require("domains.beam.rules")
local units = require("runtime.units")

local metric, count, mb = fields.metric, fields.count, fields.mb
local mib, pct = fields.mib, fields.pct

local TIMEOUT_MS = 5000

-- All counters at one moment.
local read_counters = counters.reader({
  "memory", "mono_ms", "uptime_ms", "process_count", "process_limit", "port_count", "port_limit",
  "atom_count", "atom_limit", "schedulers", "schedulers_online", "dirty_cpu_schedulers_online",
  "dirty_io_schedulers", "ets_count", "run_queue", "run_queues",
})

-- What is known of the virtual machine, and Elixir's version.
local read_system = counters.reader({
  "uptime_ms", "schedulers_online", "otp_release", "version", "wordsize",
})

local ELIXIR_VERSION = [[
case erlang:module_loaded(application) andalso application:get_key(elixir, vsn) of
  {ok, Version} -> unicode:characters_to_binary(Version);
  _ ->
    case erlang:function_exported('Elixir.System', version, 0) of
      true -> 'Elixir.System':version();
      false -> undefined
    end
end.
]]

-- The last two of all run queues are those of the dirty schedulers: CPU, then IO.
local function dirty_queues(run_queues)
  return run_queues[#run_queues - 1] or 0, run_queues[#run_queues] or 0
end

local function snapshot(target)
  local now, err, code = read_counters(target)
  if not now then
    return nil, err, code
  end
  local dirty_cpu, dirty_io = dirty_queues(now.run_queues)
  local data = {
    process_utilization_pct = pct(now.process_count, now.process_limit),
    port_utilization_pct = pct(now.port_count, now.port_limit),
    atom_utilization_pct = pct(now.atom_count, now.atom_limit),
    scheduler_run_queue = now.run_queue,
    schedulers_online = now.schedulers_online,
    dirty_cpu_run_queue = dirty_cpu,
    dirty_io_run_queue = dirty_io,
    dirty_cpu_schedulers_online = now.dirty_cpu_schedulers_online,
    dirty_io_schedulers = now.dirty_io_schedulers,
    process_count = now.process_count,
    process_limit = now.process_limit,
    port_count = now.port_count,
    port_limit = now.port_limit,
    atom_count = now.atom_count,
    atom_limit = now.atom_limit,
    ets_count = now.ets_count,
    memory_total_mb = mib(now.memory.total),
    memory_processes_mb = mib(now.memory.processes),
    memory_binary_mb = mib(now.memory.binary),
    memory_ets_mb = mib(now.memory.ets),
    memory_code_mb = mib(now.memory.code),
    uptime_s = math.floor(now.uptime_ms / 1000),
    mono_ms = now.mono_ms,
    code_server_answers = now.without_eval ~= "ECODESERVER",
  }
  node_memory.add(target, data, now.memory.total)
  return data
end

local function get_memory(target)
  local now, err, code = read_counters(target)
  if not now then
    return nil, err, code
  end
  local memory = now.memory
  return {
    total_mb = mib(memory.total),
    processes_mb = mib(memory.processes),
    processes_used_mb = mib(memory.processes_used),
    system_mb = mib(memory.system),
    binary_mb = mib(memory.binary),
    ets_mb = mib(memory.ets),
    code_mb = mib(memory.code),
  }
end

local function get_processes(target)
  local now, err, code = read_counters(target)
  if not now then
    return nil, err, code
  end
  return {
    process_count = now.process_count,
    process_limit = now.process_limit,
    port_count = now.port_count,
    port_limit = now.port_limit,
  }
end

local function get_schedulers(target)
  local now, err, code = read_counters(target)
  if not now then
    return nil, err, code
  end
  local dirty_cpu, dirty_io = dirty_queues(now.run_queues)
  return {
    schedulers = now.schedulers,
    schedulers_online = now.schedulers_online,
    dirty_cpu_schedulers_online = now.dirty_cpu_schedulers_online,
    dirty_io_schedulers = now.dirty_io_schedulers,
    run_queue = now.run_queue,
    dirty_cpu_run_queue = dirty_cpu,
    dirty_io_run_queue = dirty_io,
  }
end

local function get_atoms(target)
  local now, err, code = read_counters(target)
  if not now then
    return nil, err, code
  end
  return {
    atom_count = now.atom_count,
    atom_limit = now.atom_limit,
    atom_mb = mib(now.memory.atom),
    atom_used_mb = mib(now.memory.atom_used),
  }
end

local function elixir_version(target)
  local version, err, code = target:eval(ELIXIR_VERSION, {}, { timeout_ms = TIMEOUT_MS })
  if counters.is_without_eval(code) then
    version, err, code = target:call("application", "get_key",
      { dist.atom("elixir"), dist.atom("vsn") }, { timeout_ms = TIMEOUT_MS })
    -- {ok, Characters}, or undefined
    version = type(version) == "table" and string.char(unpack(version[2])) or version
  end
  if version == nil then
    return nil, err, code
  end
  return version ~= "undefined" and version or json.null
end

local function get_system(target)
  local now, err, code = read_system(target)
  local version
  if now then
    version, err, code = elixir_version(target)
  end
  if not version then
    return nil, err, code
  end
  return {
    node = names.clean(target.node),
    otp_release = now.otp_release,
    elixir_version = version,
    uptime_seconds = math.floor(now.uptime_ms / 1000),
    schedulers_online = now.schedulers_online,
    erts_version = now.version,
    wordsize = now.wordsize,
  }
end

local function get_persistent_terms(target)
  local info, err, code = target:call("persistent_term", "info", {}, { timeout_ms = TIMEOUT_MS })
  if not info then
    return nil, err, code
  end
  return { count = info.count, memory_mb = mib(info.memory) }
end

local function top_processes(target, limit, sort_by)
  local found, err, _, pass = target:swept("processes")
  if not found then
    return nil, err
  end
  local rows = {}
  for i = 1, math.min(limit, #found.top[sort_by]) do
    local row = found.rows[found.top[sort_by][i]]
    rows[i] = {
      pid = row.pid,
      name = row.name,
      memory_kb = row.memory_kb,
      message_queue = row.message_queue,
      message_queue_per_s = row.message_queue_per_s or json.null,
      reductions = row.reductions,
      reductions_per_s = row.reductions_per_s or json.null,
      binary_kb = row.binary_kb or json.null,
      current_function = row.current_function or json.null,
      status = row.status,
    }
  end
  return {
    total_processes = found.total,
    showing = #rows,
    offset = 0,
    limit = limit,
    sort_by = sort_by,
    swept_at = pass.swept_at,
    sampled_at = units.format_time(pass.swept_at),
    skipped = found.skipped,
    processes = json.array(rows),
  }, { total = found.total, returned = #rows, skipped = found.skipped, took_ms = found.took_ms }
end

local PROCESS_FIELDS = {
  { name = "pid", type = "string" },
  { name = "name", type = "string", doc = "registered name, else label, else initial call" },
  { name = "memory_kb", type = "integer", unit = "KiB" },
  { name = "message_queue", type = "integer", unit = "messages" },
  { name = "message_queue_per_s", type = "number", unit = "messages/s", nullable = true },
  { name = "reductions", type = "integer", doc = "since its start" },
  { name = "reductions_per_s", type = "number", nullable = true },
  { name = "binary_kb", type = "integer", unit = "KiB", nullable = true,
    doc = "large binaries that it refers to" },
  { name = "current_function", type = "string", nullable = true },
  { name = "status", type = "string" },
}

local TOP_PROCESSES = {
  name = "beam_top_processes",
  params = {
    { name = "limit", type = "integer", default = 10, min = 1, max = 50 },
    {
      name = "sort_by", type = "string", default = "memory",
      values = {
        "memory", "message_queue", "reductions", "reductions_per_s", "message_queue_per_s",
        "binary",
      },
      aliases = { queue = "message_queue" },
    },
  },
  returns = {
    count("total_processes"),
    count("showing"),
    count("offset"),
    count("limit"),
    { name = "sort_by", type = "string" },
    { name = "swept_at", type = "integer", unit = "Unix ms" },
    { name = "sampled_at", type = "string", doc = "the same, ISO 8601 UTC" },
    count("skipped", "processes that could not be looked at"),
    { name = "processes", type = "list", fields = PROCESS_FIELDS },
  },
  doc = "The processes that lead in one order, as the last sweep of the node saw them; rates are "
    .. "over one second.",
  run = top_processes,
}

local CALLBACKS = {
  {
    name = "beam_get_memory",
    returns = {
      mb("total_mb"), mb("processes_mb"), mb("processes_used_mb"), mb("system_mb"),
      mb("binary_mb"), mb("ets_mb"), mb("code_mb"),
    },
    doc = "What the virtual machine has allocated, by kind (erlang:memory/0).",
    run = get_memory,
  },
  {
    name = "beam_get_processes",
    returns = {
      count("process_count"), count("process_limit"), count("port_count"), count("port_limit"),
    },
    doc = "How many processes and ports there are, and may be.",
    run = get_processes,
  },
  {
    name = "beam_get_schedulers",
    returns = {
      count("schedulers"), count("schedulers_online"), count("dirty_cpu_schedulers_online"),
      count("dirty_io_schedulers"), count("run_queue", "ready to run on normal schedulers"),
      count("dirty_cpu_run_queue"), count("dirty_io_run_queue"),
    },
    doc = "The schedulers, and how many processes wait for one.",
    run = get_schedulers,
  },
  {
    name = "beam_get_atoms",
    returns = { count("atom_count"), count("atom_limit"), mb("atom_mb"), mb("atom_used_mb") },
    doc = "Atoms are never freed: at the limit the node dies.",
    run = get_atoms,
  },
  {
    name = "beam_get_system",
    returns = {
      { name = "node", type = "string" },
      { name = "otp_release", type = "string" },
      { name = "elixir_version", type = "string", nullable = true },
      count("uptime_seconds"), count("schedulers_online"),
      { name = "erts_version", type = "string" },
      count("wordsize", "bytes"),
    },
    doc = "The node: its name, versions and uptime.",
    run = get_system,
  },
  {
    name = "beam_get_persistent_terms",
    returns = { count("count"), mb("memory_mb") },
    doc = "Persistent terms. Each change of one makes every process collect its garbage.",
    run = get_persistent_terms,
  },
  TOP_PROCESSES,
}

return {
  name = "beam",
  title = "BEAM VM",
  description = "The virtual machine of an Erlang or Elixir node: memory, processes, ports, atoms, "
    .. "schedulers.",
  instructions = [[
What to look for:
- memory_utilization_pct above 80: resident memory against the smallest limit of machine and
  cgroup; above 90 the OOM killer is near. memory_total_mb splits into processes, binary, ets, code.
- process, port and atom utilization above 80: at 100 the node refuses new ones; at the atom limit
  it dies, and atoms are never freed.
- scheduler_run_queue above twice schedulers_online for minutes: the schedulers are saturated. Short
  peaks are normal. A dirty_io_run_queue that stays above dirty_io_schedulers: all who open or write
  files wait.
- A mailbox that grows for minutes: find it with beam_top_processes(5, "message_queue") and see
  message_queue_per_s and current_function. One that drains, or is flushed now and then, is normal.
- memory_binary_mb that grows for half an hour while ports and processes do not: see who holds more
  and more with beam_top_processes(5, "binary"). Much of it alone is normal for a broker.
- One process with most of reductions_per_s and status running for minutes: a runaway loop.
A deploy adds tens of thousands of atoms at once, and load adds processes and ports together: a jump
alone is no leak. Compare two readings before you judge.]],
  metrics = {
    fields.nullable(metric("memory_utilization_pct", "%", "resident memory against the smallest "
      .. "limit")),
    metric("process_utilization_pct", "%", "of the limit"),
    metric("port_utilization_pct", "%", "of the limit"),
    metric("atom_utilization_pct", "%", "of the limit"),
    count("scheduler_run_queue", "processes and ports ready to run"),
    count("schedulers_online"),
    count("dirty_cpu_run_queue", "processes that wait for a dirty CPU scheduler"),
    count("dirty_io_run_queue", "processes that wait for a dirty IO scheduler"),
    count("dirty_cpu_schedulers_online"),
    count("dirty_io_schedulers"),
    count("process_count"),
    count("process_limit"),
    count("port_count"),
    count("port_limit"),
    count("atom_count"),
    count("atom_limit"),
    count("ets_count", "tables"),
    mb("memory_total_mb", "allocated by the virtual machine"),
    mb("memory_processes_mb"),
    mb("memory_binary_mb"),
    mb("memory_ets_mb"),
    mb("memory_code_mb"),
    fields.nullable(mb("memory_rss_mb", "resident memory of the OS process")),
    fields.nullable(mb("memory_limit_mb",
      "the smallest of the machine's memory and its cgroups' limits")),
    { name = "memory_basis", type = "string", nullable = true,
      doc = "what memory_utilization_pct counts" },
    count("uptime_s", "seconds"),
    count("mono_ms", "the node's monotonic clock"),
    { name = "code_server_answers", type = "boolean", doc = "false: it does not load the modules "
      .. "that evaluating needs, so there are counters alone" },
  },
  snapshot = snapshot,
  sweeps = { "processes", "monitors", "singletons", "allocators" },
  callbacks = CALLBACKS,
  rules = rules,
}
