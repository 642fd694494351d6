-- Faults on real nodes at a steady rate, which end after 36 min, and on one more node as much as
-- each takes, at once. The rules must find the ones and not the others, and let go of what ended.
--
-- Takes 3000 s, whatever is asked for: the rules about growth look at half an hour.

local async = require("runtime.async")
local node = require("support.node")
local support = require("support")

local SECONDS = 3000
local BEGIN_S, END_S = 30, 2190
local MIB = 1024 * 1024

local function write(path, text)
  local file = assert(io.open(path, "w"))
  assert(file:write(text))
  assert(file:close())
end

-- A memory cgroup of its own for a node, so that a small leak is a large part of the limit.
local function cgroup(name, mib)
  local file = assert(io.open("/proc/self/cgroup"))
  local own = file:read("*a"):match(":memory:([^\n]*)")
  file:close()
  assert(own, "this scenario needs a memory controller of cgroup v1, and to be root")
  local path = ("/sys/fs/cgroup/memory%s/%s"):format(own, name)
  assert(os.execute(("mkdir -p '%s'"):format(path)) == 0, "no cgroup: " .. path)
  support.on_cleanup(function()
    os.execute(("rmdir '%s'"):format(path))
  end)
  write(path .. "/memory.limit_in_bytes", tostring(mib * MIB))
  return path
end

local function start(name, mib, args)
  local group = mib and cgroup(name, mib)
  local n = node.start({ name = name, args = args })
  if group then
    write(group .. "/cgroup.procs", tostring(n.pid))
  end
  return n
end

-- By node: how it is started, what leaks (name, kind, a second), and what is to be found.
local LEAKS = {
  { name = "sick_counts", args = { "+t", "200000" },
    leaks = { { "sick_names", "atoms", 10 }, { "sick_watcher", "monitors", 100 },
      { "sick_cache", "tables", 0.5 } },
    expected = { "atom_growth atoms", "monitor_growth sick_watcher",
      "ets_table_count sick_cache" } },
  { name = "sick_processes", args = { "+P", "32768" },
    leaks = { { "sick_spawner", "processes", 2 } },
    expected = { "process_growth processes" } },
  { name = "sick_children", args = { "+P", "32768" },
    leaks = { { "sick_jobs", "children", 2 } },
    expected = { "child_growth sick_jobs_sup", "process_growth processes" } },
  { name = "sick_ports", args = { "+Q", "4096" }, files = 8192,
    leaks = { { "sick_sockets", "ports", 0.5 }, { "sick_files", "files", 1.5 } },
    expected = { "port_growth udp_inet", "fd_growth file descriptors" } },
  { name = "sick_binaries", mib = 800,
    leaks = { { "sick_uploads", "binaries", 2 }, { "sick_thumbs", "binaries", 1 } },
    expected = { "binary_growth sick_uploads", "binary_growth sick_thumbs" } },
  { name = "sick_tables", mib = 800,
    leaks = { { "sick_orders", "rows", 110 }, { "sick_carts", "rows", 70 } },
    expected = { "ets_growth sick_orders", "ets_growth sick_carts", "memory_growth memory" } },
  { name = "sick_heap", mib = 800,
    leaks = { { "sick_router", "kilobytes", 100 } },
    expected = { "large_heap sick_router", "memory_growth memory" } },
}

-- On one node more: the short faults, from one second to another.
local SHORT = {
  { 60, 2400, "soak_sick:pile(200).", "fl:stop().", "allocator_fragmentation binary_alloc" },
  { 400, 600, "fl_waits:deadlock([sick_a, sick_b]).", "exit(whereis(sick_b), kill).",
    "deadlock sick_a and sick_b" },
  { 700, 900, "sys:suspend(code_server), [spawn(fun() -> code:which(lists) end)"
    .. " || _ <- lists:seq(1, 5)].", "sys:resume(code_server).", "hung_singleton code_server" },
  { 1000, 1300, "fl:slow_consumer(sick_consumer, 40, 10).",
    "exit(whereis(sick_consumer), kill).", "mailbox_growth sick_consumer" },
  { 1000, 1300, "fl:selective(sick_waiter, 5000).", "exit(whereis(sick_waiter), kill).",
    "mailbox_stuck sick_waiter" },
}

-- As much at once, minute by minute, on a node that is well.
local JUMPS = {
  { "well_names", "atoms", 20000 }, { "well_watcher", "monitors", 180000 },
  { "well_cache", "tables", 1000 }, { "well_spawner", "processes", 4000 },
  { "well_jobs", "children", 4000 }, { "well_sockets", "ports", 1000 },
  { "well_files", "files", 3000 }, { "well_uploads", "binaries", 4000 },
  { "well_orders", "rows", 200000 }, { "well_router", "kilobytes", 180000 },
}

local function call(fn, item)
  return ("soak_sick:%s(%s, %s, %s)."):format(fn, item[1], item[2], item[3])
end

-- What happens when: { second, node, Erlang }, in order.
local function plan(nodes)
  local steps = {}
  local function at(second, n, source)
    steps[#steps + 1] = { second, n, source }
  end
  for i, sick in ipairs(LEAKS) do
    for _, leak in ipairs(sick.leaks) do
      at(BEGIN_S, nodes[i], call("leak", leak))
      at(END_S, nodes[i], ("soak_sick:pause(%s)."):format(leak[1]))
    end
  end
  for _, short in ipairs(SHORT) do
    at(short[1], nodes[#LEAKS + 1], short[3])
    at(short[2], nodes[#LEAKS + 1], short[4])
  end
  for i, jump in ipairs(JUMPS) do
    at(1000 + 60 * i, nodes[#LEAKS + 2], call("jump", jump))
  end
  at(2400, nodes[#LEAKS + 2], "fl:stop().")
  table.sort(steps, function(a, b)
    return a[1] < b[1]
  end)
  return steps
end

local function expected()
  local list = {}
  for _, sick in ipairs(LEAKS) do
    for _, text in ipairs(sick.expected) do
      list[#list + 1] = ("%s@localhost %s"):format(sick.name, text)
    end
  end
  for _, short in ipairs(SHORT) do
    list[#list + 1] = "sick_waits@localhost " .. short[5]
  end
  table.sort(list)
  return list
end

return function()
  local nodes = {}
  for i, sick in ipairs(LEAKS) do
    nodes[i] = start(sick.name, sick.mib, sick.args)
    if sick.files then
      assert(node.run_program("prlimit", { "--pid", tostring(nodes[i].pid),
        ("--nofile=%d:%d"):format(sick.files, sick.files) }) == 0)
    end
  end
  nodes[#nodes + 1] = start("sick_waits", 800)
  nodes[#nodes + 1] = start("well", 2000, { "+t", "200000", "+P", "32768", "+Q", "8192" })
  return {
    seconds = SECONDS,
    nodes = nodes,
    figures = {
      { name = "atoms", at_least = 30000, source = "erlang:system_info(atom_count)." },
      { name = "processes", at_least = 8000, source = "erlang:system_info(process_count)." },
      { name = "MiB of binaries", at_least = 240, source = "erlang:memory(binary) / 1048576." },
    },
    expected = expected(),
    during = function(deadline)
      for _, step in ipairs(plan(nodes)) do
        async.sleep(math.max(0, deadline:left_ms() - (SECONDS - step[1]) * 1000))
        step[2]:eval(step[3])
      end
    end,
  }
end
