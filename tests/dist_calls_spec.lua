local async = require("runtime.async")
local dist = require("host.dist")
local fake = require("support.fake")
local node = require("support.node")
local rig = require("support.dist")
local support = require("support")

local atom, tuple = dist.atom, dist.tuple

-- Abstract forms of Erlang, for erl_eval:exprs/2.
local function forms(n, source)
  return dist.raw(n:bytes(([[term_to_binary(begin {ok, T, _} = erl_scan:string("%s"),
    {ok, F} = erl_parse:parse_exprs(T), F end).]]):format((source:gsub('"', '\\"')))))
end

-- Evaluates on the node in a call that answers by a message; the source sends to To.
local function eval_message(conn, n, source, opts)
  local all = { reply = "message" }
  for key, value in pairs(opts or {}) do
    all[key] = value
  end
  return rig.call(conn, "erl_eval", "exprs",
    { forms(n, source), { tuple({ atom("To"), dist.self }) } }, all)
end

local function processes(n)
  return n:number("erlang:system_info(process_count).")
end

describe("a call", function()
  it("gives the value, or what was raised there", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    assert.are.equal(6, rig.call(conn, "lists", "sum", { { 1, 2, 3 } }))
    assert.are.same({ nil, "EREMOTE: error:badarg in erlang:binary_to_atom/1", "EREMOTE" },
      { rig.call(conn, "erlang", "binary_to_atom", { 1 }) })
    assert.are.same({ nil, "EREMOTE: error:undef in nowhere:nothing/2", "EREMOTE" },
      { rig.call(conn, "nowhere", "nothing", { 1, 2 }) })
    assert.are.same({ nil, "EREMOTE: exit:{gone,<<\"why\">>}", "EREMOTE" },
      { rig.call(conn, "erlang", "exit", { tuple({ atom("gone"), "why" }) }) })
    assert.are.same({ nil, "EREMOTE: throw:ball", "EREMOTE" },
      { rig.call(conn, "erlang", "throw", { atom("ball") }) })
    assert.are.same({ nil, "EREMOTE: its process ended without an answer: killed", "EREMOTE" },
      { rig.call(conn, "erl_eval", "exprs", { forms(n, "exit(self(), kill)."), {} }) })
    local _, err = rig.call(conn, "erlang", "error", { { ("long "):rep(1000) } })
    assert.is_true(#err < 1000)
    assert.matches("...", err, 1, true)
    assert.are.equal(0, conn:stats().calls_in_flight)
    assert.are.equal("", n:log())
  end))

  it("runs with the node's own group leader, at the priority that was asked for",
    support.async(function()
      local n = node.start({ name = "calls1" })
      local conn = rig.attach(n)
      assert.are.equal(rig.call(conn, "erlang", "whereis", { atom("user") }),
        rig.call(conn, "erlang", "group_leader"))
      local asked = forms(n, "element(2, process_info(self(), priority)).")
      assert.are.equal("low", rig.call(conn, "erl_eval", "exprs", { asked, {} })[2])
      assert.are.equal("normal",
        rig.call(conn, "erl_eval", "exprs", { asked, {} }, { priority = "normal" })[2])
      rig.call(conn, "io", "format", { "printed there~n" })
      support.wait_until(function()
        return n:log() == "printed there\n"
      end)
    end))

  it("is ended at its heap bound, and the node logs nothing", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    local before = processes(n)
    local value, err, code = rig.call(conn, "lists", "seq", { 1, 1e7 }, { max_heap_words = 1e5 })
    assert.are.same({ nil, "EHEAP" }, { value, code })
    assert.matches("more memory on the node", err, 1, true)
    value, err, code = eval_message(conn, n, "lists:seq(1, 10000000).", { max_heap_words = 1e5 })
    assert.are.same({ nil, "EHEAP" }, { value, code }, err)
    assert.are.equal(100, #rig.call(conn, "lists", "seq", { 1, 100 }, { max_heap_words = 1e5 }))
    assert.are.equal(before, processes(n))
    assert.are.equal("", n:log())
  end))

  it("whose answer is too big fails alone", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    local other
    conn:call("timer", "sleep", { 300 }, {}, function(value)
      other = value
    end)
    local big = { "x", 50 * 1024 * 1024 }
    local value, err, code = rig.call(conn, "binary", "copy", big)
    assert.are.same({ nil, "ETOOBIG" }, { value, code })
    assert.matches("longer than 16777216 bytes", err, 1, true)
    value, err, code = eval_message(conn, n, "To ! {tag, ok, binary:copy(<<0>>, 20000000)}.")
    assert.are.same({ nil, "ETOOBIG" }, { value, code }, err)
    assert.are.equal(n.name, rig.call(conn, "erlang", "node"))
    support.wait_until(function()
      return other == "ok"
    end)
    assert.is_true(conn:stats().received_bytes > 70e6)
    assert.are.equal(10 * 1024 * 1024, #rig.call(conn, "binary", "copy", { "x", 10 * 1024 * 1024 }))
    conn:close()
    assert.are.equal("", n:log())
  end))

  it("whose answer is no tame term fails alone", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    local value, err, code = rig.call(conn, "lists", "foldl", {
      rig.call(conn, "erl_eval", "exprs", { forms(n, "fun(_, A) -> [A] end."), {} })[2], {},
      rig.call(conn, "lists", "seq", { 1, 100 }) })
    assert.are.same({ nil, "ETERM" }, { value, code })
    assert.matches("64 deep", err, 1, true)
    value, err, code = rig.call(conn, "lists", "duplicate", { 1000001, 0 })
    assert.are.same({ nil, "ETERM" }, { value, code })
    assert.matches("1000000 elements", err, 1, true)
    assert.are.equal(n.name, rig.call(conn, "erlang", "node"))
  end))

  it("carries its result once", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    local before = conn:stats().received_bytes
    rig.call(conn, "binary", "copy", { "x", 1000000 })
    rig.call(conn, "erlang", "node")
    local received = conn:stats().received_bytes - before
    assert.is_true(received > 1000000 and received < 1010000)
    before = conn:stats().received_bytes
    eval_message(conn, n, "To ! {tag, ok, binary:copy(<<0>>, 1000000)}, erlang:unlink(To), ok.")
    rig.call(conn, "erlang", "node")
    received = conn:stats().received_bytes - before
    assert.is_true(received > 1000000 and received < 1010000)
  end))

  it("may be one of a thousand in flight", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    local before = processes(n)
    local got = 0
    async.await(support.patience_ms(), function(done)
      for i = 1, 1000 do
        conn:call("lists", "reverse", { { i, -i } }, {}, function(value)
          assert(value[1] == -i and value[2] == i)
          got = got + 1
          if got == 1000 then
            done()
          end
        end)
      end
      assert.are.equal(1000, conn:stats().calls_in_flight)
    end)
    assert.are.equal(1000, got)
    assert.are.equal(0, conn:stats().calls_in_flight)
    assert.are.equal(before, processes(n))
  end))

  it("that is cancelled leaves no process, whenever that is", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    local before = processes(n)
    local at_once = conn:call("timer", "sleep", { 60000 }, {}, error)
    conn:cancel(at_once)
    conn:cancel(at_once)
    local later = conn:call("timer", "sleep", { 60000 }, {}, error)
    local message = conn:call("timer", "sleep", { 60000 }, { reply = "message" }, error)
    support.wait_until(function()
      return processes(n) >= before + 2
    end)
    conn:cancel(later)
    conn:cancel(message)
    conn:cancel(123456)
    conn:cancel(-1)
    conn:cancel(nil)
    assert.are.equal(0, conn:stats().calls_in_flight)
    support.wait_until(function()
      return processes(n) == before
    end)
    assert.are.equal(n.name, rig.call(conn, "erlang", "node"))
    assert.are.equal("", n:log())
  end))

  it("ends with the connection that we close, untold", support.async(function()
    local n = node.start({ name = "calls1" })
    local before = processes(n)
    local conn = rig.attach(n)
    for _ = 1, 20 do
      conn:call("timer", "sleep", { 60000 }, {}, error)
    end
    conn:call("binary", "copy", { "x", 8000000 }, {}, error)
    support.wait_until(function()
      return processes(n) >= before + 20
    end)
    conn:close()
    support.wait_until(function()
      return processes(n) == before and n:eval("nodes(hidden).") == "[]"
    end)
    assert.are.equal("", n:log())
    local value, _, code = rig.call(conn, "erlang", "node")
    assert.are.same({ nil, "EDOWN" }, { value, code })
  end))

  it("gets EDOWN when the node ends, after on_down", support.async(function()
    local n = node.start({ name = "calls1" })
    local log = {}
    local conn = rig.attach(n, { on_down = function(err, code)
      log[#log + 1] = code
      assert.matches("^EDOWN: the connection to calls1@localhost was closed", err)
    end })
    for i = 1, 3 do
      conn:call("timer", "sleep", { 60000 }, {}, function(_, err, code)
        log[#log + 1] = i .. code
        assert.matches("^EDOWN: the connection ended: ", err)
        -- Whoever tries again at once is told at once.
        local again
        conn:call("erlang", "node", {}, {}, function(_, _, code2)
          again = code2
        end)
        assert.are.equal("EDOWN", again)
      end)
    end
    rig.call(conn, "erlang", "node")
    n:kill("sigkill")
    support.wait_until(function()
      return #log == 4
    end)
    assert.are.equal("EDOWN", log[1])
    table.sort(log)
    assert.are.same({ "1EDOWN", "2EDOWN", "3EDOWN", "EDOWN" }, log)
  end))

  it("may close the connection from its callback", support.async(function()
    local n = node.start({ name = "calls1" })
    for _, source in ipairs({ "ok.", "error(oops).", "binary:copy(<<0>>, 200000)." }) do
      local form = forms(n, source)
      local conn = rig.attach(n)
      local told = 0
      for _ = 1, 10 do
        conn:call("erl_eval", "exprs", { form, {} }, {}, function()
          told = told + 1
          conn:close()
          collectgarbage()
        end)
      end
      support.wait_until(function()
        return told == 1 and n:eval("nodes(hidden).") == "[]"
      end)
    end
  end))

  it("to a stopped node that takes nothing more fails with EBUSY", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    n:kill("sigstop")
    local busy, last
    for _ = 1, 40 do
      conn:call("erlang", "byte_size", { ("x"):rep(1024 * 1024) }, {}, function(_, err, code)
        busy, last = code, err
      end)
    end
    assert.are.equal("EBUSY", busy)
    assert.matches("does not take", last, 1, true)
    n:kill("sigcont")
    support.wait_until(function()
      return conn:stats().calls_in_flight == 0
    end)
    assert.are.equal(n.name, rig.call(conn, "erlang", "node"))
  end))

  it("raises for what cannot be sent, and sends nothing", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    local sent = conn:stats().sent_bytes
    local function refuses(text, ...)
      local ok, err = pcall(conn.call, conn, ...)
      assert.is_false(ok)
      assert.matches(text, err, 1, true)
    end
    refuses("call of erlang:node: neither nil", "erlang", "node", { print }, {}, print)
    refuses("not a list", "erlang", "node", { a = 1 }, {}, print)
    refuses("unknown option timeout", "erlang", "node", {}, { timeout = 1 }, print)
    refuses("\"low\" or \"normal\"", "erlang", "node", {}, { priority = "high" }, print)
    refuses("option max_heap_words", "erlang", "node", {}, { max_heap_words = -1 }, print)
    refuses("longer than an atom", ("x"):rep(256), "node", {}, {}, print)
    assert.are.equal(sent, conn:stats().sent_bytes)
    assert.are.equal(0, conn:stats().calls_in_flight)
  end))

  it("with a wrong heap bound is refused by the node", support.async(function()
    local conn = rig.attach(node.start({ name = "calls1" }))
    local value, err, code = rig.call(conn, "erlang", "node", {}, { max_heap_words = 1 })
    assert.are.same({ nil, "EREMOTE" }, { value, code })
    assert.matches("cannot start a process for the call: badopt", err, 1, true)
  end))
end)

describe("a call that answers by a message", function()
  it("gives what its function sends first", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    local before = processes(n)
    assert.are.equal(3, eval_message(conn, n, "To ! {tag, ok, 1 + 2}, To ! {tag, ok, 4}."))
    for _, options in ipairs({ "[compressed]", "[{compressed, 1}]", "[]" }) do
      local value = eval_message(conn, n, "To ! {tag, compressed, term_to_binary("
        .. "[{self(), X} || X <- lists:seq(1, 300)], " .. options .. ")}.")
      assert.are.equal(300, value[300][2])
      assert.matches("^<0%.%d+%.0>$", tostring(value[300][1]))
    end
    for _, bytes in ipairs({ "<<>>", "<<131>>", "<<131, 80, 0, 0, 0, 5, 1, 2, 3>>", "<<131, 97>>",
      "<<131, 80, 255, 255, 255, 255, 1>>", "<<131, 97, 1, 97, 1>>" }) do
      local _, err, code = eval_message(conn, n, ("To ! {tag, compressed, %s}."):format(bytes))
      assert.are.equal("ETERM", code)
      assert.matches("ETERM: the answer cannot be read: ", err, 1, true)
    end
    assert.are.same({ nil, "EREMOTE: 5", "EREMOTE" },
      { eval_message(conn, n, "To ! {tag, compressed, 5}.") })
    assert.are.equal("ETOOBIG",
      select(3, eval_message(conn, n, "To ! {tag, system_limit, 20000000}.")))
    assert.are.same({ nil, "EREMOTE: wrong, grün", "EREMOTE" },
      { eval_message(conn, n, "To ! {tag, error, <<\"wrong, grün\"/utf8>>}.") })
    assert.are.same({ nil, "EREMOTE: {a,b}", "EREMOTE" },
      { eval_message(conn, n, "To ! {tag, error, {a, b}}.") })
    local _, _, code = eval_message(conn, n, "To ! hello.")
    assert.are.equal("ETERM", code)
    assert.are.same({ nil, "EREMOTE: its process ended without an answer: normal", "EREMOTE" },
      { eval_message(conn, n, "nothing.") })
    assert.are.same({ nil, "EREMOTE: its process ended without an answer: oh", "EREMOTE" },
      { eval_message(conn, n, "erlang:unlink(To), exit(oh).") })
    assert.are.equal(before, processes(n))
    assert.are.equal("", n:log())
  end))

  it("has its unlinking acknowledged, and may go on", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    local source = "To ! {tag, ok, self()}, receive go -> erlang:unlink(To) end, "
      .. "receive stop -> ok end."
    local pid = eval_message(conn, n, source)
    local before = conn:stats().sent_bytes
    n:eval("[P ! go || P <- processes(), {current_function, {prim_eval, 'receive', 2}} == "
      .. "process_info(P, current_function)].")
    -- {36, Id, FromPid, ToPid}, with two pids of 20 bytes and more.
    support.wait_until(function()
      return conn:stats().sent_bytes - before > 70
    end)
    assert.is_true(rig.call(conn, "erlang", "is_process_alive", { pid }))
    conn:close()
    support.wait_until(function()
      return n:eval("nodes(hidden).") == "[]"
    end)
    assert.are.equal("true", n:eval(("is_process_alive(list_to_pid(\"%s\"))."):format(
      tostring(pid))))
  end))

  it("cuts a long text between characters", support.async(function()
    local n = node.start({ name = "calls1" })
    local conn = rig.attach(n)
    local _, err = eval_message(conn, n,
      "To ! {tag, error, unicode:characters_to_binary(lists:duplicate(900, 252))}.")
    assert.are.equal("EREMOTE: " .. ("ü"):rep(349), err)
  end))
end)

describe("a connection", function()
  it("answers each tick", support.async(function()
    local n = node.start({ name = "calls1" })
    local client
    local proxy = fake.proxy(rig.ports(n.epmd_port).calls1, function(bytes, socket)
      client = socket
      return bytes
    end)
    local conn = rig.attach(n, { node = n.name .. ":" .. proxy.port })
    local before = conn:stats().sent_bytes
    client:write(("\0"):rep(12))
    support.wait_until(function()
      return conn:stats().sent_bytes - before == 12
    end)
    assert.are.equal(n.name, rig.call(conn, "erlang", "node"))
  end))
end)
