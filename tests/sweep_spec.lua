local async = require("runtime.async")
local beam = require("support.beam")
local clock = require("runtime.clock")
local names = require("runtime.names")
local node = require("support.node")
local support = require("support")
local sweep = require("runtime.sweep")

local function row_of(pass, name)
  for _, row in pairs(pass.processes.rows) do
    if row.name == name then
      return row
    end
  end
  error("no row of " .. name)
end

local function has_row(pass, name)
  return (pcall(row_of, pass, name))
end

describe("names", function()
  it("are valid UTF-8 whatever the bytes", function()
    assert.are.equal("a\239\191\189b", names.utf8("a\255b"))
    assert.are.equal("\239\191\189\239\191\189", names.utf8("\192\128"))
    assert.are.equal("\239\191\189\239\191\189\239\191\189", names.utf8("\237\160\128"))
    assert.are.equal("grüße €𝄞", names.utf8("grüße €𝄞"))
    assert.are.equal("\239\191\189", names.utf8("\226"))
    assert.are.equal("a?b?", names.clean("a\nb\0"))
  end)

  it("are bounded, and cut between characters", function()
    local cut = names.clean(("ü"):rep(200))
    assert.is_true(#cut <= 200)
    assert.are.equal(cut, names.utf8(cut))
    assert.matches("…$", cut)
  end)

  it("write addresses as people do", function()
    for text, address in pairs({
      ["127.0.0.1:80"] = { 127, 0, 0, 1 }, ["[::1]:80"] = { 0, 0, 0, 0, 0, 0, 0, 1 },
      ["[::]:80"] = { 0, 0, 0, 0, 0, 0, 0, 0 }, ["[fe80::]:80"] = { 0xfe80, 0, 0, 0, 0, 0, 0, 0 },
      ["[1:0:2::3]:80"] = { 1, 0, 2, 0, 0, 0, 0, 3 },
      ["[1:2:3:4:5:6:0:8]:80"] = { 1, 2, 3, 4, 5, 6, 0, 8 },
    }) do
      assert.are.equal(text, names.address(address, 80))
    end
  end)

  it("print modules and functions as their language writes them", function()
    assert.are.equal("My.Worker", names.atom("Elixir.My.Worker"))
    assert.are.equal("Elixir", names.atom("Elixir"))
    assert.are.equal("My.Worker.init/1", names.mfa({ "Elixir.My.Worker", "init", 1 }))
    assert.are.equal("lists:map/2", names.mfa({ "lists", "map", 2 }))
    assert.are.equal("{Shop.Cart,7}", names.label("{'Elixir.Shop.Cart',7}"))
    assert.are.equal("{conn,<>,#<>}", names.stable("{conn,<0.1.2>,#Port<0.3>}"))
  end)
end)

describe("the sweep", function()
  it("sees every process of a small node, as the node sees it", support.async(function()
    local n = node.start({ name = "sweep1" })
    n:eval("fl:selective(stuck_one, 20000), fl:procs(40).")
    local ctx = beam.attach(n)
    local pass = assert(ctx.sweep:wait(support.patience_ms()))
    assert.are.equal(0, pass.processes.skipped)
        local count = n:number("erlang:system_info(process_count).")
    local total = pass.processes.total
    assert.is_true(math.abs(total - count) <= 3, total .. " of " .. count)
    local row = row_of(pass, "stuck_one")
    assert.are.equal(n:eval("pid_to_list(whereis(stuck_one))."):match("<[%d.]+>"), row.pid)
    assert.is_true(row.registered)
    assert.are.equal(20000, row.message_queue)
    assert.are.equal(0, row.message_queue_per_s)
    assert.are.equal("waiting", row.status)
    assert.are.equal("fl:-selective/2-fun-0-/0", row.current_function)
    local bytes = n:number("element(2, process_info(whereis(stuck_one), memory)).")
    assert.are.equal(math.floor(bytes / 1024 + 0.5), row.memory_kb)
    assert.are.equal(row.pid, pass.processes.top.message_queue[1])
    assert.are.equal(row.pid, pass.processes.top.memory[1])
    local mono = n:number("erlang:monotonic_time(millisecond).")
    assert.is_true(mono - pass.mono_ms >= 0 and mono - pass.mono_ms < 60000)
  end))

  it("names processes: registered, labelled, by initial call", support.async(function()
    local n = node.start({ name = "sweep1" })
    n:eval([[
      fl:selective('Elixir.Shop.Orders', 1), fl:selective(list_to_atom([252, 10, 8364]), 1),
      fl:labelled(<<"import of monday">>, 2000), fl:labelled(<<"bad ", 255, 254>>, 2000),
      fl:labelled({'Elixir.Shop.Cart', 7}, 2000), fl:labelled(cart, 2000),
      fl:labelled("text", 2000), fl:labelled(lists:duplicate(100000, $x), 2000),
      fl:labelled({conn, self()}, 2000), fl:calling({'Elixir.Shop.Stock', init, 1}, 2000),
      fl:calling({shop_db, init, 1}, 2000), fl:calling(nonsense, 2000),
      fl:procs(1), timer:sleep(100).]])
    local ctx = beam.attach(n)
    local pass = assert(ctx.sweep:wait(support.patience_ms()))
    for _, name in ipairs({ "Shop.Orders", "ü?€", "import of monday", "{Shop.Cart,7}", "cart",
      '"text"', "bad \239\191\189\239\191\189", "Shop.Stock.init/1", "shop_db:init/1",
      "proc_lib:init_p/3", "erlang:apply/2", "init" }) do
      assert.is_true(has_row(pass, name), name)
    end
    assert.are.equal("{conn,<>}", row_of(pass, "{conn," .. n:eval("pid_to_list(self()).")
      :match("<[%d.]+>") .. "}").subject)
    for _, row in pairs(pass.processes.rows) do
      assert.is_true(#row.name <= 200)
      assert.are.equal(row.name, names.clean(row.name))
      assert.is_nil(row.subject:find("<%d"))
    end
  end))

  it("tells rates over one second, of the busy and of the growing", support.async(function()
    local n = node.start({ name = "sweep1" })
    n:eval("fl:procs(300), fl:slow_consumer(slow_one, 1000, 10), fl:spin(busy_one).")
    -- As on a large node: rates of candidates only.
    local ctx = beam.attach(n, { small = 10 })
    -- On a busy machine the growing one may have had no turn, or two at once.
    local pass, slow = nil, nil
    support.wait_until(function()
      pass = assert(ctx.sweep:once())
      slow = row_of(pass, "slow_one")
      return slow.message_queue_per_s > 700 and slow.message_queue_per_s < 1300
    end, nil, "a second of 1000 messages")
    assert.are.equal(slow.pid, pass.processes.top.message_queue_per_s[1])
    local busy = row_of(pass, "busy_one")
    assert.are.equal(busy.pid, pass.processes.top.reductions_per_s[1])
    assert.is_true(busy.reductions_per_s > 1e6)
    assert.is_true(busy.status == "running" or busy.status == "runnable")
  end))

  it("finds a busy process that is not among the biggest by anything", support.async(function()
    local n = node.start({ name = "sweep1", args = { "+S", "2:2" } })
    n:eval([[
      [spawn(fun() -> lists:foldl(fun(N, S) -> N + S end, 0, lists:seq(1, 20000)),
        receive never -> ok end end) || _ <- lists:seq(1, 120)], timer:sleep(300),
      fl:spin(), process_flag(priority, high).]])
    local ctx = beam.attach(n, { small = 10 })
    local pass = assert(ctx.sweep:wait(support.patience_ms()))
    local row = pass.processes.rows[pass.processes.top.reductions_per_s[1]]
    assert.are.equal("fl:loop/0", row.current_function)
  end))

  it("goes on past processes that do not answer, and names them", support.async(function()
    local n = node.start({ name = "sweep1", args = { "+S", "2:2" } })
    local ctx = beam.attach(n, { patience_ms = 150, grace_ms = 100 })
    assert(ctx.sweep:once())
    local hog = n:eval("fl:procs(200), fl:selective(other_one, 500), fl_sick:hog(hog).")
      :match("<[%d.]+>")
    -- Between two comparisons it does answer; and a helper that waits in the run queue of the hog's
    -- scheduler costs its own process too.
    support.wait_until(function()
      local pass = ctx.sweep:once()
      local found = pass and pass.processes
      return found and found.skipped < 20
        and (table.concat(found.unanswered, " ") .. " "):find(hog, 1, true)
        and (has_row(pass, "init") or has_row(pass, "other_one"))
    end, nil, "a pass that leaves out the hog and little else")
  end, 90))

  it("takes no harm from processes that die meanwhile", support.async(function()
    local n = node.start({ name = "sweep1" })
    n:eval([[
      fl:selective(lasting, 700),
      [spawn(fun Churn() ->
        [spawn(fun() -> receive after N rem 40 -> ok end end) || N <- lists:seq(1, 100)],
        receive after 10 -> Churn() end
      end) || _ <- lists:seq(1, 5)], timer:sleep(300).]])
    for _, small in ipairs({ 3000, 10 }) do
      local ctx = beam.attach(n, { small = small, gap_ms = 300 })
      for _ = 1, 3 do
        local pass = assert(ctx.sweep:once())
        assert.are.equal(0, pass.processes.skipped)
        assert.is_true(pass.processes.total > 100, pass.processes.total)
        assert.are.equal(700, row_of(pass, "lasting").message_queue)
      end
    end
  end))

  it("leaves nothing on the node: processes, modules, atoms, log lines", support.async(function()
    local n = node.start({ name = "sweep1" })
    local ctx = beam.attach(n, { gap_ms = 200 })
    assert(ctx.sweep:once())
    local facts = "{lists:sort(processes()), length(code:all_loaded()), "
      .. "erlang:system_info(atom_count)}."
    -- The process that answered may be about to end.
    local before
    support.wait_until(function()
      local last = before
      before = n:eval(facts)
      return before == last
    end)
    assert(ctx.sweep:once())
    support.wait_until(function()
      return n:eval(facts) == before
    end)
    assert.are.equal("", n:log())
  end))

  it("that is abandoned half-way takes its helpers with it", support.async(function()
    local n = node.start({ name = "sweep1" })
    local ctx = beam.attach(n, { gap_ms = 5000 })
    ctx.target:eval("ok.", {}, {})
    local before = n:number("erlang:system_info(process_count).")
    ctx.sweep:start()
    support.wait_until(function()
      return n:number("erlang:system_info(process_count).") >= before + 2
    end)
    ctx.sweep:stop()
    support.wait_until(function()
      return n:number("erlang:system_info(process_count).") == before
    end)
    ctx.sweep:start()
    support.wait_until(function()
      return n:number("erlang:system_info(process_count).") >= before + 2
    end)
    ctx.target:stop()
    support.wait_until(function()
      return n:number("erlang:system_info(process_count).") <= before
    end)
  end))

  it("comes again, and forgets what was there when the node restarts", support.async(function()
    local n = node.start({ name = "sweep1" })
    local ctx = beam.attach(n, { gap_ms = 10, min_interval_ms = 50 })
    ctx.sweep:start()
    local first = assert(ctx.sweep:wait(support.patience_ms()))
    -- A pass that took long on a busy machine is followed by a long pause.
    support.wait_until(function()
      return ctx.sweep:latest() ~= first
    end, 20000, "the second pass")
    assert.is_true(ctx.sweep:latest().mono_ms > first.mono_ms)
    local last
    n:kill("sigkill")
    n:wait_exit()
    support.wait_until(function()
      last = ctx.sweep:latest()
      return ctx.target:status().status == "down"
    end)
    node.start({ name = "sweep1" })
    assert(ctx.target:wait_up(support.patience_ms()))
    assert.are_not.equal(last, ctx.sweep:latest())
    assert(ctx.sweep:wait(support.patience_ms()))
  end, 60))

  it("finds who is busy on a saturated node, however little of it can be looked at",
    support.async(function()
      local n = node.start({ name = "sweep1", args = { "+S", "2:2" } })
      local ctx = beam.attach(n, { budget_ms = 0, small = 100 })
      n:eval("bench:idle(5000), [fl:spin(list_to_atom(\"busy_\" ++ integer_to_list(I))) "
        .. "|| I <- lists:seq(1, 20)].")
      local found = assert(ctx.sweep:once()).processes
      assert.is_true(found.skipped > 4000, found.skipped)
      local busy = 0
      for i = 1, 20 do
        local row = found.rows[found.top.reductions_per_s[i]]
        busy = busy + (row.name:find("^busy_%d") and 1 or 0)
      end
      assert.is_true(busy >= 15, busy)
      local first = found.rows[found.top.reductions_per_s[1]]
      assert.are.equal("fl:loop/0", first.current_function)
    end, 60))

  it("waits for the first pass, and says why there is none", support.async(function()
    local asked = 0
    local target = {
      node = "shop@db1",
      subscribe = function()
        return function() end
      end,
      wait_up = function()
        return true
      end,
      call = function()
        asked = asked + 1
        async.sleep(20)
        return nil, "EDOWN: gone", "EDOWN"
      end,
    }
    local s = sweep.new({ target = target, clock = clock.system() })
    s:start()
    local pass, err, code = s:wait(5000)
    assert.is_nil(pass)
    assert.are.same({ "EDOWN: gone", "EDOWN" }, { err, code })
    pass, err, code = s:wait(10)
    assert.is_nil(pass)
    assert.are.equal("ETIMEDOUT", code)
    assert.matches("EDOWN: gone", err)
    assert.are.equal(1, asked)
    s:stop()
  end))

  it("comes sooner when it is asked for, once until that is made up for", support.async(function()
    local moved = clock.manual()
    local s = sweep.new({ clock = moved, target = {
      node = "shop@db1",
      subscribe = function()
        return function() end
      end,
      wait_up = function()
        return true
      end,
    } })
    -- The next is due 40 s after each.
    local passes = 0
    function s.once()
      passes = passes + 1
      return { processes = { total = 100000, work_ms = 400 } }
    end
    s:start()
    assert.are.equal(1, passes)
    moved.advance(1000)
    s:hasten()
    assert.are.equal(2, passes)
    -- The third was due at 40 s, and is now due at 80 s.
    s:hasten()
    moved.advance(38000)
    s:hasten()
    assert.are.equal(2, passes)
    moved.advance(2000)
    s:hasten()
    assert.are.equal(3, passes)
    s:hasten()
    assert.are.equal(3, passes)
    s:stop()
    -- Where it comes within ten seconds anyway it is left alone.
    passes = 0
    s = sweep.new({ clock = moved, target = s.target })
    function s.once()
      passes = passes + 1
      return { processes = { total = 100, work_ms = 1 } }
    end
    s:start()
    moved.advance(100)
    s:hasten()
    assert.are.equal(1, passes)
    s:stop()
  end))

  it("is spaced by its work, not by how long a busy node let it wait", function()
    local s = sweep.new({ target = {}, clock = clock.manual() })
    local function after(total, work_ms)
      return s:interval_ms({ processes = { total = total, work_ms = work_ms } })
    end
    assert.are.equal(10000, after(100, 5))
    assert.are.equal(25000, after(100000, 250))
    -- The same work, ten times as long: the node was busy.
    assert.are.equal(25000, after(100000, 2500))
    s:forget()
    assert.are.equal(110000, after(100000, 60000))
  end)
end)
