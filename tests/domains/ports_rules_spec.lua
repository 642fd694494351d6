local lives = require("support.lives")

local RULES = dofile("domains/ports.lua").rules

local DATA = {
  port_count = 60, port_limit = 65536, port_utilization_pct = 0.1, fd_count = 90, fd_limit = 65536,
  fd_utilization_pct = 0.1, process_count = 500, memory_code_mb = 20,
}

local function port(id, changes)
  local row = { id = id, name = "tcp_inet", subject = "tcp_inet", connected_pid = "<0.90.0>",
    input_bytes = 0, output_bytes = 0, memory_kb = 1, queue_size = 0 }
  for key, value in pairs(changes or {}) do
    row[key] = value
  end
  return row
end

local function sender(pid, ports, changes)
  local made = { pid = pid, message_queue = 0, ports = ports, reductions = 900,
    current_function = "erts_internal:port_command/3" }
  for key, value in pairs(changes or {}) do
    made[key] = value
  end
  return made
end

-- The ports of a pass: rows with a queue first, who waits for them, and how many of each kind.
local function ports_of(rows, senders, groups)
  local part = { rows = {}, top = { queue = {}, input = {}, output = {}, memory = {} }, total = 0,
    skipped = 0, groups = {}, senders = senders or {}, sender_of = {}, senders_late = false,
    tracked = {} }
  for i, row in ipairs(rows or {}) do
    part.rows[row.id], part.top.queue[i] = row, row.id
  end
  for _, one in ipairs(part.senders) do
    part.sender_of[one.pid] = one
  end
  for name, count in pairs(groups or {}) do
    part.groups[#part.groups + 1] = { name = name, count = math.floor(count) }
    part.total = part.total + math.floor(count)
  end
  return part
end

local function processes_of(rows)
  local part = { rows = {}, top = { message_queue = {} }, total = 500, skipped = 0, tracked = {} }
  for i, row in ipairs(rows or {}) do
    part.rows[row.pid], part.top.message_queue[i] = row, row.pid
  end
  return part
end

-- What a rule finds in a life: data(t) changes the data, ports(t) is the ports part of a pass, and
-- processes(t) lists rows of processes.
local function run(type_name, life)
  return lives.live(lives.rule(RULES, type_name), {
    seconds = life.seconds, every = life.every, sweep_every = life.sweep_every,
    hold_s = life.hold_s,
    data = function(t)
      local data = {}
      for key, value in pairs(DATA) do
        data[key] = value
      end
      for key, value in pairs(life.data and life.data(t) or {}) do
        data[key] = value
      end
      return data
    end,
    pass = function(t)
      return { ports = life.ports and life.ports(t) or ports_of(),
        processes = processes_of(life.processes and life.processes(t)) }
    end,
  }, { "ports", "processes" })
end

-- "type subject" of what was found at one time.
local function subjects(list)
  local names = {}
  for i, finding in ipairs(list) do
    names[i] = finding.subject
  end
  table.sort(names)
  return table.concat(names, ", ")
end

-- The longest time for which something was found without a break.
local function longest(found, seconds)
  local since, most = nil, -1
  for t = 0, seconds, 10 do
    since = found[t][1] and (since or t) or nil
    most = math.max(most, since and t - since or -1)
  end
  return most
end

for kind, subject in pairs({ port = "ports", fd = "file descriptors" }) do
  describe(kind .. "_limit", function()
    local function used(pct)
      return { [kind .. "_count"] = pct * 10, [kind .. "_limit"] = 1000,
        [kind .. "_utilization_pct"] = pct }
    end

    it("warns at 80 %, is critical at 90 % and ends below 75 %", function()
      local steps = { 50, 79.9, 81, 91, 76, 74, 76 }
      local found = run(kind .. "_limit", { seconds = 690, hold_s = 20, data = function(t)
        return used(steps[math.floor(t / 100) + 1])
      end })
      assert.are.same({ 0, 0, 1, 1, 1, 0, 0 }, { #found[90], #found[190], #found[290],
        #found[390], #found[490], #found[590], #found[690] })
      assert.are.same({ subject, "warning", 80 },
        { found[290][1].subject, found[290][1].severity, found[290][1].threshold })
      assert.are.equal("critical", found[390][1].severity)
    end)

    it("says what is used of what, how fast it fills, and when it is full", function()
      local finding = run(kind .. "_limit", { seconds = 100, data = function(t)
        return used(81 + t / 100)
      end })[100][1]
      assert.are.equal(subject .. " at 82 % of the limit: 820 of 1 000; full in about 30 min",
        finding.summary)
      assert.is_true(math.abs(finding.per_s - 0.1) < 0.01, finding.per_s)
      assert.is_true(math.abs(finding.eta_s - 1800) < 100, finding.eta_s)
    end)

    it("says nothing of a share that could not be read, and lets nothing go for it", function()
      local null = require("runtime.json").null
      assert.are.equal(0, lives.count(run(kind .. "_limit", { seconds = 60, data = function()
        return { [kind .. "_utilization_pct"] = null }
      end })))
      local found = run(kind .. "_limit", { seconds = 300, hold_s = 20, data = function(t)
        local data = used(t < 250 and 91 or 60)
        data[kind .. "_utilization_pct"] = t >= 100 and t < 200 and null or t < 200 and 91 or 60
        return data
      end })
      assert.are.same({ 1, 1, "critical", 91, 0 }, { #found[90], #found[190],
        found[190][1].severity, found[190][1].value, #found[200] })
    end)
  end)
end

describe("fd_limit", function()
  local function sockets(fd_limit)
    return run("fd_limit", { seconds = 300, data = function(t)
      local ports, files = 700 + t, 720 + t
      return { port_count = ports, port_limit = 1000, port_utilization_pct = ports / 10,
        fd_count = files, fd_limit = fd_limit, fd_utilization_pct = files / fd_limit * 100 }
    end })
  end

  it("leaves sockets to port_limit where ports end as soon", function()
    assert.are.equal(0, lives.count(sockets(1000)))
    assert.are.equal(1, #sockets(800)[100])
  end)
end)

-- A life in which `more(t)` ports of a kind are there beside the others.
local function growing(seconds, more, opts)
  opts = opts or {}
  return {
    seconds = seconds, every = opts.every or 30, sweep_every = opts.sweep_every or 30,
    data = function(t)
      local data = { port_count = 60 + math.floor(more(t)), fd_count = 90 + math.floor(more(t)),
        port_limit = 20000 }
      for key, value in pairs(opts.data and opts.data(t) or {}) do
        data[key] = value
      end
      return data
    end,
    ports = opts.ports or function(t)
      return ports_of({}, {}, { tcp_inet = more(t) + 40, cat = 20 })
    end,
  }
end

local function per_minute(count)
  return function(t)
    return count * t / 60
  end
end

describe("port_growth", function()
  it("finds the kind of port that leaks, its rate and the time that is left", function()
    local found = run("port_growth", growing(3600, per_minute(30)))
    assert.are.equal(0, #found[1500])
    local finding = found[3600][1]
    assert.are.same({ 1, "tcp_inet", "warning", 20000 },
      { #found[3600], finding.subject, finding.severity, finding.threshold })
    assert.is_true(math.abs(finding.per_s - 0.5) < 0.02, finding.per_s)
    assert.is_true(math.abs(finding.eta_s - (20000 - 1860) / 0.5) < 1500, finding.eta_s)
    assert.are.equal("ports, among them tcp_inet, grow: 1 860, 960 30 m before; the limit of "
      .. "20 000 in about 10 h", finding.summary)
    assert.are.same({ name = "port_count", value = 1860, unit = "ports", before = 960 },
      finding.figures[1])
  end)

  it("is critical within the hour, and needs five minutes only when ten are left", function()
    local slow = run("port_growth", growing(3600, per_minute(250)))
    assert.are.equal("critical", slow[3600][1].severity)
    local fast = run("port_growth", growing(600, per_minute(2000), { every = 10,
      sweep_every = 10 }))
    assert.are.equal("tcp_inet", subjects(fast[400]))
    assert.are.equal("critical", fast[400][1].severity)
  end)

  it("knows two kinds that leak, and when one of them ends", function()
    local function sockets(t)
      return t * 0.5
    end
    local function programs(t)
      return math.min(t, 3600) * 0.4
    end
    local found = run("port_growth", growing(5400, function(t)
      return sockets(t) + programs(t)
    end, { ports = function(t)
      return ports_of({}, {}, { tcp_inet = sockets(t), cat = programs(t), udp_inet = 12 })
    end }))
    assert.are.equal("cat, tcp_inet", subjects(found[3600]))
    assert.are.equal("tcp_inet", subjects(found[4200]))
    assert.are.equal("tcp_inet", subjects(found[5400]))
  end)

  it("names ports as such where no pass says which", function()
    local found = run("port_growth", growing(3000, per_minute(30), { sweep_every = 100000 }))
    assert.are.equal("ports", subjects(found[3000]))
  end)

  it("ends some time after the leak has ended, or at once when it is closed", function()
    local found = run("port_growth", growing(5400, function(t)
      return math.min(t, 3000) * 0.5
    end))
    assert.are.equal(1, #found[3000])
    assert.are.equal(0, #found[4200])
    assert.are.equal(0, #run("port_growth", growing(3600, function(t)
      return t < 3000 and t * 0.5 or 0
    end))[3030])
  end)

  it("lets the healthy be: a jump, a ramp that ends, a wave, load, boot, a deploy", function()
    local healthy = {
      jump = growing(5400, function(t) return t < 1200 and 0 or 1500 end),
      ["two jumps"] = growing(5400, function(t)
        return t < 900 and 0 or t < 2000 and 700 or 1500
      end),
      ramp = growing(5400, function(t) return math.min(t, 900) end),
      plateau = growing(5400, function() return 10000 end),
      wave = growing(5400, function(t) return 4000 + 3000 * math.sin(t / 400) end),
      few = growing(5400, per_minute(5)),
      ["load that grows alike"] = growing(3600, per_minute(30), { data = function(t)
        return { process_count = 500 + math.floor(t / 2) }
      end }),
      ["load on a node of many processes"] = growing(3600, per_minute(30), { data = function(t)
        return { process_count = 5000 + 4 * t }
      end }),
      boot = growing(890, per_minute(600), { every = 10, data = function(t)
        return { uptime_s = t }
      end }),
      deploy = growing(2190, per_minute(30), { data = function(t)
        return { memory_code_mb = t < 1650 and 20 or 25 }
      end }),
    }
    for name, life in pairs(healthy) do
      assert.are.equal(0, lives.count(run("port_growth", life)), name)
    end
  end)
end)

describe("fd_growth", function()
  local function files(seconds, more, opts)
    opts = opts or {}
    opts.data = opts.data or function(t)
      return { port_count = 60, fd_count = 90 + math.floor(more(t)), fd_limit = 10000 }
    end
    return growing(seconds, more, opts)
  end

  it("finds descriptors that are no ports, their rate and the time that is left", function()
    local life = files(3600, per_minute(12))
    local found = run("fd_growth", life)
    assert.are.equal(0, #found[1500])
    local finding = found[3600][1]
    assert.are.same({ 1, "file descriptors", "warning", 10000 },
      { #found[3600], finding.subject, finding.severity, finding.threshold })
    assert.is_true(math.abs(finding.per_s - 0.2) < 0.01, finding.per_s)
    assert.is_true(math.abs(finding.eta_s - (10000 - 810) / 0.2) < 2000, finding.eta_s)
    assert.are.equal("file descriptors grow: 810, 450 30 m before; the limit of 10 000 in about "
      .. "13 h", finding.summary)
    assert.are.equal(0, lives.count(run("port_growth", life)))
  end)

  it("leaves sockets to port_growth, unless the descriptors end first", function()
    local function sockets(fd_limit)
      return growing(3600, per_minute(30), { data = function(t)
        return { port_count = 60 + math.floor(t / 2), fd_count = 90 + math.floor(t / 2),
          fd_limit = fd_limit }
      end })
    end
    assert.are.equal(1, #run("port_growth", sockets(65536))[3600])
    assert.are.equal(0, lives.count(run("fd_growth", sockets(65536))))
    assert.are.equal(1, #run("fd_growth", sockets(8192))[3600])
    assert.are.equal(0, lives.count(run("port_growth", sockets(8192))))
  end)

  it("does not swing between the two where their limits are the same", function()
    local function swinging()
      return growing(3600, per_minute(30), { data = function(t)
        return { port_count = 60 + math.floor(t / 2), port_limit = 20000,
          fd_count = 60 + math.floor(t / 2) + t / 30 % 3, fd_limit = 20000 }
      end })
    end
    assert.are.equal(0, lives.count(run("fd_growth", swinging())))
    local found = run("port_growth", swinging())
    for t = 1800, 3600, 30 do
      assert.are.equal("tcp_inet", subjects(found[t]), t)
    end
  end)

  it("tells of files beside the sockets that leak, too", function()
    local life = growing(3600, per_minute(30), { data = function(t)
      return { port_count = 60 + math.floor(t / 2), fd_count = 90 + 2 * t, fd_limit = 65536 }
    end })
    assert.are.equal(1, #run("port_growth", life)[3600])
    assert.are.equal(1, #run("fd_growth", life)[3600])
  end)

  it("ends some time after the leak has ended", function()
    local found = run("fd_growth", files(5400, function(t)
      return math.min(t, 3000) * 0.2
    end))
    assert.are.equal(1, #found[3000])
    assert.are.equal(0, #found[4200])
  end)

  it("lets the healthy be: a jump, a ramp that ends, load, and what cannot be read", function()
    local null = require("runtime.json").null
    local healthy = {
      jump = files(5400, function(t) return t < 1200 and 0 or 600 end),
      ramp = files(5400, function(t) return math.min(t, 900) end),
      plateau = files(5400, function() return 5000 end),
      few = files(5400, per_minute(3)),
      load = files(3600, per_minute(12), { data = function(t)
        return { port_count = 60, fd_count = 90 + t / 5, fd_limit = 10000,
          process_count = 500 + math.floor(t / 2) }
      end }),
      unread = files(3600, per_minute(12), { data = function()
        return { fd_count = null, fd_limit = null, fd_utilization_pct = null }
      end }),
    }
    for name, life in pairs(healthy) do
      assert.are.equal(0, lives.count(run("fd_growth", life)), name)
    end
  end)
end)

describe("blocked_writer", function()
  local function blocked(seconds, ports, opts)
    opts = opts or {}
    return run("blocked_writer", { seconds = seconds, ports = ports, hold_s = 5,
      processes = opts.processes, every = opts.every, sweep_every = opts.sweep_every })
  end

  local STUCK = port("#Port<0.7>", { queue_size = 4096, output_bytes = 9000,
    remote = "10.0.0.5:5432" })

  it("finds a registered process that is blocked for half a minute", function()
    local found = blocked(120, function(t)
      return ports_of({ STUCK }, t >= 30 and { sender("<0.70.0>", { "#Port<0.7>" },
        { name = "orders_sender", reductions = 900 + t / 2, message_queue = 12 }) } or {})
    end)
    assert.are.equal(0, #found[50])
    local finding = found[120][1]
    assert.are.same({ 1, "orders_sender", "<0.70.0>", "warning", "s", 30 }, { #found[120],
      finding.subject, finding.pid, finding.severity, finding.unit, finding.threshold })
    assert.are.equal("orders_sender <0.70.0> is blocked while it writes to tcp_inet #Port<0.7> to "
      .. "10.0.0.5:5432, in erts_internal:port_command/3 for 1 m", finding.summary)
    assert.are.equal(12, finding.figures[1].value)
  end)

  it("finds it where the port is not known, and by the sparse passes of a large node", function()
    local found = blocked(600, function()
      return ports_of({}, { sender("<0.70.0>", {}, { name = "orders_sender" }) })
    end, { sweep_every = 120 })
    assert.are.equal("orders_sender", subjects(found[120]))
    assert.matches("while it writes to a port", found[600][1].summary)
  end)

  it("goes on past a pass in which the senders were not asked in time", function()
    local found = blocked(120, function(t)
      local part = ports_of({ STUCK }, t % 40 ~= 0 and { sender("<0.70.0>", { "#Port<0.7>" },
        { name = "orders_sender" }) } or {})
      part.senders_late = t % 40 == 0
      return part
    end)
    for t = 60, 120, 10 do
      assert.are.equal("orders_sender", subjects(found[t]), t)
    end
  end)

  it("finds the connection that many share, by its other end", function()
    local found = blocked(90, function()
      return ports_of({ STUCK }, { sender("<0.71.0>", { "#Port<0.7>" }),
        sender("<0.72.0>", { "#Port<0.7>" }), sender("<0.73.0>", { "#Port<0.7>" }) })
    end)
    assert.are.equal("tcp_inet to 10.0.0.5:5432", subjects(found[60]))
    assert.are.equal("3 processes that share tcp_inet #Port<0.7> to 10.0.0.5:5432 are blocked "
      .. "while they write to it for 1 m", found[60][1].summary)
  end)

  it("tells of a shared port once, by the registered one of its writers", function()
    local found = blocked(90, function()
      return ports_of({ STUCK }, { sender("<0.71.0>", { "#Port<0.7>" }),
        sender("<0.72.0>", { "#Port<0.7>" }, { name = "db" }) })
    end)
    assert.are.equal("db", subjects(found[60]))
  end)

  it("finds another node and a standard output that take nothing", function()
    local found = blocked(90, function()
      return ports_of({
        port("#Port<0.3>", { peer = "shop@db2", queue_size = 131072, output_bytes = 7e6 }),
        port("#Port<0.1>", { name = "0/1", subject = "0/1", queue_size = 70000 }),
        port("#Port<0.2>", { name = "2/2", subject = "2/2", queue_size = 70000 }),
      })
    end)
    assert.are.equal("connection to shop@db2, standard error, standard output",
      subjects(found[60]))
    assert.are.equal("connection to shop@db2 #Port<0.3>: 128.0 KiB wait, and nothing is read for "
      .. "1 m", found[60][1].summary)
    assert.are.equal(131072, found[60][1].figures[1].value)
  end)

  it("finds a writer whose mailbox grows meanwhile, though it goes on now and then", function()
    local function life(length, where)
      return blocked(120, function()
        return ports_of({ STUCK })
      end, { processes = function(t)
        return { { pid = "<0.75.0>", name = "{session,<0.75.0>}", subject = "{session,<>}",
          status = where and "waiting" or "suspended", message_queue = length(t),
          current_function = where or "erts_internal:port_command/3", reductions = 1e5 * t } }
      end })
    end
    local found = life(function(t) return 900 + 10 * t end)
    assert.are.equal("{session,<>}", subjects(found[120]))
    assert.are.equal(2100, found[120][1].figures[1].value)
    assert.are.equal("{session,<>}", subjects(life(function(t) return 1200 + t end,
      "prim_inet:send_recv_reply/2")[120]))
    assert.are.equal(0, lives.count(life(function(t) return 100 + t end)), "a short mailbox")
    assert.are.equal(0, lives.count(life(function(t) return 5000 - t end)), "one that drains")
    assert.are.equal(0, lives.count(life(function(t) return 2000 + t end, "gen_server:loop/7")),
      "no writer")
  end)

  it("knows two that are blocked, and when one of them goes on", function()
    local found = blocked(300, function(t)
      return ports_of({ STUCK, port("#Port<0.8>", { queue_size = 10 }) }, {
        sender("<0.70.0>", { "#Port<0.7>" }, { name = "orders_sender",
          reductions = 900 + math.max(0, t - 150) * 1000 }),
        sender("<0.71.0>", { "#Port<0.8>" }, { name = "mail_sender" }) })
    end)
    assert.are.equal("mail_sender, orders_sender", subjects(found[150]))
    assert.are.equal("mail_sender", subjects(found[170]))
    assert.are.equal("mail_sender", subjects(found[300]))
  end)

  it("ends when the writer goes on, or its port is gone", function()
    local found = blocked(200, function(t)
      return t < 100 and ports_of({ STUCK }, { sender("<0.70.0>", { "#Port<0.7>" },
        { name = "orders_sender" }) }) or ports_of()
    end)
    assert.are.same({ 1, 0 }, { #found[90], #found[100] })
    found = blocked(200, function(t)
      return ports_of({ port("#Port<0.3>", { peer = "shop@db2", queue_size = 5000,
        output_bytes = math.max(0, t - 100) }) })
    end)
    assert.are.same({ 1, 0 }, { #found[90], #found[110] })
  end)

  it("lets writers to slow clients of their own be", function()
    for name, changes in pairs({
      suspended = {}, waiting = { current_function = "prim_inet:send_recv_reply/2" },
    }) do
      local found = blocked(300, function()
        local rows, senders = {}, {}
        for i = 1, 20 do
          local id = ("#Port<0.%d>"):format(100 + i)
          rows[i] = port(id, { queue_size = 65536, remote = "10.0.0.9:" .. 40000 + i })
          senders[i] = sender(("<0.%d.0>"):format(200 + i), { id }, changes)
        end
        return ports_of(rows, senders)
      end, { processes = function()
        local rows = {}
        for i = 1, 20 do
          rows[i] = { pid = ("<0.%d.0>"):format(200 + i), name = "writer", subject = "writer",
            status = "suspended", message_queue = 1500, reductions = 900,
            current_function = "erts_internal:port_command/3" }
        end
        return rows
      end })
      assert.are.equal(0, lives.count(found), name)
    end
  end)

  it("lets several that write to one slow client be", function()
    local found = blocked(300, function()
      local client = port("#Port<0.9>", { queue_size = 65536, remote = "10.0.0.9:40001",
        is_accepted = true })
      return ports_of({ client }, { sender("<0.71.0>", { "#Port<0.9>" }),
        sender("<0.72.0>", { "#Port<0.9>" }), sender("<0.73.0>", { "#Port<0.9>" }) })
    end)
    assert.are.equal(0, lives.count(found))
  end)

  it("lets back-pressure that moves be: each some seconds, or a queue that is written", function()
    local moving = {
      registered = function(t)
        return ports_of({ STUCK }, { sender("<0.70.0>", { "#Port<0.7>" },
          { name = "logger_out", reductions = 900 + 300 * math.floor(t / 20) }) })
      end,
      ["registered, not always blocked"] = function(t)
        return ports_of({ STUCK }, t % 30 ~= 0 and { sender("<0.70.0>", { "#Port<0.7>" },
          { name = "logger_out" }) } or {})
      end,
      shared = function(t)
        local moved = 300 * math.floor(t / 20)
        return ports_of({ STUCK }, { sender("<0.71.0>", { "#Port<0.7>" },
          { reductions = 900 + moved }), sender("<0.72.0>", { "#Port<0.7>" },
          { reductions = 800 + moved }) })
      end,
      ["registered, to one who reads slowly"] = function(t)
        return ports_of({ port("#Port<0.7>", { queue_size = 65536 - 10 * t }) },
          { sender("<0.70.0>", { "#Port<0.7>" }, { name = "logger_out" }) })
      end,
      ["a busy peer"] = function(t)
        return ports_of({ port("#Port<0.3>", { peer = "shop@db2", queue_size = 131072,
          output_bytes = 4000 * t }) })
      end,
      ["output with pauses"] = function(t)
        return ports_of({ port("#Port<0.1>", { name = "0/1", subject = "0/1",
          queue_size = t % 30 == 0 and 0 or 500 }) })
      end,
      ["an idle peer"] = function()
        return ports_of({ port("#Port<0.3>", { peer = "shop@db2" }) })
      end,
    }
    for name, ports in pairs(moving) do
      local found = blocked(300, ports)
      assert.is_true(longest(found, 300) < 10, ("%s stood for %d s"):format(name,
        longest(found, 300)))
    end
  end)
end)

describe("the rules of ports", function()
  it("have scripts that compile, titles and commands to paste", function()
    for _, rule in ipairs(RULES) do
      assert.is_true(#rule.title <= 80)
      assert.is_truthy(load(rule.investigate, rule.type, "t", {}))
    end
    assert.are.same({ "erlang:process_info(c:pid(0,512,0), [current_stacktrace, links])." },
      lives.rule(RULES, "blocked_writer").next({ pid = "<0.512.0>" }))
    assert.is_nil(lives.rule(RULES, "blocked_writer").next({}))
  end)
end)
