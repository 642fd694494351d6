-- The parts of the sweep about who waits for whom: monitors and singletons, and the allocators.

local beam = require("support.beam")
local node = require("support.node")
local support = require("support")

local PARTS = { "processes", "monitors", "singletons", "allocators" }

local function start(opts)
  local n = node.start({ name = "waits1" })
  opts = opts or {}
  opts.parts = PARTS
  local ctx = beam.attach(n, opts)
  -- On a busy machine it takes more than half a second to read a process with many monitors.
  local eval = ctx.target.eval
  function ctx.target.eval(target, source, bindings, call_opts)
    if bindings and bindings.Budget and bindings.Patience then
      bindings.Patience, bindings.Budget = 60000, 120000
      call_opts = { timeout_ms = 240000 }
    end
    return eval(target, source, bindings, call_opts)
  end
  return n, ctx
end

local function by_name(rows)
  local found = {}
  for _, row in pairs(rows) do
    found[row.name] = row
  end
  return found
end

-- The rows, by name, of a first pass that has them all: a busy node may answer some of it late.
local function rows_of(ctx, ...)
  local wanted = { ... }
  return support.wait_until(function()
    local pass = assert(ctx.sweep:forget():once())
    local rows = pass.monitors and by_name(pass.monitors.rows) or {}
    for _, name in ipairs(wanted) do
      if not rows[name] then
        return nil
      end
    end
    return rows
  end, nil, table.concat(wanted, ", "))
end

describe("the monitors of a pass", function()
  it("are counted as often as held, and by whom they watch", support.async(function()
    local n, ctx = start()
    n:eval("fl_waits:monitors(one_target, 30000), fl_waits:scope(many_targets, 12000).")
    local rows = rows_of(ctx, "one_target", "many_targets")
    for name, monitored in pairs({ one_target = 1, many_targets = 12000 }) do
      local count = n:number(("length(element(2, process_info(whereis(%s), monitors)))."):format(
        name))
      assert.equal(count, rows[name].monitors)
      assert.equal(monitored, rows[name].monitored)
      assert.is_false(rows[name].is_calling)
    end
    assert.is_nil(rows.init)
    assert.equal("", n:log())
  end))

  it("are bounded where reading them would take too much", support.async(function()
    local n, ctx = start()
    n:eval("fl_waits:monitors(huge, 700000).")
    local row = rows_of(ctx, "huge").huge
    assert.equal(500000, row.monitors)
    assert.is_true(row.is_bound)
    assert.is_nil(row.monitored)
    assert.equal("", n:log())
  end, 40))

  it("of the largest stay known until they are read again", support.async(function()
    local n, ctx = start()
    n:eval("fl_waits:monitors(one_target, 12000).")
    rows_of(ctx, "one_target")
    n:eval("exit(whereis(one_target), kill), timer:sleep(100), "
      .. "fl_waits:monitors(other_target, 12000).")
    local rows = by_name(assert(ctx.sweep:once()).monitors.rows)
    assert.is_truthy(rows.one_target)
    assert.is_nil(rows.other_target)
  end))

  it("tell for whom each of those waits that wait in a call", support.async(function()
    local n, ctx = start({ small = 10 })
    n:eval([[
      fl:procs(200), fl_waits:deadlock([ring_a, ring_b, ring_c]),
      fl_waits:chain([chain_a, chain_b, chain_c]), fl_waits:watching([near_a, near_b, near_c]),
      timer:sleep(300).]])
    local rows = rows_of(ctx, "ring_a", "ring_b", "ring_c", "chain_b", "near_a", "near_b")
    for from, to in pairs({ ring_a = "ring_b", ring_b = "ring_c", ring_c = "ring_a" }) do
      assert.same({ rows[to].pid }, rows[from].waits_for)
      assert.is_true(rows[from].is_calling)
      assert.equal(0, rows[from].may_answer)
    end
    assert.same({}, rows.chain_b.waits_for)
    assert.equal(1, rows.chain_b.may_answer)
    assert.same({ rows.near_a.pid }, rows.near_b.waits_for)
    assert.is_true(rows.near_a.may_answer > 0)
    assert.is_nil(rows.chain_c)
  end))
end)

describe("the singletons of a pass", function()
  it("are as the node sees them", support.async(function()
    local n, ctx = start()
    n:eval("sys:suspend(rex), [rex ! {noise, N} || N <- lists:seq(1, 7)].")
    local found = assert(ctx.sweep:once()).singletons
    assert.equal(0, found.skipped)
    local count = n:number([[length([N || N <- [code_server, application_controller, kernel_sup,
      logger, user, rex, global_name_server, net_kernel, init, erts_code_purger],
      whereis(N) =/= undefined]).]])
    assert.equal(count, found.total)
    assert.equal(7, found.rows.rex.message_queue)
    assert.equal("waiting", found.rows.rex.status)
    assert.matches("^sys:suspend_loop", found.rows.rex.current_function)
    assert.equal(0, found.rows.code_server.message_queue)
    assert.equal(n:eval("pid_to_list(whereis(code_server))."):match("<[%d.]+>"),
      found.rows.code_server.pid)
  end))
end)

describe("the allocators of a pass", function()
  it("hold and use what the node says of them", support.async(function()
    local n, ctx = start()
    n:eval("fl_waits:fragments(60000).")
    local row = assert(ctx.sweep:once()).allocators.rows.binary_alloc
    local carriers, used = n:eval([[
      Infos = [I || {instance, _, Kinds} <- proplists:get_value(binary_alloc,
        erlang:system_info({allocator_sizes, [binary_alloc]})), {K, I} <- Kinds, K =/= sbcs],
      {lists:sum([element(2, lists:keyfind(carriers_size, 1, I)) || I <- Infos]) div 1024,
       lists:sum([element(2, S) || I <- Infos, {blocks, L} <- I, {_, T} <- L, S <- T,
         element(1, S) =:= size]) div 1024}.
    ]]):match("{(%d+),(%d+)}")
    assert.is_true(math.abs(row.carriers_kb - carriers) < 512, row.carriers_kb .. " " .. carriers)
    assert.is_true(math.abs(row.used_kb - used) < 512, row.used_kb .. " " .. used)
    -- Some 60 MB were in use, and a fortieth of that is.
    assert.is_true(row.carriers_kb > 40 * 1024 and row.used_kb < 0.2 * row.carriers_kb)
  end))
end)
