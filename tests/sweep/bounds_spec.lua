-- What a pass of the sweep may take of a node: memory, time, and how often.

local beam = require("support.beam")
local node = require("support.node")
local support = require("support")
local sweep = require("runtime.sweep")

local MIB = 1024 * 1024

local function crowded()
  local n = node.start({ name = "bounds1" })
  n:eval("fl:procs(6000), fl_ets:burst(few, 3000), fl:ports(200), fl_sup:dynamic(pool, 300).")
  return n
end

describe("a pass of the sweep", function()
  it("whose time is over is cut short, and says what it skipped in every part", support.async(
    function()
      local n = crowded()
      local ctx = beam.attach(n, { parts = sweep.PARTS, gap_ms = 50, small = 10, small_node = 10,
        budget_ms = 0, supervisors_ms = 0, tables_ms = 0, ports_ms = 0 })
      local pass = assert(ctx.sweep:once())
      assert.are.same({}, pass.errors)
      assert.is_true(pass.processes.total > 6000 and pass.processes.skipped > 6000)
      assert.is_true(pass.tables.total > 3000 and pass.tables.skipped > 3000)
      assert.is_true(pass.ports.total > 200 and pass.ports.skipped > 200)
      assert.is_true(pass.supervisors.is_cut and pass.supervisors.skipped > 0)
      for name, key in pairs({ beam = "beam_top_processes", gc = "gc_top_processes",
        ets = "ets_top_tables", ports = "ports_top", sup = "sup_list" }) do
        local _, value, meta = assert(beam.domain(name):invoke(ctx, key, {}))
        assert.is_true((value.skipped or meta.skipped) > 0, key)
      end

      -- The next one has time again.
      local whole = beam.attach(n, { parts = sweep.PARTS, gap_ms = 50 })
      pass = assert(whole.sweep:once())
      for _, part in ipairs(sweep.PARTS) do
        assert.are.equal(0, pass[part].skipped, part)
      end
      assert.are.equal("", n:log())
    end, 40))

  it("takes little memory on the node, and has a bound that the node keeps", support.async(
    function()
      local n = crowded()
      n:eval("fl:procs(40000).")
      local ctx = beam.attach(n, { parts = sweep.PARTS, gap_ms = 50 })
      assert(ctx.sweep:once())
      n:eval([[
        register(gauge, spawn_opt(fun() ->
          (fun Loop(Max) ->
            receive {read, From} -> From ! Max
            after 1 -> Loop(max(Max, erlang:memory(processes))) end
          end)(0)
        end, [{priority, high}])), garbage_collect(), ok.]])
      local before = n:number("erlang:memory(processes).")
      local pass = assert(ctx.sweep:once())
      assert.is_true(pass.processes.total > 46000)
      local grown = n:number("gauge ! {read, self()}, receive Max -> Max end.") - before
      assert.is_true(grown < 48 * MIB, grown / MIB)

      -- With a bound that is too narrow each part fails alone, and the node says nothing of it.
      -- The others look at a few processes only.
      for _, name in ipairs({ "processes", "supervisors", "tables", "ports" }) do
        local asked
        local narrow = setmetatable({
          eval = function(_, source, bindings, opts)
            asked = opts.max_heap_words
            return ctx.target:eval(source, bindings, { timeout_ms = opts.timeout_ms,
              max_heap_words = name == "ports" and 500 or 3000 })
          end,
        }, { __index = ctx.target })
        local result, _, code = ctx.sweep.parts[name]:run(narrow)
        assert.are.same({ nil, "EHEAP" }, { result, code }, name)
        assert.is_true(asked <= 16 * MIB, name)
      end
      assert.are.equal("", n:log())
    end, 40))

  it("comes a hundred times its work after the one before", support.async(function()
    local n = node.start({ name = "bounds1" })
    n:eval("fl_ets:burst(few, 100).")
    local ctx = beam.attach(n, { gap_ms = 5, min_interval_ms = 1, parts = { "tables" } })
    ctx.sweep:start()
    local first = assert(ctx.sweep:wait(support.patience_ms()))
    local second = support.wait_until(function()
      return ctx.sweep:latest() ~= first and ctx.sweep:latest()
    end, 30000)
    ctx.sweep:stop()
    -- Of the work 100 ms count, and 10 µs for each table: more it is only where a node is busy.
    local cost_ms = math.min(first.work_ms, 100 + 0.01 * first.tables.total)
    assert.is_true(cost_ms >= 1)
    assert.is_true(second.mono_ms - first.mono_ms >= 100 * cost_ms - first.work_ms,
      second.mono_ms - first.mono_ms)
  end, 60))
end)
