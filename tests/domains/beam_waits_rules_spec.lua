-- The rules of beam about binaries, dirty schedulers, monitors, circles of calls, singletons and
-- allocators, over made-up lives.

local lives = require("support.lives")

local RULES = dofile("domains/beam.lua").rules
local PARTS = { "processes", "monitors", "singletons", "allocators" }

local function process(pid, changes)
  local row = {
    pid = pid, name = pid, subject = pid, registered = false, memory_kb = 10, message_queue = 0,
    reductions = 1000, reductions_per_s = 0, message_queue_per_s = 0, total_heap_kb = 8,
    binary_kb = 0, current_function = "gen_server:loop/7", status = "waiting",
  }
  for key, value in pairs(changes or {}) do
    row[key] = value
  end
  return row
end

local function part(rows, tracked, top)
  return { rows = rows, top = top or {}, total = 500, skipped = 0, tracked = tracked or {} }
end

-- A life of a node; `parts(t)` gives rows by part.
local function life(seconds, opts)
  return {
    seconds = seconds, sweep_every = opts.sweep_every, every = opts.every, hold_s = opts.hold_s,
    data = function(t)
      local data = {
        memory_utilization_pct = 20, memory_rss_mb = 400, memory_limit_mb = 8192,
        memory_total_mb = 300, memory_processes_mb = 100, memory_binary_mb = 50,
        memory_ets_mb = 20, memory_code_mb = 20, process_count = 500, port_count = 40,
        dirty_io_run_queue = 0, dirty_io_schedulers = 10, dirty_cpu_run_queue = 0,
        dirty_cpu_schedulers_online = 2,
      }
      for key, value in pairs(opts.data and opts.data(t) or {}) do
        data[key] = value
      end
      return data
    end,
    pass = function(t)
      local given = opts.parts and opts.parts(t) or {}
      local binary = {}
      for pid in pairs(given.processes or {}) do
        binary[#binary + 1] = pid
      end
      table.sort(binary, function(a, b)
        return given.processes[a].binary_kb > given.processes[b].binary_kb
      end)
      return {
        processes = part(given.processes or {}, { "memory_kb", "total_heap_kb", "binary_kb" },
          { binary = binary, message_queue = {}, memory = {}, reductions_per_s = {} }),
        monitors = part(given.monitors or {}, { "monitors" }),
        singletons = part(given.singletons or {}),
        allocators = part(given.allocators or {}, { "carriers_kb", "used_kb" }),
      }
    end,
  }
end

local function run(type_name, seconds, opts)
  return lives.live(lives.rule(RULES, type_name), life(seconds, opts), PARTS)
end

local function subjects(list)
  local names = {}
  for i, finding in ipairs(list) do
    names[i] = finding.subject
  end
  table.sort(names)
  return table.concat(names, ", ")
end

describe("binary_growth", function()
  -- Holders gather `rates` KiB a second each, by name; the node has that and 50 MiB more.
  local function leak(seconds, rates, opts)
    opts = opts or {}
    local function held(t, rate)
      return opts.held and opts.held(t) or 1024 + rate * math.min(t, opts.until_s or math.huge)
    end
    return run("binary_growth", seconds, {
      data = function(t)
        local mb = 50
        for _, rate in pairs(rates) do
          mb = mb + held(t, rate) / 1024
        end
        local data = { memory_binary_mb = mb, memory_rss_mb = 350 + mb }
        for key, value in pairs(opts.data and opts.data(t) or {}) do
          data[key] = value
        end
        return data
      end,
      parts = function(t)
        local rows = { broker = process("broker", { binary_kb = 40000 }) }
        for name, rate in pairs(opts.holders or rates) do
          rows[name] = process(name, { binary_kb = math.floor(held(t, rate)) })
        end
        return { processes = rows }
      end,
    })
  end

  it("names who holds ever more, each by itself, with rate and time left", function()
    local found = leak(2400, { uploads = 200, thumbnails = 150 })
    assert.equal(0, #found[1500])
    assert.equal("thumbnails, uploads", subjects(found[2400]))
    for _, finding in ipairs(found[2400]) do
      local rate = finding.subject == "uploads" and 200 or 150
      assert.is_true(math.abs(finding.per_s - rate) < 3, finding.per_s)
      assert.is_true(math.abs(finding.eta_s - (8192 - 1200) * 1024 / 350) < 1500, finding.eta_s)
      assert.equal("warning", finding.severity)
    end
    assert.matches("^uploads uploads holds .* of binaries, .* 30 m before; memory limit in about "
      .. "%d h$", found[2400][1].subject == "uploads" and found[2400][1].summary
        or found[2400][2].summary)
  end)

  it("says so when no process holds them", function()
    local found = leak(2400, { socket_buffers = 300 }, { holders = {} })
    assert.equal("binaries", subjects(found[2400]))
    assert.matches("no single process holds the new ones %(most: broker, 39.1 MiB%)",
      found[2400][1].summary)
  end)

  it("finds a node that binaries fill, and tells who holds most", function()
    local function full(pct, ets_mb)
      return run("binary_growth", 100, {
        data = function()
          return { memory_utilization_pct = pct, memory_binary_mb = 5000, memory_rss_mb = 7200,
            memory_ets_mb = ets_mb }
        end,
        parts = function()
          return { processes = { uploads = process("uploads", { binary_kb = 4000 * 1024 }) } }
        end,
      })[100]
    end
    assert.equal("uploads", subjects(full(88, 20)))
    assert.equal("warning", full(88, 20)[1].severity)
    assert.equal("critical", full(92, 20)[1].severity)
    assert.equal(0, #full(84, 20))
    assert.equal(0, #full(88, 6000))
  end)

  it("lets a broker full of binaries be, a jump, a sawtooth, load, a deploy", function()
    local mb = 1024
    local healthy = {
      broker = { held = function(t) return 3000 * mb + (t % 60) * mb end },
      jump = { held = function(t) return t < 1200 and mb or 800 * mb end },
      sawtooth = { held = function(t) return mb + (t % 900) * mb end },
      plateau = { held = function(t) return 900 * mb * (1 - math.exp(-t / 300)) end },
      slow = { held = function(t) return 100 * mb + 20 * t end },
      load = { held = function(t) return mb + 200 * t end,
        data = function(t) return { port_count = 40 + t, process_count = 500 + 2 * t } end },
      deploy = { held = function(t) return mb + 200 * t end,
        data = function(t) return { memory_code_mb = 20 + math.floor(t / 500) } end },
    }
    for name, opts in pairs(healthy) do
      assert.equal(0, lives.count(leak(4200, { uploads = 0 }, opts)), name)
    end
  end)

  it("ends when they do not grow any more", function()
    local found = leak(4800, { uploads = 300 }, { until_s = 2400 })
    assert.equal(1, #found[2400])
    assert.equal(0, #found[4200])
  end)
end)

describe("dirty_queue", function()
  local function queued(length, place)
    return run("dirty_queue", 60, {
      hold_s = 20,
      data = function(t) return { dirty_io_run_queue = length(t) } end,
      parts = function()
        return { processes = { a = process("a", { status = "runnable",
          current_function = place or "prim_file:open_nif/2" }), b = process("b") } }
      end,
    })
  end

  it("finds more in the queue than there are schedulers, and where they are", function()
    local finding = queued(function() return 54 end)[60][1]
    assert.equal("dirty IO schedulers", finding.subject)
    assert.equal(54, finding.value)
    assert.equal("54 processes wait for the 10 dirty IO schedulers; many are in "
      .. "prim_file:open_nif/2", finding.summary)
  end)

  it("lets a short queue be, and ends at half of the schedulers", function()
    assert.equal(0, lives.count(queued(function() return 10 end)))
    local found = queued(function(t) return t <= 40 and 54 or t == 50 and 7 or 5 end)
    assert.equal(1, #found[50])
    assert.equal(0, #found[60])
  end)
end)

describe("monitor_growth", function()
  local function watched(seconds, count, opts)
    opts = opts or {}
    return run("monitor_growth", seconds, {
      data = function() return { process_count = opts.process_count or 500000 } end,
      parts = function(t)
        return { monitors = { ["<0.9.0>"] = {
          pid = "<0.9.0>", name = "presence", subject = "presence", monitors = count(t),
          monitored = opts.monitored and opts.monitored(t) or 3, is_bound = false,
          is_calling = false, may_answer = 0, waits_for = {},
        } } }
      end,
    })
  end

  it("finds one that monitors the same again and again", function()
    local found = watched(2400, function(t) return 20000 + 10 * t end)
    assert.equal(0, #found[1600])
    local finding = found[2400][1]
    assert.equal("presence", finding.subject)
    assert.is_true(math.abs(finding.per_s - 10) < 0.1)
    assert.equal("presence <0.9.0>: 44 000 monitors of 3 processes, 26 000 30 m before",
      finding.summary)
  end)

  it("lets a scope of groups be that fills with members, and a jump", function()
    local function rising(t) return 20000 + 10 * t end
    assert.equal(0, lives.count(watched(4200, rising, { monitored = rising })))
    assert.is_true(lives.count(watched(2400, rising,
      { monitored = rising, process_count = 20000 })) > 0)
    assert.equal(0, lives.count(watched(4200, function(t) return t < 1800 and 100 or 60000 end)))
    assert.equal(0, lives.count(watched(4200, function() return 60000 end)))
  end)

  it("ends when they are given up", function()
    local found = watched(2800, function(t) return t <= 2400 and 20000 + 10 * t or 50 end)
    assert.equal(1, #found[2400])
    assert.equal(0, #found[2410])
  end)
end)

describe("deadlock", function()
  -- Edges by name; `changes(t)` may change rows of processes and of monitors.
  local function waiting(seconds, edges, changes)
    return run("deadlock", seconds, {
      hold_s = 5,
      parts = function(t)
        local processes, monitors = {}, {}
        for name, to in pairs(edges) do
          processes[name] = process(name, { message_queue = 1 + math.floor(t / 100),
            current_function = "gen:do_call/4", reductions = 1000 + t })
          monitors[name] = { pid = name, name = name, subject = name, monitors = #to,
            monitored = #to, is_bound = false, is_calling = true, may_answer = 0, waits_for = to }
        end
        if changes then
          changes(t, processes, monitors)
        end
        return { processes = processes, monitors = monitors }
      end,
    })
  end

  it("names all of a circle, after 15 s", function()
    local found = waiting(60, { orders = { "stock" }, stock = { "billing" },
      billing = { "orders" } })
    assert.equal(0, #found[10])
    assert.equal("billing, orders and stock", found[20][1].subject)
    assert.equal("billing billing, orders orders and stock stock wait for each other's answer for "
      .. "20 s, in gen:do_call/4; 3 messages wait for them", found[20][1].summary)
  end)

  it("tells two circles apart, and ends each by itself", function()
    local edges = { a = { "b" }, b = { "a" }, c = { "d" }, d = { "c" } }
    local found = waiting(100, edges, function(t, _, monitors)
      if t > 60 then
        monitors.c, monitors.d = nil, nil
      end
    end)
    assert.equal("a and b, c and d", subjects(found[60]))
    assert.equal("a and b", subjects(found[100]))
  end)

  it("lets a chain be, one that may be answered, and one that goes on", function()
    assert.equal(0, lives.count(waiting(200, { a = { "b" }, b = { "c" }, c = {} })))
    assert.equal(0, lives.count(waiting(200, { a = { "b" }, b = { "a" } },
      function(_, _, monitors) monitors.b.may_answer = 1 end)))
    assert.equal(0, lives.count(waiting(200, { a = { "b", "c" }, b = { "a" }, c = {} },
      function(_, _, monitors) monitors.c.may_answer = 1 end)))
    assert.equal(0, lives.count(waiting(200, { a = { "b" }, b = { "a" } },
      function(t, processes) processes.b.reductions = 1000 + 50 * t end)))
    assert.equal(0, lives.count(waiting(10, { a = { "b" }, b = { "a" } })))
  end)

  it("gives a circle a minute whose members monitor others, too", function()
    local found = waiting(100, { a = { "b" }, b = { "a" } },
      function(_, _, monitors) monitors.b.monitored = 5 end)
    assert.equal(0, #found[50])
    assert.equal("a and b", subjects(found[60]))
  end)
end)

describe("hung_singleton", function()
  local function singleton(seconds, changes, opts)
    opts = opts or {}
    return run("hung_singleton", seconds, {
      hold_s = 5,
      data = function(t) return { uptime_s = (opts.uptime_s or 7200) + t } end,
      parts = function(t)
        local row = { name = "code_server", pid = "<0.50.0>", message_queue = 3, reductions = 500,
          status = "waiting", current_function = "sys:suspend_loop_hib/6" }
        for key, value in pairs(changes(t)) do
          row[key] = value
        end
        return { singletons = { code_server = row } }
      end,
    })
  end

  it("finds one that took no message for half a minute", function()
    local found = singleton(60, function(t)
      return { message_queue = 3 + t, reductions = 500 + 3 * t }
    end)
    assert.equal(0, #found[20])
    assert.equal("code_server", found[30][1].subject)
    assert.equal("code_server <0.50.0>: 33 messages wait, none taken for 30 s, in "
      .. "sys:suspend_loop_hib/6", found[30][1].summary)
  end)

  it("finds one that works and still falls behind", function()
    local found = singleton(100, function(t)
      return { message_queue = 200 + t, reductions = 500 + 9000 * t, status = "running",
        current_function = "erts_code_purger:do_purge/2" }
    end)
    assert.equal(0, #found[50])
    assert.matches("more than it takes for 1 m", found[60][1].summary)
  end)

  it("lets the others be", function()
    local healthy = {
      idle = function() return { message_queue = 0 } end,
      busy = function(t) return { message_queue = t % 20 == 0 and 5 or 0 } end,
      working = function(t) return { reductions = 500 + 100 * t } end,
      drains = function(t) return { message_queue = 900 - 5 * t, reductions = 9000 * t } end,
      replaced = function(t) return { pid = ("<0.%d.0>"):format(t) } end,
    }
    for name, changes in pairs(healthy) do
      assert.equal(0, lives.count(singleton(120, changes)), name)
    end
    assert.equal(0, lives.count(singleton(120, function() return {} end, { uptime_s = 60 })))
  end)

  it("finds a code_server for which nothing can be evaluated, so that no pass is made", function()
    local found = run("hung_singleton", 60, {
      hold_s = 5, data = function(t) return { code_server_answers = t < 20 } end,
    })
    assert.equal(0, #found[10])
    assert.equal("code_server", found[60][1].subject)
    assert.equal(40, found[60][1].value)
  end)

  it("ends when it takes its messages", function()
    local found = singleton(80, function(t) return { message_queue = t > 60 and 0 or 3 } end)
    assert.equal(1, #found[60])
    assert.equal(0, #found[70])
  end)
end)

describe("allocator_fragmentation", function()
  local function kept(seconds, carriers_mb, used_mb, data)
    return run("allocator_fragmentation", seconds, {
      data = function() return data or {} end,
      parts = function(t)
        return { allocators = {
          binary_alloc = { name = "binary_alloc", carriers_kb = carriers_mb(t) * 1024,
            used_kb = used_mb(t) * 1024 },
          eheap_alloc = { name = "eheap_alloc", carriers_kb = 200 * 1024, used_kb = 150 * 1024 },
        } }
      end,
    })
  end
  local function always(value)
    return function() return value end
  end

  it("is told after half an hour, and matters when the memory is nearly full", function()
    local found = kept(2000, always(205), always(11))
    assert.equal(0, #found[1700])
    assert.equal("binary_alloc", subjects(found[2000]))
    assert.equal("info", found[2000][1].severity)
    assert.matches("^binary_alloc keeps 205.0 MiB for blocks of 11.0 MiB %(5 %%%)",
      found[2000][1].summary)
    assert.equal("warning", kept(2000, always(205), always(11),
      { memory_utilization_pct = 85 })[2000][1].severity)
  end)

  it("lets the aftermath of a peak be, what is small, and what is in use", function()
    assert.equal(0, lives.count(kept(4000, function(t) return t % 1500 < 300 and 205 or 40 end,
      always(11))))
    assert.equal(0, lives.count(kept(4000, always(205), function(t)
      return t % 1500 < 300 and 150 or 11
    end)))
    assert.equal(0, lives.count(kept(4000, always(50), always(2))))
    assert.equal(0, lives.count(kept(4000, always(205), always(11), { memory_rss_mb = 2000 })))
  end)

  it("ends when the memory is given back", function()
    local found = kept(2400, function(t) return t <= 2000 and 205 or 30 end, always(11))
    assert.equal(1, #found[2000])
    assert.equal(0, #found[2100])
  end)
end)
