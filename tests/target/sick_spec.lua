-- Nodes that are not well, or have little: what a target and a domain still get, and how soon.

local async = require("runtime.async")
local beam = require("support.beam")
local beamlens = require("support.beamlens")
local dist = require("host.dist")
local domain = require("runtime.domain")
local node = require("support.node")
local support = require("support")
local targets = require("support.target")
local uv = require("luv")

local DOMAINS = { "beam", "ets", "gc", "ports", "sup" }

-- Arguments of the callbacks that have no default for one.
local ARGUMENTS = {
  sleep = { 1 }, ets_table_info = { "ac_tab" }, ports_info = { "#Port<0.0>" },
  sup_children = { "kernel_sup" }, sup_tree = { "kernel_sup" },
}

-- Takes a snapshot and runs every callback of a domain. Returns the snapshot, and the errors of
-- those that fail, by name.
local function look(d, ctx)
  local data, failed = assert(d:snapshot(ctx)), {}
  for _, callback in ipairs(d:callbacks()) do
    local ok, value = d:invoke(ctx, callback.name, ARGUMENTS[callback.name] or {})
    if ok then
      beam.check_returns(callback, value)
    else
      failed[callback.name] = value
    end
  end
  return data, failed
end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return table.concat(keys, " ")
end

local ALL_PARTS = { gap_ms = 100, parts = { "processes", "supervisors", "tables", "ports" } }

describe("a node whose code_server does not answer", function()
  -- What looks at many things needs an eval; what is one counter or one call does not.
  local WITHOUT_EVAL = {
    beam = "beam_top_processes", gc = "gc_top_processes", ports = "ports_info ports_list ports_top",
    ets = "ets_list_tables ets_table_info ets_top_tables", sup = "sup_children sup_list sup_tree",
  }

  it("before the attach comes up, and counters go on as plain calls", support.async(function()
    local n = node.start({ name = "sick1", control = false, args = { "-s", "bare", "suspend" } })
    local ctx = beam.attach(n, ALL_PARTS, true)
    local status = ctx.target:status()
    assert.are.equal("up", status.status)
    assert.is_false(status.info.eval)
    assert.matches("code_server", status.info.eval_err)

    local function number(item)
      return ctx.target:call("erlang", "system_info", { dist.atom(item) })
    end
    for _, name in ipairs(DOMAINS) do
      local d = beam.domain(name)
      local data, failed = look(d, ctx)
      assert.are.equal(WITHOUT_EVAL[name], sorted_keys(failed))
      for callback, err in pairs(failed) do
        assert.matches("^" .. callback .. ": ECODESERVER: nothing can be evaluated on the node: "
          .. "the node's code_server does not answer", err)
      end
      for _, metric in ipairs(d.metrics) do
        assert.is_not_nil(data[metric.name], metric.name)
      end
      assert.is_true(data.uptime_s >= 0 and data.uptime_s < 600, data.uptime_s)
      assert.is_true(math.abs(number("process_count") - data.process_count) < 5)
      assert.is_true(data.memory_code_mb > 1)
      if data.memory_basis then
        assert.are.equal("rss", data.memory_basis)
        assert.is_true(data.memory_utilization_pct > 0)
      end
      if name == "beam" then
        assert.is_false(data.code_server_answers)
      end
    end
    assert.are.equal("", n:log())
  end))

  it("and then does says so, and all is as ever", support.async(function()
    local n = node.start({ name = "sick1", control = false, args = { "-s", "bare", "suspend" } })
    local ctx = beam.attach(n, ALL_PARTS, true)
    local d = beam.domain("beam")
    ctx.target.evaluator.refusal.until_ms = 0 -- the pause before it is looked at again is over
    assert.is_false(assert(d:snapshot(ctx)).code_server_answers)
    assert.are.equal("ok", ctx.target:call("sys", "resume", { dist.atom("code_server") }))
    ctx.target.evaluator.refusal.until_ms = 0
    local data
    support.wait_until(function()
      data = assert(d:snapshot(ctx))
      return data.code_server_answers
    end, 10000)
    for _, name in ipairs(DOMAINS) do
      local _, failed = look(beam.domain(name), ctx)
      assert.are.same({}, failed)
    end
    assert.are.equal("", n:log())
  end))

  it("after the attach changes nothing for domains that have not run yet", support.async(function()
    local n = node.start({ name = "sick1", control = false })
    local ctx = beam.attach(n, ALL_PARTS)
    assert.are.equal("ok", ctx.target:call("sys", "suspend", { dist.atom("code_server") }))
    for _, name in ipairs(DOMAINS) do
      local data, failed = look(beam.domain(name), ctx)
      assert.are.same({}, failed)
      assert.is_true(name ~= "beam" or data.code_server_answers)
    end
    assert.are.equal("", n:log())
  end, 40))
end)

describe("a node with a process that answers nobody", function()
  -- For half a second at a time it keeps a scheduler, and whoever waits for that, from all else.
  it("gives all else in time, and the sweep says whom it left out", support.async(function()
    local n = node.start({ name = "sick2", args = { "+S", "2:2" } })
    local ctx = beam.attach(n, { patience_ms = 150, grace_ms = 100, gap_ms = 100 })
    local d = beam.domain("beam")
    assert(ctx.sweep:once())
    local hog = n:eval("fl:procs(200), fl:selective(other_one, 500), fl_sick:hog(hog).")
      :match("<[%d.]+>")
    local found = support.wait_until(function()
      -- Between two comparisons it does answer; and whoever shares its scheduler may be late.
      local pass, data = ctx.sweep:once(), d:snapshot(ctx)
      local now = data and pass and pass.processes
      return now and (table.concat(now.unanswered, " ") .. " "):find(hog, 1, true) and now
    end, nil, "a pass that leaves out the hog")
    assert.is_true(found.skipped >= 1)
    local _, top, meta = d:invoke(ctx, "beam_top_processes", {})
    assert.are.same({ found.skipped, found.skipped }, { top.skipped, meta.skipped })
  end, 90))

  it("gives the same with one that is stuck in the file system for good", support.async(function()
    local n = node.start({ name = "sick2" })
    local ctx = beam.attach(n, { patience_ms = 150, grace_ms = 100, gap_ms = 100 })
    local d = beam.domain("beam")
    local fifo = support.tmp_path("stuck-fifo")
    assert(node.run_program("mkfifo", { fifo }) == 0)
    support.on_cleanup(function()
      n:kill("sigkill")
      os.remove(fifo)
    end)
    n:eval(("register(stuck, spawn(fun() -> prim_file:read_file(%q) end)), fl:procs(200).")
      :format(require("luv").cwd() .. "/" .. fifo))
    for _ = 1, 2 do
      local found = assert(ctx.sweep:once()).processes
      assert.is_true(found.skipped <= 1 and found.total > 200)
      local _, data = beam.whole_snapshot("beam", ctx, "memory_basis")
      assert.are.equal("rss", data.memory_basis)
      local ok, top = d:invoke(ctx, "beam_top_processes", { 50 })
      assert.is_true(ok, top)
      assert.are.equal(found.skipped, top.skipped)
    end
    assert.are.equal("", n:log())
  end))
end)

describe("a node with a supervisor that is stuck in a child's init", function()
  it("has its snapshots in time, and that of sup says who did not answer", support.async(function()
    local n = node.start({ name = "sick5" })
    n:eval([[fl_sup:start(stuck_sup, [{a, worker}, {b, worker}]),
      fl_sup:slow_child(stuck_sup, 60000).]])
    local ctx = beam.attach(n, ALL_PARTS)
    local pass = assert(ctx.sweep:once())
    assert.are.same({}, pass.errors)
    for _, name in ipairs(DOMAINS) do
      local data, failed = look(beam.domain(name), ctx)
      assert.are.same({}, failed)
      if name == "sup" then
        assert.are.same({ 1, 0 }, { data.supervisors_silent, data.supervisors_skipped })
      end
    end
    local d = beam.domain("sup")
    local _, rows, meta = assert(d:invoke(ctx, "sup_children", { "stuck_sup" }))
    assert.are.same({ 2, true }, { #rows, meta.partial })
    for _, name in ipairs(DOMAINS) do
      local status, out, err = beamlens.run({ "snapshot", name }, { env = {
        "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. n.cookie,
        "BEAMLENS_NODE=" .. n.name } })
      assert.are.same({ 0, "" }, { status, err })
      assert.is_true(name ~= "sup" or out:find('"supervisors_silent":1', 1, true) ~= nil, out)
    end
    -- It is still stuck.
    assert.are.equal("{current_function,{timer,sleep,1}}",
      n:eval("process_info(whereis(stuck_sup), current_function)."))
    assert.are.equal("", n:log())
  end, 60))

  it("says nothing of it once it goes on", support.async(function()
    local n = node.start({ name = "sick5" })
    n:eval([[fl_sup:start(stuck_sup, [{a, worker}]), fl_sup:slow_child(stuck_sup, 4000).]])
    local ctx = beam.attach(n, ALL_PARTS)
    local d = beam.domain("sup")
    assert(ctx.sweep:once())
    assert.are.equal(1, assert(d:snapshot(ctx)).supervisors_silent)
    support.wait_until(function()
      return n:eval("length(supervisor:which_children(stuck_sup)).") == "2"
    end, 10000)
    ctx.sweep.parts.supervisors.children.supervisors[n:eval("pid_to_list(whereis(stuck_sup)).")
      :match("<[%d.]+>")].retry_ms = nil -- the minute before it is asked again is over
    assert(ctx.sweep:once())
    assert.are.equal(0, assert(d:snapshot(ctx)).supervisors_silent)
  end, 40))
end)

describe("a node that answers with 50 MB", function()
  it("is refused that alone, by name of the bound, and goes on", support.async(function()
    local n = node.start({ name = "sick3" })
    local t, told = targets.attach(n)
    for _, ask in ipairs({
      function()
        return t:call("binary", "copy", { "x", 50 * 1024 * 1024 }, { timeout = "5m" })
      end,
      function()
        return t:eval("binary:copy(<<0>>, N).", { N = 50 * 1024 * 1024 }, { timeout = "5m" })
      end,
      function()
        return t:eval("[binary:copy(<<0>>, N) || _ <- [1, 2, 3, 4, 5]].", { N = 10 * 1024 * 1024 },
          { timeout = "5m" })
      end,
    }) do
      local value, err, code = ask()
      assert.are.same({ nil, "ETOOBIG" }, { value, code })
      assert.matches("16777216 bytes", err)
      assert.are.equal(3, t:eval("1 + 2."))
    end
    assert.are.equal("up", told:kinds())
    assert.are.equal("", n:log())
  end))

  it("to a domain of one's own fails that call alone, and its memory comes back", support.async(
    function()
      local n = node.start({ name = "sick3" })
      local ctx = beam.attach(n)
      local d = assert(domain.new({
        name = "greedy",
        snapshot = function(target)
          return target:eval("#{rows => lists:duplicate(N, <<0:800>>)}.", { N = 500000 })
        end,
        callbacks = { {
          name = "greedy_rows", doc = "All of it.", returns = { list = true },
          run = function(target)
            return target:eval("binary:copy(<<0>>, N).", { N = 50 * 1024 * 1024 })
          end,
        } },
      }))
      local most = "ETOOBIG: .*16777216 bytes"
      local function ask()
        local others = {}
        local big = async.spawn(function()
          return d:invoke(ctx, "greedy_rows", {})
        end)
        for i = 1, 100 do
          others[i] = async.spawn(function()
            return ctx.target:eval("2 * N.", { N = i }, { timeout = "5m" })
          end)
        end
        local _, ok, err = big:join()
        assert.is_nil(ok)
        assert.matches("^greedy_rows: " .. most, err)
        for i, other in ipairs(others) do
          assert.are.equal(2 * i, select(2, other:join()))
        end
        local data, snapshot_err, code = d:snapshot(ctx)
        assert.are.same({ nil, "ETOOBIG" }, { data, code })
        assert.matches(most, snapshot_err)
      end
      ask()
      collectgarbage()
      local before, peak_kb = uv.resident_set_memory(), uv.getrusage().maxrss
      for _ = 1, 4 do
        ask()
      end
      collectgarbage()
      -- Of 400 MB nothing is kept, not even for a moment.
      assert.is_true(uv.resident_set_memory() - before < 16 * 1024 * 1024)
      assert.is_true(uv.getrusage().maxrss - peak_kb < 24 * 1024)
      assert.are.equal("up", ctx.target:status().status)
      assert.are.equal("", n:log())
    end, 60))
end)

describe("a node with kernel and stdlib alone", function()
  -- In embedded mode what is not loaded at boot never will be: no os_mon, no runtime_tools.
  it("has all that the domains need", support.async(function()
    local n = node.start({ name = "sick4", args = { "-mode", "embedded", "-eval",
      "code:load_abs(\"build/nodes/control\")." } })
    local ctx = beam.attach(n, ALL_PARTS)
    assert.are.equal("[kernel,stdlib]",
      n:eval("lists:sort([A || {A, _, _} <- application:which_applications()])."))
    for _, module in ipairs({ "memsup", "cpu_sup", "scheduler", "msacc", "runtime_tools" }) do
      assert.is_false(ctx.target:call("erlang", "module_loaded", { dist.atom(module) }))
    end
    local loaded = n:eval("lists:sort(erlang:loaded()).")
    for _, name in ipairs(DOMAINS) do
      local data, failed = look(beam.domain(name), ctx)
      assert.are.same({}, failed)
      assert.is_true(data.process_count > 20)
    end
    assert.are.same({}, ctx.target:status().info.loaded)
    assert.are.equal(loaded, n:eval("lists:sort(erlang:loaded())."))
    assert.are.equal("", n:log())
  end))
end)
