--- The rules of the beam domain, with what to ask the node when one fires. What they look for, and
--- the thresholds, are in the modules of domains/beam.

local allocators = require("domains.beam.allocators")
local binaries = require("domains.beam.binaries")
local limits = require("domains.node.limits")
local mailboxes = require("domains.beam.mailboxes")
local monitors = require("domains.beam.monitors")
local schedulers = require("domains.beam.schedulers")
local singletons = require("domains.beam.singletons")
local units = require("runtime.units")

local INVESTIGATE_MAILBOX = [[
local rows = {}
for _, order in ipairs({ "message_queue", "reductions_per_s", "memory" }) do
  rows[order] = {}
  for i, p in ipairs(beam_top_processes(3, order).processes) do
    rows[order][i] = {
      pid = p.pid, name = p.name, message_queue = p.message_queue,
      message_queue_per_s = p.message_queue_per_s, reductions_per_s = p.reductions_per_s,
      memory_kb = p.memory_kb, current_function = p.current_function, status = p.status,
    }
  end
end
local memory = beam_get_memory()
return {
  top = rows,
  memory = { total_mb = memory.total_mb, processes_mb = memory.processes_mb },
  run_queue = beam_get_schedulers().run_queue,
}
]]

local INVESTIGATE_RUNAWAY = [[
local rows = {}
for i, p in ipairs(beam_top_processes(5, "reductions_per_s").processes) do
  rows[i] = {
    pid = p.pid, name = p.name, reductions_per_s = p.reductions_per_s, status = p.status,
    message_queue = p.message_queue, memory_kb = p.memory_kb,
    current_function = p.current_function,
  }
end
return { busiest = rows, schedulers = beam_get_schedulers() }
]]

local INVESTIGATE_SATURATION = [[
local groups, order, total = {}, {}, 0
for _, p in ipairs(beam_top_processes(50, "reductions_per_s").processes) do
  local work = p.reductions_per_s or 0
  total = total + work
  if p.status ~= "waiting" and work > 0 then
    local key = p.current_function or p.name
    local group = groups[key]
    if not group then
      group = { in_function = key, count = 0, reductions_per_s = 0, processes = {} }
      groups[key] = group
      order[#order + 1] = group
    end
    group.count = group.count + 1
    group.reductions_per_s = group.reductions_per_s + work
    if #group.processes < 10 then
      group.processes[#group.processes + 1] = p.name .. " " .. p.pid
    end
  end
end
table.sort(order, function(a, b) return a.reductions_per_s > b.reductions_per_s end)
local first = {}
for i = 1, math.min(5, #order) do first[i] = order[i] end
return { busiest = first, reductions_per_s = total, schedulers = beam_get_schedulers() }
]]

local INVESTIGATE_GROUPS = [[
local groups, order = {}, {}
local top = beam_top_processes(50, "memory")
for _, p in ipairs(top.processes) do
  if not groups[p.name] then
    groups[p.name] = { name = p.name, seen = 0, memory_kb = 0, in_function = p.current_function }
    order[#order + 1] = groups[p.name]
  end
  groups[p.name].seen = groups[p.name].seen + 1
  groups[p.name].memory_kb = groups[p.name].memory_kb + p.memory_kb
end
table.sort(order, function(a, b) return a.memory_kb > b.memory_kb end)
local first = {}
for i = 1, math.min(8, #order) do first[i] = order[i] end
return { groups_of_top_50 = first, memory = beam_get_memory(), counts = beam_get_processes() }
]]

local INVESTIGATE_HOLDERS = [[
local rows = {}
for i, p in ipairs(beam_top_processes(5, "binary").processes) do
  rows[i] = {
    pid = p.pid, name = p.name, binary_kb = p.binary_kb, memory_kb = p.memory_kb,
    message_queue = p.message_queue, current_function = p.current_function,
  }
end
return { holders = rows, memory = beam_get_memory() }
]]

-- Commands for an Erlang shell on the node.
local function look_at_process(finding)
  local a, b, c = tostring(finding.pid):match("^<(%d+)%.(%d+)%.(%d+)>$")
  if not a then
    return nil
  end
  return {
    ("erlang:process_info(c:pid(%s,%s,%s), [current_stacktrace, message_queue_len, links]).")
      :format(a, b, c),
  }
end

local function limit_rule(kind, subject, key, unit, hold)
  return {
    type = kind .. "_limit", severity = "warning", hold = hold or "20s", clear_hold = "60s",
    title = ("%s near their limit"):format(units.capital(subject)),
    when = limits.limit({
      subject = subject, pct = kind .. "_utilization_pct", value = key,
      limit = key:gsub("_count$", "_limit"), unit = unit,
    }),
    investigate = INVESTIGATE_GROUPS,
  }
end

local memory_limit = limit_rule("memory", "memory", "memory_rss_mb", "MiB")
memory_limit.title = "Memory near its limit"
memory_limit.when = limits.limit({
  subject = "memory", pct = "memory_utilization_pct", value = "memory_rss_mb",
  limit = "memory_limit_mb", unit = "MiB",
})

local function growth_rule(kind, opts)
  return {
    type = kind .. "_growth", severity = "warning", hold = "60s", clear_hold = "5m",
    looks_back = "30m",
    title = ("%s grow towards their limit"):format(units.capital(opts.subject)),
    when = limits.growth(opts),
    investigate = INVESTIGATE_GROUPS,
  }
end

local port_limit = limit_rule("port", "ports", "port_count", "ports")
port_limit.left_to = "ports"

local memory_growth = growth_rule("memory", {
  subject = "memory", key = "memory_rss_mb", limit = "memory_limit_mb", unit = "MiB",
  floor = 100, loads = { "port_count", "process_count" }, verb = "grows",
})
memory_growth.title = "Memory grows towards its limit"
local memory_grows = memory_growth.when

-- Binaries that grow are told by a rule of their own, with who holds them.
function memory_growth.when(history, node, held)
  local finding = memory_grows(history, node, held)
  return finding and not binaries.growth(history, node, {}) and finding or nil
end

---@type rule_set.Rule[]
return {
  {
    type = "mailbox_growth", severity = "warning", hold = "60s", clear_hold = "60s",
    title = "A mailbox grows and does not drain",
    when = mailboxes.growth, investigate = INVESTIGATE_MAILBOX, next = look_at_process,
  },
  {
    type = "mailbox_stuck", severity = "warning", hold = "30s", clear_hold = "30s",
    title = "A process takes none of its messages",
    when = mailboxes.stuck, investigate = INVESTIGATE_MAILBOX, next = look_at_process,
  },
  {
    type = "runaway_process", severity = "warning", hold = "5m", clear_hold = "60s",
    title = "A process keeps a scheduler busy",
    when = mailboxes.runaway, investigate = INVESTIGATE_RUNAWAY, next = look_at_process,
  },
  {
    type = "scheduler_saturation", severity = "warning", hold = "3m", clear_hold = "60s",
    title = "Processes wait for the schedulers",
    when = schedulers.saturation, investigate = INVESTIGATE_SATURATION, next = look_at_process,
  },
  limit_rule("process", "processes", "process_count", "processes"),
  port_limit,
  limit_rule("atom", "atoms", "atom_count", "atoms", "10s"),
  memory_limit,
  growth_rule("process", {
    subject = "processes", key = "process_count", limit = "process_limit", unit = "processes",
    floor = 1000, loads = { "port_count" },
  }),
  growth_rule("atom", {
    subject = "atoms", key = "atom_count", limit = "atom_limit", unit = "atoms", floor = 5000,
  }),
  memory_growth,
  {
    type = "binary_growth", severity = "warning", hold = "60s", clear_hold = "5m",
    looks_back = "30m",
    title = "Binaries grow towards the memory limit",
    when = binaries.growth, investigate = INVESTIGATE_HOLDERS, next = look_at_process,
  },
  {
    type = "dirty_queue", severity = "warning", hold = "20s", clear_hold = "60s",
    title = "Processes wait for the dirty schedulers",
    when = schedulers.dirty_queue, investigate = INVESTIGATE_RUNAWAY,
  },
  {
    type = "monitor_growth", severity = "warning", hold = "60s", clear_hold = "5m",
    looks_back = "30m",
    title = "A process gathers monitors",
    when = monitors.growth, investigate = INVESTIGATE_GROUPS, next = look_at_process,
  },
  {
    -- The passes of the sweep have seen these two for their time.
    type = "deadlock", severity = "warning", hold = "5s", clear_hold = "30s",
    title = "Processes wait for each other",
    when = monitors.deadlock, investigate = INVESTIGATE_MAILBOX, next = look_at_process,
  },
  {
    type = "hung_singleton", severity = "warning", hold = "5s", clear_hold = "30s",
    title = "A process that all others need does not answer",
    when = singletons.hung, investigate = INVESTIGATE_MAILBOX, next = look_at_process,
  },
  {
    type = "allocator_fragmentation", severity = "info", hold = "60s", clear_hold = "5m",
    looks_back = "30m",
    title = "Memory is kept for little that is in use",
    when = allocators.fragmentation, investigate = INVESTIGATE_GROUPS,
  },
}
