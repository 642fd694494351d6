local history = require("runtime.history")
local rules = require("domains.beam.rules")
local trends = require("runtime.trends")

local RULES = {}
for _, rule in ipairs(rules) do
  RULES[rule.type] = rule
end

local DATA = {
  uptime_s = 7200, schedulers_online = 2, scheduler_run_queue = 0,
  process_count = 500, process_limit = 262144, process_utilization_pct = 0.19,
  port_count = 50, port_limit = 65536, port_utilization_pct = 0.08,
  atom_count = 20000, atom_limit = 1048576, atom_utilization_pct = 1.91,
  memory_rss_mb = 200, memory_limit_mb = 8000, memory_total_mb = 150,
  memory_utilization_pct = 2.5, memory_code_mb = 20,
}

local function row(pid, changes)
  local made = {
    pid = pid, name = "worker", subject = "worker", registered = true, memory_kb = 100,
    message_queue = 0, reductions = 1000, reductions_per_s = 0, message_queue_per_s = 0,
    current_function = "gen_server:loop/7", status = "waiting",
  }
  for key, value in pairs(changes) do
    made[key] = value
  end
  return made
end

local function pass(mono_ms, rows)
  local made = { mono_ms = mono_ms, total = 500, skipped = 0, rows = {}, top = {} }
  for _, order in ipairs({ "memory", "message_queue", "reductions", "reductions_per_s",
    "message_queue_per_s" }) do
    made.top[order] = {}
    for _, r in ipairs(rows) do
      made.rows[r.pid] = r
      table.insert(made.top[order], r.pid)
    end
    table.sort(made.top[order], function(a, b)
      local key = order == "memory" and "memory_kb" or order
      return made.rows[a][key] > made.rows[b][key]
    end)
  end
  return { mono_ms = mono_ms, swept_at = mono_ms, processes = made }
end

-- Runs a rule over a made-up life of a node: data(t) changes the data, rows(t) are its processes
-- at t seconds. Returns the longest time in seconds for which the rule stood without a break, and
-- what it found at each sample. What stood for `hold_s` is held from then on.
local function live(type_name, life)
  local h = history.new()
  local rule = RULES[type_name]
  local every, sweep_every = life.every or 10, life.sweep_every or 10
  local last_pass, since, longest, held, found = nil, nil, -1, {}, {}
  for t = 0, life.seconds, every do
    local data = {}
    for key, value in pairs(DATA) do
      data[key] = value
    end
    data.uptime_s = DATA.uptime_s + t
    for key, value in pairs(life.data and life.data(t) or {}) do
      data[key] = value
    end
    if life.rows and t % sweep_every == 0 then
      last_pass = pass(t * 1000 - 500, life.rows(t))
    end
    h:add({ id = "x", at_ms = t * 1000, mono_ms = t * 1000, data = data, sweep = last_pass,
      took_ms = 1 })
    local result = rule.when(h, { name = "n", uptime_s = data.uptime_s,
      schedulers_online = data.schedulers_online }, held)
    local list = result and (result[1] and result or (result.subject and { result })) or {}
    found[t] = list[1]
    since = list[1] and (since or t) or nil
    longest = math.max(longest, since and t - since or -1)
    held = {}
    for _, finding in ipairs(list) do
      held[finding.subject] = t - since >= (life.hold_s or 60) and finding or nil
    end
  end
  return longest, found
end

-- The longest time that a rule stood over the mailbox of one process.
local function mailbox(type_name, seconds, queue, life)
  life = life or {}
  life.seconds = seconds
  life.rows = function(t)
    local changes = life.row and life.row(t) or {}
    changes.message_queue = math.floor(queue(t))
    changes.memory_kb = changes.memory_kb or 100 + changes.message_queue
    return { row("<0.512.0>", changes) }
  end
  return live(type_name, life)
end

describe("mailbox_growth", function()
  it("stands while a mailbox grows, and says how fast and until when", function()
    local longest, found = mailbox("mailbox_growth", 120, function(t)
      return math.max(0, t - 30) * 1000
    end, {
      row = function()
        return { name = "orders_worker", subject = "orders_worker",
          current_function = "timer:sleep/1" }
      end,
    })
    assert.is_true(longest >= 60, longest)
    local finding = found[110]
    assert.are.equal("orders_worker", finding.subject)
    assert.are.equal("<0.512.0>", finding.pid)
    assert.are.equal(80000, finding.value)
    assert.are.equal(1000, finding.per_s)
    assert.are.equal("messages", finding.unit)
    -- 7800 MiB are left, and 1000 KiB more are taken each second.
    assert.are.equal("warning", finding.severity)
    assert.is_true(math.abs(finding.eta_s - 7800 / (1000 / 1024)) < 1)
    assert.are.equal("orders_worker <0.512.0>: mailbox 80 000, +1 000/s for 1 m 20 s, in "
      .. "timer:sleep/1; memory limit in about 2 h", finding.summary)
    assert.are.equal(80000, finding.figures[1].value)
    assert.are.equal(0, finding.figures[1].before)
  end)

  it("is critical when the memory ends within 15 min", function()
    local _, found = mailbox("mailbox_growth", 60, function(t)
      return t * 1000
    end, {
      row = function(t)
        return { memory_kb = 100 + t * 18900 }
      end,
    })
    assert.are.equal("critical", found[60].severity)
    assert.matches("memory limit in about 7 min", found[60].summary)
  end)

  it("counts the node's memory where messages hold large binaries", function()
    local _, found = mailbox("mailbox_growth", 90, function(t)
      return t * 100
    end, {
      data = function(t)
        return { memory_rss_mb = 200 + t * 20 }
      end,
    })
    assert.are.equal("critical", found[90].severity)
  end)

  it("sees slow growth, growth with a dip, and the sparse passes of a large node", function()
    assert.is_true((mailbox("mailbox_growth", 300, function(t)
      return 900 + 5 * t
    end)) >= 100)
    assert.is_true((mailbox("mailbox_growth", 200, function(t)
      return t * 500 - (t == 100 and 500 or 0)
    end)) >= 100)
    assert.is_true((mailbox("mailbox_growth", 300, function(t)
      return t * 100
    end, { sweep_every = 60 })) >= 100)
  end)

  it("goes on while it does not drain, and ends when it does", function()
    local _, found = mailbox("mailbox_growth", 900, function(t)
      return t < 200 and t * 1000 or t < 500 and 200000 - t
        or math.max(0, 200000 - (t - 500) * 2000)
    end)
    assert.is_not_nil(found[490])
    assert.is_nil(found[600])
    assert.is_nil(found[900])
  end)

  it("does not take healthy mailboxes for sick ones", function()
    local cases = {
      ["a burst that drains"] = function(t)
        return t < 60 and 0 or math.max(0, 50000 - (t - 60) * 300)
      end,
      ["a burst that drains slowly"] = function(t)
        return t < 60 and 0 or math.max(0, 50000 - (t - 60) * 50)
      end,
      ["a consumer that flushes once a minute"] = function(t)
        return (t % 60) * 170
      end,
      ["a mailbox below the floor"] = function(t)
        return math.min(950, t)
      end,
      ["a busy consumer that keeps up"] = function(t)
        return 5000 + (t % 30) * 10
      end,
      ["a long mailbox that stays"] = function()
        return 20000
      end,
      ["a ramp that ends within a minute"] = function(t)
        return t < 100 and 0 or math.max(0, 10000 - math.abs(t - 130) * 300)
      end,
    }
    for name, queue in pairs(cases) do
      local longest = mailbox("mailbox_growth", 600, queue)
      assert.is_true(longest < 60, ("%s stood for %d s"):format(name, longest))
    end
  end)

  it("knows a flush even where the pass has no row of the emptied process", function()
    local longest = live("mailbox_growth", {
      seconds = 600,
      rows = function(t)
        local queue = (t % 60) * 170
        return queue > 0 and { row("<0.5.0>", { message_queue = queue }) } or {}
      end,
    })
    assert.is_true(longest < 60, longest)
  end)
end)

describe("mailbox_stuck", function()
  local function idle(current_function, reductions)
    return {
      row = function(t)
        return { current_function = current_function, reductions = 1000 + (reductions or 0) * t }
      end,
    }
  end

  it("stands over messages that nothing takes", function()
    local longest, found = mailbox("mailbox_stuck", 120, function()
      return 100000
    end, idle("shop:wait/1", 0.3))
    assert.is_true(longest >= 60)
    assert.matches("mailbox 100 000, none taken for .*, waiting in shop:wait/1: nothing it waits "
      .. "for is among them", found[120].summary)
  end)

  it("gives a process that waits for an answer four minutes", function()
    local queue = function()
      return 5000
    end
    assert.is_true((mailbox("mailbox_stuck", 230, queue, idle("gen:do_call/4"))) < 30)
    local longest, found = mailbox("mailbox_stuck", 350, queue, idle("gen:do_call/4"))
    assert.is_true(longest >= 60)
    assert.matches("it waits for the answer to a call", found[350].summary)
  end)

  it("leaves alone who works, was suspended, or has few messages", function()
    local function stood(queue, life)
      return (mailbox("mailbox_stuck", 350, queue, life))
    end
    local long = function()
      return 5000
    end
    assert.are.equal(-1, stood(long, idle("sys:suspend_loop/6")))
    assert.are.equal(-1, stood(long, idle("shop:work/1", 5000)))
    assert.are.equal(-1, stood(long, idle("timer:sleep/1", 15)))
    assert.are.equal(-1, stood(function(t)
      return 2000 + 390 * t
    end, idle("timer:sleep/1", 400)))
    assert.are.equal(-1, stood(function()
      return 900
    end, idle("shop:wait/1")))
    assert.are.equal(-1, stood(function(t)
      return 5000 - t
    end, idle("shop:wait/1")))
  end)
end)

describe("runaway_process", function()
  local function spinning(changes, others)
    return {
      seconds = 400, hold_s = 300,
      data = function()
        return { scheduler_run_queue = 1 }
      end,
      rows = function(t)
        local spinner = row("<0.7.0>", { name = "report", subject = "report", status = "running",
          reductions_per_s = 2e8, reductions = t * 2e8, current_function = "shop:loop/0" })
        for key, value in pairs(changes and changes(t) or {}) do
          spinner[key] = value
        end
        local rows = { spinner, row("<0.8.0>", { reductions_per_s = 40000 }) }
        for i = 1, others or 0 do
          rows[#rows + 1] = row(("<0.1%d.0>"):format(i), { reductions_per_s = 2e8,
            status = "runnable" })
        end
        return rows
      end,
    }
  end

  it("stands over a process that never rests", function()
    local longest, found = live("runaway_process", spinning())
    assert.is_true(longest >= 300)
    assert.are.equal("report", found[400].subject)
    assert.matches("report <0.7.0>: never rests, 100 %% of the node's work, in shop:loop/0",
      found[400].summary)
  end)

  it("leaves alone who takes messages, rests, or is one of many", function()
    local function stood(changes, others, data)
      local life = spinning(changes, others)
      life.data = data or life.data
      return (live("runaway_process", life))
    end
    assert.is_true(stood(function(t)
      return { message_queue = t % 40 * 3 }
    end) < 60, "a busy queue")
    assert.is_true(stood(function(t)
      return { status = t % 50 == 0 and "waiting" or "running" }
    end) < 60, "a worker with pauses")
    assert.are.equal(-1, stood(nil, 5), "saturation")
    assert.are.equal(-1, stood(function()
      return { reductions_per_s = 300000 }
    end), "little work on an idle node")
    assert.are.equal(-1, stood(nil, 0, function()
      return { scheduler_run_queue = 0, schedulers_online = 16 }
    end), "one of sixteen schedulers, and nobody waits")
    assert.is_true(stood(nil, 0, function(t)
      return { scheduler_run_queue = t % 20 / 10, schedulers_online = 16 }
    end) >= 300, "others wait")
    assert.is_true(stood(nil, 0, function()
      return { scheduler_run_queue = 0 }
    end) >= 300, "half of a small node")
  end)
end)

describe("limits", function()
  it("warn at 80 %, are critical at 90 % and end below 75 %", function()
    for type_name, keys in pairs({
      process_limit = { "process_utilization_pct", "process_count", "process_limit" },
      port_limit = { "port_utilization_pct", "port_count", "port_limit" },
      atom_limit = { "atom_utilization_pct", "atom_count", "atom_limit" },
      memory_limit = { "memory_utilization_pct", "memory_rss_mb", "memory_limit_mb" },
    }) do
      local steps = { 50, 79.9, 81, 91, 76, 74, 76 }
      local _, found = live(type_name, {
        seconds = 600, hold_s = 20,
        data = function(t)
          local pct = steps[math.floor(t / 100) + 1]
          return { [keys[1]] = pct, [keys[2]] = pct * 100, [keys[3]] = 10000 }
        end,
      })
      assert.is_nil(found[190], type_name)
      assert.are.equal("warning", found[290].severity)
      assert.are.equal(80, found[290].threshold)
      assert.are.equal("critical", found[390].severity)
      assert.is_not_nil(found[490], type_name)
      assert.is_nil(found[590], type_name)
      assert.is_nil(found[600], type_name)
    end
  end)

  it("say what is used of what, and when it ends", function()
    local _, found = live("process_limit", {
      seconds = 100,
      data = function(t)
        return { process_utilization_pct = 81 + t / 100, process_count = 8100 + t,
          process_limit = 10000 }
      end,
    })
    assert.are.equal("processes at 82 % of the limit: 8 200 of 10 000; full in about 30 min",
      found[100].summary)
    local _, memory = live("memory_limit", {
      seconds = 10,
      data = function()
        return { memory_utilization_pct = 95, memory_rss_mb = 3891, memory_limit_mb = 4096 }
      end,
    })
    assert.are.equal("memory at 95 % of the limit: 3.8 GiB of 4.0 GiB", memory[10].summary)
  end)

  it("say nothing of a share that could not be read", function()
    local longest = live("memory_limit", {
      seconds = 60,
      data = function()
        return { memory_utilization_pct = require("runtime.json").null }
      end,
    })
    assert.are.equal(-1, longest)
  end)
end)

describe("slow growth", function()
  local function processes(count, extra)
    return live("process_growth", {
      seconds = 3600, every = 30,
      data = function(t)
        local data = extra and extra(t) or {}
        data.process_count = math.floor(count(t))
        return data
      end,
    })
  end
  local function leak(t)
    return 2000 + 5 * t
  end

  it("at a constant rate towards a limit is found", function()
    local longest, found = processes(leak)
    assert.is_true(longest > 600)
    assert.are.equal("critical" == found[3600].severity, found[3600].eta_s < 3600)
    assert.matches("processes grow: 20 000, 11 000 30 m before; the limit of 262 144 in about "
      .. "13 h", found[3600].summary)
    assert.is_true((live("atom_growth", { seconds = 3600, every = 30, data = function(t)
      return { atom_count = 20000 + 20 * t }
    end })) > 600)
    assert.is_true((live("memory_growth", { seconds = 3600, every = 30, data = function(t)
      return { memory_rss_mb = 500 + t * 0.5 + (t % 90) * 0.3 }
    end })) > 600)
  end)

  it("needs but five minutes when the limit is ten away", function()
    local longest, found = live("process_growth", {
      seconds = 600, every = 10,
      data = function(t)
        return { process_count = 20000 + 300 * t, uptime_s = 5000 + t }
      end,
    })
    assert.is_true(longest >= 60)
    assert.are.equal("critical", found[600].severity)
  end)

  it("is not a jump, a plateau, a wave, load, a young node or a deploy", function()
    assert.are.equal(-1, processes(function(t)
      return t < 1200 and 2000 or 40000
    end), "a jump")
    assert.are.equal(-1, processes(function(t)
      return math.min(12000, 2000 + 20 * t)
    end), "a ramp that ends")
    assert.are.equal(-1, processes(function(t)
      return 12000 + 8000 * math.sin(t / 400)
    end), "a wave")
    assert.are.equal(-1, processes(leak, function(t)
      return { port_count = math.floor(200 + t / 2) }
    end), "connections")
    assert.are.equal(-1, (live("process_growth", { seconds = 890, every = 10, data = function(t)
      return { uptime_s = t, process_count = 2000 + 200 * t }
    end })), "a young node")
    local _, found = processes(leak, function(t)
      return { memory_code_mb = t < 3000 and 20 or 30 }
    end)
    assert.is_not_nil(found[2970])
    assert.is_nil(found[3300], "after a deploy")
    assert.are.equal(-1, (live("atom_growth", { seconds = 3600, every = 30, data = function(t)
      return { atom_count = 20000 + 3 * math.min(t, 600) }
    end })), "a little")
  end)
end)

describe("scheduler_saturation", function()
  it("needs a long run queue in every sample", function()
    local function stood(queue)
      return (live("scheduler_saturation", { seconds = 600, data = function(t)
        return { scheduler_run_queue = queue(t) }
      end }))
    end
    assert.is_true(stood(function()
      return 39
    end) >= 300)
    assert.is_true(stood(function(t)
      return t % 70 < 60 and 39 or 0
    end) < 60)
    assert.are.equal(-1, stood(function()
      return 4
    end))
  end)

  local function summary(rows)
    local _, found = live("scheduler_saturation", {
      seconds = 100,
      data = function()
        return { scheduler_run_queue = 39 }
      end,
      rows = function()
        return rows
      end,
    })
    return found[100].summary:gsub("^39 or more processes wait for 2 schedulers for 1 m; ", ""),
      found[100]
  end

  local function spinners(count, changes)
    local rows = { row("<0.900.0>", { name = "idle" }) }
    for i = 1, count do
      rows[#rows + 1] = row(("<0.%d.0>"):format(i), {
        name = "job_" .. i, subject = "job_" .. i, status = i == 1 and "running" or "runnable",
        reductions_per_s = 1e7 - i, current_function = "shop:loop/0",
      })
      for key, value in pairs(changes and changes(i) or {}) do
        rows[#rows][key] = value
      end
    end
    return rows
  end

  it("names those that do most of the work, one kind as one", function()
    local text, finding = summary(spinners(40))
    assert.are.equal("40 processes in shop:loop/0, 100 % of the work: job_1 <0.1.0>, "
      .. "job_2 <0.2.0>, job_3 <0.3.0> and 37 more", text)
    assert.are.equal("schedulers", finding.subject)
    assert.are.equal("<0.1.0>", finding.pid)
    assert.are.same({ 39, 40, 100 },
      { finding.figures[1].value, finding.figures[2].value, finding.figures[3].value })

    -- Of one name, in many functions.
    text = summary(spinners(6, function(i)
      return { name = "import:init/1", subject = "import:init/1",
        current_function = "lists:f" .. i .. "/2" }
    end))
    assert.are.equal("6 processes import:init/1, 100 % of the work: <0.1.0> in lists:f1/2, "
      .. "<0.2.0> in lists:f2/2, <0.3.0> in lists:f3/2 and 3 more", text)

    -- One that does more than all others.
    text = summary(spinners(5, function(i)
      return i == 3 and { reductions_per_s = 9e7, current_function = "shop:report/1" } or {}
    end))
    assert.are.equal("job_3 <0.3.0> in shop:report/1, 69 % of the work", text)

    -- Nobody that was seen is busy.
    text, finding = summary(spinners(3, function()
      return { status = "waiting" }
    end))
    assert.are.equal("39 or more processes wait for 2 schedulers for 1 m", text)
    assert.is_nil(finding.pid)
  end)
end)

describe("the rules of beam", function()
  it("have scripts that compile, titles and commands to paste", function()
    for _, rule in ipairs(rules) do
      assert.is_true(#rule.title <= 80)
      assert.is_truthy(load(rule.investigate, rule.type, "t", {}))
    end
    assert.are.same(
      { "erlang:process_info(c:pid(0,512,0), [current_stacktrace, message_queue_len, links])." },
      RULES.mailbox_growth.next({ pid = "<0.512.0>" }))
    assert.is_nil(RULES.mailbox_growth.next({}))
  end)

  it("write rates and times for people", function()
    assert.are.equal("+18 900/s", trends.format_rate(18913))
    assert.are.equal("+940/s", trends.format_rate(940.2))
    assert.are.equal("-0.4/s", trends.format_rate(-0.42))
    assert.are.equal("about 40 s", trends.format_eta(40))
    assert.are.equal("about 6 min", trends.format_eta(355))
    assert.are.equal("about 3 h", trends.format_eta(3 * 3600))
  end)
end)
