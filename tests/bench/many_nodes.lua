-- What full histories of many watchers take: 70 min of samples each, 6 min of sweeps per node.
--
--   build/beamlens lua tests/bench/many_nodes.lua [NODES] [WATCHERS] [PROCESSES]   (50, 5, 60)
--
-- The samples are made up, in the shape of the beam domain's, as a small node gives them: most
-- figures move a little, limits stay. PROCESSES is how many rows a pass keeps.

local history = require("runtime.history")
local ids = require("runtime.ids")

local nodes, watchers, processes = tonumber(arg[1]) or 50, tonumber(arg[2]) or 5,
  tonumber(arg[3]) or 60

local SAMPLES, EVERY_S = 420, 10

local function kib()
  collectgarbage()
  collectgarbage()
  return collectgarbage("count")
end

local function round2(value)
  return math.floor(value * 100 + 0.5) / 100
end

local function near(value, share)
  return value * (1 + (math.random() - 0.5) * share)
end

local function snapshot(second)
  local data = {
    memory_basis = "rss", memory_limit_mb = 24105.12, process_limit = 262144, port_limit = 65536,
    atom_limit = 1048576, schedulers_online = 1, dirty_cpu_run_queue = 0, dirty_io_run_queue = 0,
    scheduler_run_queue = math.random(0, 2), ets_count = 26, port_count = 9 + math.random(0, 1),
    process_count = 60 + math.random(0, 3), atom_count = 11000 + math.floor(second / 60),
    mono_ms = second * 1000 - 576460750000, uptime_s = 1000 + second,
  }
  for _, key in ipairs({ "memory_utilization_pct", "process_utilization_pct",
    "port_utilization_pct", "atom_utilization_pct", "memory_total_mb", "memory_processes_mb",
    "memory_binary_mb", "memory_ets_mb", "memory_code_mb", "memory_rss_mb" }) do
    data[key] = round2(near(25, 0.1))
  end
  return data
end

local function pass(second)
  local rows = {}
  for i = 1, processes do
    local pid = ("<0.%d.0>"):format(100 + i)
    rows[pid] = { pid = pid, name = "worker_" .. i, subject = "worker_" .. i, registered = true,
      memory_kb = 10 + i, message_queue = 0, reductions = second * i, reductions_per_s = i,
      message_queue_per_s = 0, current_function = "gen_server:loop/7", status = "waiting" }
  end
  return { mono_ms = second * 1000 - 576460750000, processes = rows, top = {} }
end

local function fill(list)
  for i = 1, SAMPLES do
    local second = i * EVERY_S
    for _, one in ipairs(list) do
      local data = snapshot(second)
      one:add({ id = ids.hex(16), at_ms = 1.8e12 + second * 1000, mono_ms = data.mono_ms,
        data = data, took_ms = 1.5 })
    end
  end
end

local function main()
  local before = kib()
  local all = {}
  for i = 1, nodes * watchers do
    all[i] = history.new()
  end
  local started = os.clock()
  fill(all)
  local took_s = os.clock() - started
  local samples = kib() - before
  before = kib()
  local passes = {}
  for second = EVERY_S, 360, EVERY_S do
    passes[#passes + 1] = pass(second)
  end
  local per_node = kib() - before
  print(("%d x %d histories of %d samples: %.1f MB, %.4f MB per (node, domain)"):format(nodes,
    watchers, SAMPLES, samples / 1024, samples / 1024 / #all))
  print(("%.1f µs to take a sample in"):format(took_s / SAMPLES / #all * 1e6))
  print(("%d passes of %d rows, none shared: %.2f MB per node, %.1f MB for %d nodes"):format(
    #passes, processes, per_node / 1024, per_node / 1024 * nodes, nodes))
  assert(#all[1]:samples() == SAMPLES)
end

main()
return 0
