local beam = require("support.beam")
local node = require("support.node")
local support = require("support")

local function start(opts)
  opts = opts or {}
  opts.name = "gc1"
  local n = node.start(opts)
  local ctx = beam.attach(n, { gap_ms = 100 })
  local d = beam.domain("gc")
  local function get(name, ...)
    local ok, value, meta = d:invoke(ctx, name, { ... })
    assert(ok, value)
    return value, meta
  end
  return n, get, d, ctx
end

local function near(expected, value, slack, what)
  assert.is_true(math.abs(expected - value) <= slack,
    ("%s: %s, the node says %s"):format(what, value, expected))
end

for kind, opts in pairs({ Erlang = {}, Elixir = { elixir = true } }) do
  describe(("the gc domain on an %s node"):format(kind), function()
    it("counts collections as the node does", support.async(function()
      local n, get, d, ctx = start({ elixir = opts.elixir })
      n:eval("[fl_ets:heap(list_to_atom(\"h\" ++ integer_to_list(N)), 50000) || N <- [1, 2, 3]].")
      assert(ctx.sweep:once())
      local data = assert(d:snapshot(ctx))
      local stats = get("gc_stats")
      local count = n:number("element(1, erlang:statistics(garbage_collection)).")
      local words = n:number("element(2, erlang:statistics(garbage_collection)).")
      assert.is_true(data.total_gcs <= stats.total_gcs and stats.total_gcs <= count)
      near(count, data.total_gcs, 300, "total_gcs")
      near(words, stats.words_reclaimed, 0.1 * words, "words_reclaimed")
      near(stats.words_reclaimed * 8 / 1048576, stats.bytes_reclaimed_mb, 0.006,
        "bytes_reclaimed_mb")
      local largest = n:number([==[lists:max([S || P <- processes() -- [self()],
        {_, S} <- [process_info(P, total_heap_size)]]) * 8 / 1048576.]==])
      near(largest, data.largest_heap_mb, 0.3 * largest, "largest_heap_mb")
      local documented = {}
      for _, metric in ipairs(d.metrics) do
        documented[metric.name] = true
        assert.is_not_nil(data[metric.name], metric.name)
      end
      for key in pairs(data) do
        assert.is_true(documented[key], key)
      end
    end))

    it("ranks processes by their heaps", support.async(function()
      local n, get, d, ctx = start({ elixir = opts.elixir })
      n:eval([==[
        fl_ets:heap(largest, 3000000), fl_ets:heap('Elixir.Shop.Routes', 400000),
        fl_ets:held(holder, 2000).]==])
      assert(ctx.sweep:once())
      local rows, meta = get("gc_top_processes", 3)
      assert.are.equal("largest", rows[1].name)
      assert.are.same({ 3, 0 }, { meta.returned, meta.skipped })
      for i = 2, 3 do
        assert.is_true(rows[i - 1].total_heap_size_kb >= rows[i].total_heap_size_kb)
      end
      n:eval("[holder ! N || N <- lists:seq(1, 7)].")
      assert(ctx.sweep:once())
      local compared = 0
      for _, row in ipairs(get("gc_top_processes", 50)) do
        local name = ({ largest = "largest", ["Shop.Routes"] = "'Elixir.Shop.Routes'",
          holder = "holder" })[row.name]
        if name then
          local heap, total, minor, full, binary = n:eval(("fl_ets:own_heap(%s)."):format(name))
            :match("{(%d+),(%d+),(%d+),(%d+),(%d+)}")
          local function kib(bytes)
            return math.floor(bytes / 1024 + 0.5)
          end
          assert.are.same({ kib(heap), kib(total), tonumber(minor), tonumber(full), kib(binary) },
            { row.heap_size_kb, row.total_heap_size_kb, row.minor_gcs, row.fullsweep_after,
              row.binary_kb }, row.name)
          assert.are.equal(n:bytes(("pid_to_list(whereis(%s))."):format(name)), row.pid)
          assert.are.equal(n:number(("element(2, process_info(whereis(%s), message_queue_len)).")
            :format(name)), row.message_queue_len)
          compared = compared + 1
        end
      end
      assert.are.equal(3, compared)
      for _, callback in ipairs(d:callbacks()) do
        if callback.name:find("^gc_") then
          beam.check_returns(callback, (get(callback.name)))
        end
      end
    end))
  end)
end

describe("the gc domain", function()
  it("finds who holds binaries although its own memory is small", support.async(function()
    local n, _, _, ctx = start()
    n:eval("[fl_ets:heap(list_to_atom(\"h\" ++ integer_to_list(N)), 100000)"
      .. " || N <- lists:seq(1, 60)], fl_ets:held(holder, 2000).")
    local found = assert(ctx.sweep:part("processes", 10000))
    local row = found.rows[found.top.binary[1]]
    assert.are.equal("holder", row.name)
    -- 2 000 binaries of 65 536 bytes, and the odd word.
    near(131072000 / 1024, row.binary_kb, 16, "binary_kb")
    assert.is_true(row.memory_kb < 1024)
  end))

  it("refuses wrong arguments with what is allowed", support.async(function()
    local _, _, d, ctx = start()
    local ok, err = d:invoke(ctx, "gc_top_processes", { "all" })
    assert.is_nil(ok)
    assert.matches('argument 1 %(limit%) is "all", a string; allowed: a whole number from 1 to 50',
      err)
    ok, err = d:invoke(ctx, "gc_stats", { 1 })
    assert.is_nil(ok)
    assert.matches("argument 1 is one too many; allowed: none", err)
  end))
end)
