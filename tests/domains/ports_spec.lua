local beam = require("support.beam")
local executor = require("runtime.executor")
local json = require("runtime.json")
local node = require("support.node")
local sandbox = require("runtime.sandbox")
local support = require("support")
local telemetry = require("runtime.telemetry")

local QUEUED = 3 * 1024 * 1024

local function start(opts)
  opts = opts or {}
  opts.name = "ports1"
  local n = node.start(opts)
  local ctx = beam.attach(n, { parts = { "ports" } })
  local d = beam.domain("ports")
  local function get(name, ...)
    local ok, value, meta = d:invoke(ctx, name, { ... })
    assert(ok, value)
    return value, meta
  end
  return n, get, d, ctx
end

local function find(rows, key, value)
  for _, row in ipairs(rows) do
    if row[key] == value then
      return row
    end
  end
  error(("nothing whose %s is %s among %s"):format(key, value, json.encode(rows)), 2)
end

-- What the node says of a port: name, connected, input, output, os_pid, queue_size, memory.
local function own_info(n, id)
  local name, owner, input, output, os_pid, queue, memory = n:bytes(([==[
    [A, B, C, D, E, F, G] = fl_ports:info(<<"%s">>),
    io_lib:format("~ts|~p|~b|~b|~p|~b|~b", [A, B, C, D, E, F, G]).]==]):format(id)):match(
    "^(.*)|(.*)|(%d+)|(%d+)|(.*)|(%d+)|(%d+)$")
  return {
    id = id, name = name, connected_pid = owner, input_bytes = tonumber(input),
    output_bytes = tonumber(output), os_pid = tonumber(os_pid) or json.null,
    queue_size = tonumber(queue), memory_kb = math.floor(tonumber(memory) / 1024 + 0.5),
  }
end

for kind, opts in pairs({ Erlang = {}, Elixir = { elixir = true } }) do
  describe(("the ports domain on an %s node"):format(kind), function()
    it("counts ports and file descriptors as the node and its OS do", support.async(function()
      local n, _, d, ctx = start({ elixir = opts.elixir })
      n:eval("fl_ports:files(200), fl_ports:sockets(50).")
      local data = assert(d:snapshot(ctx))
      assert.are.equal(n:number("length(erlang:ports())."), data.port_count)
      assert.are.equal(n:number("erlang:system_info(port_limit)."), data.port_limit)
      assert.are.equal(math.floor(data.port_count / data.port_limit * 10000 + 0.5) / 100,
        data.port_utilization_pct)
      -- Not the one that lists them.
      assert.are.equal(n:number("length(filelib:wildcard(\"/proc/self/fd/*\")) - 1."),
        data.fd_count)
      assert.is_true(data.fd_count > 250)
      assert.are.equal(n:bytes("string:trim(os:cmd(\"ulimit -n\"))."), tostring(data.fd_limit))
      assert.are.equal(math.floor(data.fd_count / data.fd_limit * 10000 + 0.5) / 100,
        data.fd_utilization_pct)
      n:limit_files(1000)
      n:eval("fl_ports:files(100).")
      local now = assert(d:snapshot(ctx))
      assert.are.same({ data.port_count, data.fd_count + 100, 1000 },
        { now.port_count, now.fd_count, now.fd_limit })
    end))

    it("lists every port with what the node says of it", support.async(function()
      local n, get = start({ elixir = opts.elixir })
      local cat = n:bytes("fl_ports:cat().")
      local ipv6 = n:bytes("fl_ports:ipv6().")
      n:eval("fl_ports:sockets(20).")
      local rows, meta = get("ports_list")
      assert.are.equal(n:number("length(erlang:ports())."), #rows)
      assert.are.same({ #rows, #rows, 0 }, { meta.total, meta.returned, meta.skipped })
      for _, row in ipairs(rows) do
        local own = own_info(n, row.id)
        assert.are.same({ own.id, own.name, own.connected_pid, own.os_pid },
          { row.id, row.name, row.connected_pid, row.os_pid })
      end
      assert.is_true(find(rows, "id", cat).os_pid > 1)
      assert.are.equal("tcp_inet", find(rows, "id", ipv6).name)
      find(rows, "name", "udp_inet")
    end))

    it("tells of one port: 3 MB that are really queued, IPv6, a program, one that was closed",
      support.async(function()
        local n, get = start({ elixir = opts.elixir })
        local queued = n:bytes(("fl_ports:queued(%d)."):format(QUEUED))
        for _, id in ipairs({ queued, n:bytes("fl_ports:ipv6()."), n:bytes("fl_ports:cat().") }) do
          assert.are.same(own_info(n, id), get("ports_info", id))
        end
        local info = get("ports_info", queued)
        assert.is_true(info.queue_size >= QUEUED, info.queue_size)
        -- The node counts what a port itself takes, without the binaries in its queue.
        assert.is_true(info.output_bytes >= QUEUED and info.memory_kb < QUEUED / 1024)
        assert.are.same({ error = "port_not_found" },
          get("ports_info", n:bytes("fl_ports:closed().")))
        assert.are.equal("", n:log())
      end))

    it("ranks ports by each order as the node does", support.async(function()
      local n, get, _, ctx = start({ elixir = opts.elixir })
      local queued = n:bytes(("fl_ports:queued(%d)."):format(QUEUED))
      local talking = n:bytes("fl_ports:talked(1000000).")
      n:eval("fl_ports:sockets(100), fl_ports:cat().")
      assert(ctx.sweep:once())
      for order, item in pairs({ output = "output", queue = "queue_size" }) do
        local rows, meta = get("ports_top", 1, order)
        assert.are.equal(queued, rows[1].id, order)
        assert.are.equal(n:bytes(("element(1, hd(fl_ports:top(1, %s)))."):format(item)), queued)
        assert.are.same({ n:number("length(erlang:ports())."), 1, 0 },
          { meta.total, meta.returned, meta.skipped })
      end
      assert.are.equal(talking, get("ports_top", 1)[1].id)
      assert.are.equal(n:bytes("element(1, hd(fl_ports:top(1, input)))."), talking)
      local found = 0
      local least = n:number("element(2, lists:last(fl_ports:top(50, memory))).")
      for _, row in ipairs(get("ports_top", 50, "memory")) do
        local own = own_info(n, row.id)
        if own.name == "tcp_inet" and row.id ~= queued and row.id ~= talking then
          -- The spec and beamlens talk through it meanwhile.
          assert.are.same({ own.name, own.connected_pid }, { row.name, row.connected_pid })
        else
          own.os_pid = nil
          assert.are.same(own, row)
          assert.is_true(n:number(("lists:last(fl_ports:info(<<\"%s\">>))."):format(row.id))
            >= least, row.id)
        end
        found = found + 1
      end
      assert.are.equal(50, found)
    end))
  end)
end

describe("who waits to write", function()
  it("is seen by link, monitor, name or stack, and whether the connection is a client's",
    support.async(function()
      local n, _, _, ctx = start()
      local made = n:bytes("fl_ports:shared(pool, 3).")
      local accepted = {
        n:bytes("fl_ports:slow_client({127, 0, 0, 1}, [], 3)."),
        n:bytes("fl_ports:slow_client({0, 0, 0, 0}, [], 2)."),
        n:bytes("fl_ports:slow_client({0, 0, 0, 0, 0, 0, 0, 0}, [inet6], 2)."),
      }
      local named = n:bytes("fl_ports:stuck_sender(sender, 8192).")
      local found
      local function senders_of(id)
        local count = 0
        for _, sender in ipairs(found.senders) do
          count = count + (sender.ports[1] == id and 1 or 0)
        end
        return count
      end
      support.wait_until(function()
        found = assert(ctx.sweep:once()).ports
        return #found.senders == 11 and senders_of(made) == 3
      end, 15000, "all who wait")
      assert.are.equal(3, senders_of(accepted[1]))
      assert.is_nil(found.rows[made].is_accepted)
      for _, id in ipairs(accepted) do
        assert.is_true(found.rows[id].is_accepted, id)
      end
      for _, sender in ipairs(found.senders) do
        assert.are.equal(sender, found.sender_of[sender.pid])
        if sender.name then
          assert.are.same({ "sender", named }, { sender.name, sender.ports[1] })
        end
      end
      assert.are.equal(n:bytes(([==[begin {ok, {A, P}} = inet:peername(list_to_port("%s")),
        inet:ntoa(A) ++ ":" ++ integer_to_list(P) end.]==]):format(made)),
        found.rows[made].remote)
      assert.are.equal("", n:log())
    end, 30))
end)

describe("the sweep of ports", function()
  it("goes on past a process that answers nobody, and does not count that as work",
    support.async(function()
      -- One scheduler for the hog and one for all else, however many cores there are.
      local n = node.start({ name = "ports1", args = { "+S", "2:2" } })
      local ctx = beam.attach(n, { parts = { "ports" }, patience_ms = 150 })
      local queued = n:bytes("fl_ports:queued(100000).")
      n:eval("fl_ports:stuck_sender(sender, 8192), fl_sick:hog(hog).")
      support.wait_until(function()
        local pass = ctx.sweep:once()
        local found = pass and pass.ports -- else a loaded machine and the hog took all its time
        assert.is_true(not found or found.rows[queued].queue_size > 0)
        return found and found.senders_late and found.took_ms - found.work_ms >= 150
      end, 30000, "a pass in which the hog did not answer")
    end, 60))
end)

describe("the ports domain", function()
  it("knows ports of any name, and none that is not there", support.async(function()
    local n, get, _, ctx = start()
    n:eval([==[
      [spawn(fun() -> open_port({spawn, "cat #" ++ Name}, []), receive never -> ok end end)
        || Name <- [[252, 8364], lists:duplicate(5000, $x), [195, 40]]], timer:sleep(300).]==])
    assert(json.encode_strict((get("ports_list"))))
    assert(ctx.sweep:once())
    assert(json.encode_strict((get("ports_top", 50, "memory"))))
    for _, row in ipairs(get("ports_list")) do
      assert.is_true(#row.name <= 200, #row.name)
    end
    get("ports_info", "#Port<0.99999999>")
    local before = n:number("erlang:system_info(atom_count).")
    for i, id in ipairs({ "", "#Port<0.99999999>", "#Port<1.5>", "#Port<0.1", "port",
      ("#Port<0.%s>"):format(("9"):rep(40)), "ü", "\255" }) do
      assert.are.same({ error = "port_not_found" }, get("ports_info", id), i)
    end
    assert.are.equal(before, n:number("erlang:system_info(atom_count)."))
    assert.are.equal("", n:log())
  end))

  it("says how many descriptors there are when none is left to look", support.async(function()
    local n, _, d, ctx = start()
    assert(d:snapshot(ctx))
    n:limit_files(300)
    n:eval("fl_ports:leak(leaky, file, 1000).")
    support.wait_until(function()
      return assert(d:snapshot(ctx)).fd_utilization_pct == 100
    end, 10000, "the last descriptor")
    assert.are.equal("{error,emfile}", n:eval("file:open(\"/dev/null\", [read, raw])."))
    -- Who has not seen the limit before is told the one with which the node was started.
    local fresh = assert(beam.domain("ports"):snapshot(ctx))
    assert.are.equal(100, fresh.fd_utilization_pct)
    assert.are.equal(n:number("element(2, lists:keyfind(max_fds, 1, "
      .. "lists:append(erlang:system_info(check_io))))."), fresh.fd_limit)
    n:eval("fl_ports:stop(leaky).")
    support.wait_until(function()
      local now = assert(d:snapshot(ctx))
      return now.fd_limit == 300 and now.fd_count < 100
    end, 10000, "the descriptors to be closed")
  end))

  it("refuses wrong arguments with what is allowed", support.async(function()
    local _, _, d, ctx = start()
    for _, case in ipairs({
      { "ports_top", { 51 }, "argument 1 %(limit%) is 51, a number; allowed: a whole number from "
        .. "1 to 50" },
      { "ports_top", { 5, "size" }, 'is "size", a string; allowed: one of "input", "output", ' },
      { "ports_info", {}, "argument 1 %(port_id%) is missing; allowed: text" },
      { "ports_info", { 7 }, "is 7, a number" },
      { "ports_info", { ("x"):rep(65) }, "allowed: text of at most 64 bytes" },
      { "ports_list", { 1 }, "argument 1 is one too many; allowed: none" },
    }) do
      local ok, err = d:invoke(ctx, case[1], case[2])
      assert.is_nil(ok)
      assert.matches(case[3], err)
    end
  end))

  it("lists 500 of many ports, and says how many there are", support.async(function()
    local n, get = start()
    n:eval("fl_ports:sockets(2000).")
    local rows, meta = get("ports_list")
    assert.are.equal(500, #rows)
    assert.are.equal(n:number("length(erlang:ports())."), meta.total)
    assert.are.equal(meta.total - 500, meta.skipped)
  end))

  it("has rules whose investigations answer in little", support.async(function()
    local n, _, d, ctx = start()
    n:eval("fl_ports:sockets(600), fl_ports:cat().")
    local queued = n:bytes(("fl_ports:queued(%d)."):format(QUEUED))
    local box = sandbox.new({ pool = 1 })
    support.on_cleanup(function()
      box:close()
    end)
    local e = executor.new({ sandbox = box, domain = d, ctx = ctx, telemetry = telemetry.new(),
      clock = ctx.clock, meta = { watcher = "ports", domain = "ports", node = ctx.node } })
    assert(ctx.sweep:once())
    for _, rule in ipairs(d.rules) do
      local record = e:run(rule.investigate, { source = "rule", args = { subject = "x" } })
      assert.is_nil(record.error, record.error and record.error.message)
      assert.is_true(#assert(json.encode_strict(record.value)) < 6000)
      if rule.type == "blocked_writer" then
        assert.are.same({ queued, 0 }, { record.value.longest_queues[1].id,
          record.value.longest_queues[1].written_since_the_sweep })
      else
        assert.are.same({ "udp_inet", 500 },
          { record.value.groups[1].name, record.value.listed })
      end
    end
  end))

  it("works on a node that has run nothing but its own boot", support.async(function()
    local n = node.start({ name = "ports1", control = false })
    local ctx = beam.attach(n, { parts = { "ports" } })
    local d = beam.domain("ports")
    assert(assert(d:snapshot(ctx)).fd_count > 5)
    local _, rows = assert(d:invoke(ctx, "ports_list", {}))
    assert.is_true(#rows > 2)
    assert(d:invoke(ctx, "ports_top", {}))
    assert.are.equal("", n:log())
  end))
end)
