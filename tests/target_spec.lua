local async = require("runtime.async")
local dist = require("host.dist")
local json = require("runtime.json")
local node = require("support.node")
local support = require("support")
local targets = require("support.target")

local HOUR_MS = 3600000

-- Waits until the node's processes number `count` again.
local function assert_processes(n, count)
  support.wait_until(function()
    return n:number("length(processes()).") == count
  end, 5000, "the processes to end")
end

describe("a target", function()
  it("attaches hidden, by its first own name, and says what it found", support.async(function()
    local n = node.start({ name = "target1" })
    local t, told = targets.attach(n)
    assert.are.equal("[]", n:eval("nodes()."))
    assert.are.equal("[beamlens1@localhost]", n:eval("nodes(hidden)."))

    local status = t:status()
    assert.are.equal("up", status.status)
    assert.are.equal(n:bytes("erlang:system_info(otp_release)."), status.info.otp_release)
    assert.are.equal(n:number("erlang:system_info(creation)."), status.info.creation)
    assert.is_true(status.info.eval)
    assert.is_true(status.info.uptime_ms > 0)

    assert.are.equal("up", told:kinds())
    local up = told.events[1]
    assert.are.equal(1, #told.events)
    assert.are.same({ "beamlens.node.up", "target1@localhost", "beamlens1@localhost" },
      { up.name, up.metadata.node, up.metadata.own_name })
    assert.is_true(up.measurements.duration > 0 and up.measurements.duration < 300000)
    assert.are.equal("table", type(up.metadata.loaded))
  end))

  it("calls functions and evaluates sources", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    assert.are.equal("target1@localhost", t:call("erlang", "node", {}))
    assert.are.same({ 3, 2, 1 }, t:call("lists", "reverse", { { 1, 2, 3 } }))
    assert.are.equal(3, t:eval("1 + 2."))
    assert.are.equal(42, t:eval("A = Limit * 2, A + 2.\n", { Limit = 20 }, { timeout = "5m" }))
    assert.is_false(t:eval("1 =:= 2."))
    assert.are.equal(json.null, t:eval("nil."))
    assert.are.same({ key = { "x", 1.5 } }, t:eval("#{key => [Text, 1.5]}.", { Text = "x" }))
    assert.are.same({ 1, 2, 3 }, t:eval("F = fun(X) -> X + 1 end, [F(X) || X <- L].",
      { L = { 0, 1, 2 } }))
    assert.are.same({ 97, "bc" },
      t:eval("<<First:8, Rest/binary>> = Bytes, [First, Rest].", { Bytes = "abc" }))
    local pid = t:eval("whereis(init).")
    assert.are.equal(n:eval("whereis(init)."), tostring(pid))
    assert.are.equal("init", t:eval("element(2, process_info(P, registered_name)).", { P = pid }))
  end))

  it("has large answers cross compressed, and none that is too large", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    local source = "[{self(), erlang, <<\"some name\">>, X} || X <- lists:seq(1, N)]."
    local function received(fn)
      local before = t.link.conn:stats().received_bytes
      fn()
      return t.link.conn:stats().received_bytes - before
    end
    local function rows(count)
      local value = assert(t:eval(source, { N = count }))
      assert.are.equal(count, #value)
      assert.are.same({ "erlang", "some name", count }, { unpack(value[count], 2) })
    end
    rows(1)
    local plain = n:number("byte_size(term_to_binary([{self(), erlang, <<\"some name\">>, X} "
      .. "|| X <- lists:seq(1, 500)])).")
    assert.is_true(plain > 20000)
    assert.is_true(received(function()
      rows(500)
    end) < plain / 5)
    -- What does not get smaller.
    assert.are.equal(100000, #assert(t:eval("rand:bytes(N).", { N = 100000 })))
    for _, body in ipairs({ "binary:copy(<<0>>, N)", "[binary:copy(<<0>>, 1000) || "
      .. "_ <- lists:seq(1, N div 1000)]", "{rand:bytes(1000), lists:seq(1, N)}" }) do
      local took = received(function()
        local value, _, code = t:eval(body .. ".", { N = 17000000 }, { timeout = "5m",
          max_heap_words = 1e8 })
        assert.are.same({ nil, "ETOOBIG" }, { value, code })
      end)
      assert.is_true(took < 50000, took)
    end
    assert.are.equal(16000000, #assert(t:eval("binary:copy(<<0>>, N).", { N = 16000000 },
      { timeout = "5m" })))
  end))

  it("evaluates a long source as a short one", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    local parts = {}
    for i = 1, 400 do
      parts[i] = ("X%d = X%d + N,"):format(i, i - 1)
    end
    local long = "X0 = 0, " .. table.concat(parts, "\n") .. " F = fun(Y) -> Y * 2 end, F(X400)."
    assert.are.equal(2400, assert(t:eval(long, { N = 3 })))
    local sent = t.link.conn:stats().sent_bytes
    assert.are.equal(800, assert(t:eval(long, { N = 1 })))
    assert.is_true(t.link.conn:stats().sent_bytes - sent < #long)
    local _, err, code = t:eval(long, { N = "text" })
    assert.are.same({ "EREMOTE", "EREMOTE: error:badarith" }, { code, err })
    _, err, code = t:eval(long:gsub("F%(X400%)", "F(X400"), { N = 1 })
    assert.are.equal("EREMOTE", code)
    assert.matches("syntax error", err)
    assert.are.equal("", n:log())
  end))

  it("gives an error with its class and reason", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    for source, expected in pairs({
      ["1 / 0."] = "EREMOTE: error:badarith",
      ["error({bad, \"text\", <<\"bin\">>})."] = 'EREMOTE: error:{bad,"text",<<"bin">>}',
      ["exit(bye)."] = "EREMOTE: exit:bye",
      ["throw(ball)."] = "EREMOTE: throw:ball",
      ["{ok, _} = no."] = "EREMOTE: error:{badmatch,no}",
    }) do
      local value, err, code = t:eval(source)
      assert.are.same({ nil, expected, "EREMOTE" }, { value, err, code })
    end
    local _, err, code = t:eval("1 + .")
    assert.are.equal("EREMOTE", code)
    assert.matches("syntax error", err)
    _, err, code = t:call("erlang", "binary_to_existing_atom", { "no such atom here", "utf8" })
    assert.are.equal("EREMOTE", code)
    assert.matches("badarg", err)
    _, err = t:eval("exit({lists:seq(1, 100000), binary:copy(<<\"x\">>, 100000)}).")
    assert.is_true(#err < 1000)
    assert.are.equal("", n:log())
  end))

  it("refuses a call to a module that the node does not have", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    local value, err, code = t:call("no_such_module", "run", {})
    assert.is_nil(value)
    assert.are.equal("ENOMODULE", code)
    assert.matches("no module no_such_module", err)
  end))

  it("refuses misuse where it is written", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    assert.has_error(function()
      t:eval("1 + 2")
    end, "an Erlang source ends with a full stop")
    assert.has_error(function()
      t:eval("1 + 2.", { Limit = 1 })
    end, "the source has no variable Limit")
    assert.has_error(function()
      t:eval("limit.", { limit = 1 })
    end)
    assert.has_error(function()
      t:eval("1.", nil, { timout = 1 })
    end, 'unknown option "timout"')
    assert.has_error(function()
      t:eval("1.", nil, { timeout = "soon" })
    end)
  end))

  it("parses a source once, also for a thousand evals at the same time", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    n:eval("erlang:trace_pattern({erl_parse, parse_exprs, 1}, true, [call_count]).")
    local sum, tasks = 0, {}
    for i = 1, 1000 do
      tasks[i] = async.spawn(function()
        local value = assert(t:eval("lists:sum([X || X <- lists:seq(1, N)]).", { N = i },
          { timeout = "5m" }))
        sum = sum + value
      end)
    end
    for _, task in ipairs(tasks) do
      assert.is_true(task:join())
    end
    assert.are.equal(1000 * 1001 * 1002 / 6, sum)
    -- One of ours and one of this question.
    assert.are.equal("{call_count,2}",
      n:eval("erlang:trace_info({erl_parse, parse_exprs, 1}, call_count)."))
    assert.are.equal(1, t.evaluator.parsed)
  end))

  it("kills what is past its time, cancelled or cut off", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    assert(t:eval("timer:sleep(Ms).", { Ms = 0 }))
    local count = n:number("length(processes()).")
    local value, err, code = t:eval("timer:sleep(Ms).", { Ms = HOUR_MS }, { timeout = "100ms" })
    assert.are.same({ nil, "ETIMEDOUT" }, { value, code })
    assert.matches("^ETIMEDOUT: ", err)
    assert_processes(n, count)

    code = select(3, t:call("timer", "sleep", { HOUR_MS }, { timeout_ms = 100 }))
    assert.are.equal("ETIMEDOUT", code)
    assert_processes(n, count)

    local task = async.spawn(function()
      t:eval("timer:sleep(Ms).", { Ms = HOUR_MS }, { timeout = "1h" })
    end)
    assert_processes(n, count + 1)
    task:cancel()
    assert_processes(n, count)

    local codes = {}
    for i = 1, 10 do
      async.spawn(function()
        codes[i] = select(3, t:eval("timer:sleep(Ms).", { Ms = HOUR_MS }, { timeout = "1h" }))
      end)
    end
    assert_processes(n, count + 10)
    t:stop()
    assert.are.equal(("EDOWN"):rep(10), table.concat(codes))
    support.wait_until(function()
      return n:number("length(processes()).") < count -- the connection's own are gone, too
    end)
    assert.are.equal("", n:log())
  end))

  it("calls at normal priority while low would wait too long", support.async(function()
    local n = node.start({ name = "target1", args = { "+S", "1" } })
    local t = targets.attach(n, { heartbeat_ms = 50 })
    assert.are.equal("low", t:eval("element(2, process_info(self(), priority))."))
    n:eval([=[Spin = fun(F) -> F(F) end,
      register(spinner, spawn(fun() -> [spawn_link(fun() -> Spin(Spin) end) || _ <- [1, 2, 3, 4]],
        receive stop -> exit(stop) end end)).]=])
    support.wait_until(function()
      return t:eval("element(2, process_info(self(), priority)).") == "normal"
    end)
    assert.are.equal("low", t:eval("element(2, process_info(self(), priority)).", nil,
      { priority = "low" }))
    n:eval("spinner ! stop.")
    support.wait_until(function()
      return t:eval("element(2, process_info(self(), priority)).") == "low"
    end)
  end))

  it("bounds the heap of a call, and the node logs nothing", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    local value, _, code = t:eval("length(lists:seq(1, 10000000)).", {},
      { max_heap_words = 1000000 })
    assert.are.same({ nil, "EHEAP" }, { value, code })
    assert.are.equal(3, t:eval("1 + 2."))
    assert.are.equal("", n:log())
  end))

  it("makes no atom of a text", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    local source = "try binary_to_existing_atom(Name) of A -> whereis(A) catch _:_ -> none end."
    assert.are.equal("none", t:eval(source, { Name = "surely no process" }))
    local before = n:number("erlang:system_info(atom_count).")
    for i = 1, 1000 do
      assert.are.equal("none", t:eval(source, { Name = "invented_name_" .. i }))
    end
    assert.are.equal(before, n:number("erlang:system_info(atom_count)."))
  end))

  it("has an eval's output go to the node's own", support.async(function()
    local n = node.start({ name = "target1" })
    local t = targets.attach(n)
    assert.are.equal("ok", t:eval("io:format(\"from an eval~n\").", nil, { timeout = "5m" }))
    support.wait_until(function()
      return n:log() == "from an eval\n"
    end)
  end))

  it("needs no epmd when it knows the port", support.async(function()
    local n = node.start({ name = "target1" })
    local port = n:eval("{ok, All} = erl_epmd:names(), proplists:get_value(\"target1\", All).")
    local t = targets.attach({ name = n.name .. ":" .. port, cookie = n.cookie,
      epmd_port = node.free_port() })
    assert.are.equal("target1@localhost", t.node)
    assert.are.equal("target1@localhost", t:eval("node()."))
    assert.are.equal("beamlens1@localhost", t:status().info.own_name)
  end))

  it("can be stopped at any moment and started again", support.async(function()
    local n = node.start({ name = "target1" })
    local processes = n:number("length(processes()).")
    local t = targets.attach(n)
    t:stop()
    for ms = 0, 29 do
      t:start()
      async.sleep(ms / 4)
      t:stop()
      assert.are.equal("ESTOPPED", t:status().code)
      assert.are.equal("EDOWN", select(3, t:call("erlang", "node", {})))
    end
    assert_processes(n, processes)
    support.wait_until(function()
      return n:eval("nodes(hidden).") == "[]"
    end)
    t:start()
    assert(t:wait_up(support.patience_ms()))
    assert.are.equal(3, t:eval("1 + 2."))
    assert.are.equal("", n:log())
  end))

  it("takes the next own name when one is alive", support.async(function()
    local n = node.start({ name = "target1" })
    local first = targets.attach(n)
    local second = targets.attach(n)
    assert.are.equal("beamlens1@localhost", first:status().info.own_name)
    assert.are.equal("beamlens2@localhost", second:status().info.own_name)

    local third = targets.start(n, { own_name = "beamlens2@localhost",
      backoff_ms = { first = 50, max = 50 } })
    local ok, err, code = third:wait_up(support.patience_ms())
    assert.are.same({ nil, "EALIVE" }, { ok, code })
    assert.matches("^EALIVE: ", err)
    assert.are.equal("refused", third:status().status)
    assert.are.equal(3, second:eval("1 + 2."))
    second:stop()
    support.wait_until(function()
      return third:status().status == "up"
    end)
  end))

  it("leaves nothing behind", support.async(function()
    local n = node.start({ name = "target1" })
    local facts = [[{length(processes()), length(erlang:ports()), lists:sort(registered()),
      ets:info(sys_dist), erlang:system_monitor(), erlang:trace_info(new, flags),
      lists:sort([M || {M, _} <- code:all_loaded()])}.]]
    n:eval(facts)
    local processes = n:number("length(processes()).")
    -- The first attach loads what OTP itself loads at first use, and makes atoms.
    local t = targets.attach(n)
    assert(t:eval("length(processes())."))
    t:eval("exit({<<\"grüße\"/utf8>>, 1.5}).")
    t:eval("receive after 60000 -> ok end.", nil, { timeout_ms = 50 })
    t:stop()
    assert_processes(n, processes)
    assert.are.equal("[]", n:eval("nodes(hidden)."))
    local before, atoms = n:eval(facts), n:number("erlang:system_info(atom_count).")

    t = targets.attach(n)
    assert(t:eval("length(processes())."))
    t:eval("receive after 60000 -> ok end.", nil, { timeout_ms = 50 })
    t:stop()
    support.wait_until(function()
      return n:eval("nodes(hidden).") == "[]" and n:eval(facts) == before
    end, 5000, "the node to be as before")
    assert.are.equal(atoms, n:number("erlang:system_info(atom_count)."))
    assert.are.equal("", n:log())
  end))

  it("refuses calls at once when it is not up", support.async(function()
    local t = targets.start({ name = "nobody@localhost", cookie = "x",
      epmd_port = node.free_port() })
    local value, err, code = t:call("erlang", "node", {})
    assert.are.same({ nil, "EDOWN" }, { value, code })
    assert.matches("no connection to nobody@localhost", err)
    t:stop()
    assert.are.same({ nil, "EDOWN: no connection to nobody@localhost (ESTOPPED: stopped)",
      "EDOWN" }, { t:eval("1.") })
  end))
end)

describe("a target on a bare node", function()
  it("has what eval needs loaded, and says which", support.async(function()
    local n = node.start({ name = "target2", control = false })
    local _, told = targets.attach(n)
    local loaded = table.concat(told.events[1].metadata.loaded, " ")
    assert.matches("erl_internal", loaded)
    assert.matches("io_lib", loaded)
  end))

  it("loads nothing in embedded mode, where all is there", support.async(function()
    local n = node.start({ name = "target2", args = { "-mode", "embedded", "-eval",
      "code:load_abs(\"build/nodes/control\")." } })
    local t, told = targets.attach(n)
    assert.are.same({}, told.events[1].metadata.loaded)
    assert.are.equal(3, t:eval("1 + 2."))
  end))

  it("goes on with plain calls while code_server does not answer", support.async(function()
    local n = node.start({ name = "target2", control = false, args = { "-s", "bare", "suspend" } })
    local t, told = targets.attach(n, nil, true)
    assert.are.same({}, told.events[1].metadata.loaded)
    assert.is_false(t:status().info.eval)
    assert.is_true(t:call("erlang", "memory", {}) ~= nil)
    local value, err, code = t:eval("1 + 2.")
    assert.are.same({ nil, "ECODESERVER" }, { value, code })
    assert.matches("^ECODESERVER: .*code_server does not answer", err)

    -- It is looked at again in the background, by one question, and nobody waits for that.
    t.evaluator.refusal.until_ms = 0
    assert.are.equal("ECODESERVER", select(3, t:eval("1 + 2.")))
    local server = t:call("erlang", "whereis", { dist.atom("code_server") })
    support.wait_until(function()
      return t.evaluator.refusal.until_ms < math.huge
    end)
    local queue = t:call("erlang", "process_info", { server, dist.atom("message_queue_len") })
    assert.are.equal(2, queue[2])

    t:call("bare", "resume", {})
    t.evaluator.refusal.until_ms = 0
    support.wait_until(function()
      return t:eval("1 + 2.") == 3
    end)
    assert.is_true(t:status().info.eval)
  end))

  it("needs no code_server once it is attached", support.async(function()
    local n = node.start({ name = "target2", control = false })
    local t = targets.attach(n)
    assert.are.equal("ok", t:call("sys", "suspend", { dist.atom("code_server") }))
    assert.are.same({ 3, 7 }, t:eval([[F = fun(X) -> X + 1 end,
      M = maps:map(fun(_, V) -> F(V) end, #{a => 2, b => 6}),
      <<A:8>> = <<(maps:get(a, M)):8>>, [A | lists:sort([V || {b, V} <- maps:to_list(M)])].]]))
    -- A source that needs another module fails alone.
    local value, err, code = t:eval("array:size(array:new()).")
    assert.are.same({ nil, "ECODESERVER" }, { value, code })
    assert.matches("so the module array cannot be loaded", err)
    assert.are.equal(9, t:eval("10 - 1."))
    local _, text = t:eval("error({\"grüße\", #{<<\"grüße\"/utf8>> => 1.5, a => self()}, "
      .. "lists:seq(1, 1000), make_ref(), fun lists:sum/1, <<1:3>>}).")
    assert.matches("^EREMOTE: error:{", text)
  end))
end)
