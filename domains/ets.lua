--- The ets domain: the ETS tables of a node.

local counters = require("runtime.domain.counters")
local fields = require("domains.node.fields")
local json = require("runtime.json")
local node_memory = require("domains.node.memory")
local rules = require("domains.ets.rules")
local table_info = require("domains.ets.info")
local tables = require("runtime.sweep.tables")
local units = require("runtime.units")

local count, mb, mib = fields.count, fields.mb, fields.mib

local MAX_ROWS = 500

local read = counters.reader({
  "ets_count", "ets_limit", "memory", "process_count", "port_count", "uptime_ms", "mono_ms",
})

local function largest_mb(found)
  local id = found and found.top.memory[1]
  return id and fields.round2(found.rows[id].memory_kb / 1024) or json.null
end

local function snapshot(target)
  local now, err, code = read(target)
  if not now then
    return nil, err, code
  end
  local pass = target.sweep and target.sweep:latest()
  local data = {
    table_count = now.ets_count,
    table_limit = now.ets_limit,
    total_memory_mb = mib(now.memory.ets),
    largest_table_mb = largest_mb(pass and pass.tables),
    process_count = now.process_count,
    port_count = now.port_count,
    memory_total_mb = mib(now.memory.total),
    memory_code_mb = mib(now.memory.code),
    uptime_s = math.floor(now.uptime_ms / 1000),
    mono_ms = now.mono_ms,
  }
  node_memory.add(target, data, now.memory.total)
  return data
end

local function view(row)
  return {
    name = row.name, id = row.id, type = row.type, protection = row.protection, size = row.size,
    memory_kb = row.memory_kb, owner = row.owner, owner_name = row.owner_name,
    compressed = row.compressed,
  }
end

local function views(found, order, limit)
  local rows = {}
  for i = 1, math.min(limit, #found.top[order]) do
    rows[i] = view(found.rows[found.top[order][i]])
  end
  return json.array(rows), { total = found.total, returned = #rows, skipped = found.skipped,
    took_ms = found.took_ms }
end

local function list_tables(target)
  local found, err, code = tables.read(target, MAX_ROWS)
  if not found then
    return nil, err, code
  end
  return views(found, "memory", MAX_ROWS)
end

local function top_tables(target, limit, sort_by)
  local found, err, _, pass = target:swept("tables")
  if not found then
    return nil, err
  end
  local rows, meta = views(found, sort_by, limit)
  meta.sampled_at = units.format_time(pass.swept_at)
  return rows, meta
end

local ROW = {
  list = true,
  { name = "name", type = "string", doc = "as given to ets:new; unnamed tables have one, too" },
  { name = "id", type = "string", doc = "the name, or #Ref<…> of an unnamed table" },
  { name = "type", type = "string", doc = "set, ordered_set, bag or duplicate_bag" },
  { name = "protection", type = "string", doc = "public, protected or private" },
  { name = "size", type = "integer", unit = "objects" },
  { name = "memory_kb", type = "integer", unit = "KiB" },
  { name = "owner", type = "string", doc = "its pid" },
  { name = "owner_name", type = "string", doc = "registered name, else label, else initial call" },
  { name = "compressed", type = "boolean" },
}

return {
  name = "ets",
  title = "ETS tables",
  description = "The ETS tables of an Erlang or Elixir node: how many, how large, whose.",
  instructions = [[
What to look for:
- One table that grows through hours while load stays the same, towards the memory limit: rows
  that nobody deletes. A cache that warms up, grows in one step or stands on a plateau is normal,
  and so is a table that is most of the node's memory (Mnesia, sessions): its share alone says
  nothing.
- table_count that climbs steadily: tables that are made per request and never deleted; a table
  lives as long as its owner. table_limit is not enforced any more; memory is what ends.
- Compare two readings before you judge: ets_top_tables is of the last sweep, ets_table_info of
  now.]],
  sweeps = { "tables" },
  metrics = {
    count("table_count"),
    mb("total_memory_mb", "all tables"),
    fields.nullable(mb("largest_table_mb", "as the last sweep saw it")),
    count("table_limit", "of former releases; not enforced"),
    count("process_count"),
    count("port_count"),
    mb("memory_total_mb", "allocated by the virtual machine"),
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
      name = "ets_list_tables",
      returns = ROW,
      doc = "All tables now, the largest first; at most 500.",
      run = list_tables,
    },
    {
      name = "ets_table_info",
      params = {
        { name = "table_name", type = "string", max = 1024,
          doc = "a name, or the id of an unnamed table" },
      },
      returns = table_info.RETURNS,
      doc = "One table now. Of unnamed tables with that name it is the largest.",
      run = table_info.read,
    },
    {
      name = "ets_top_tables",
      params = {
        { name = "limit", type = "integer", default = 10, min = 1, max = 50 },
        { name = "sort_by", type = "string", default = "memory", values = { "memory", "size" } },
      },
      returns = ROW,
      doc = "The largest tables, as the last sweep of the node saw them.",
      run = top_tables,
    },
  },
  rules = rules,
}
