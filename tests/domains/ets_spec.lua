local beam = require("support.beam")
local json = require("runtime.json")
local node = require("support.node")
local support = require("support")

local function start(opts)
  opts = opts or {}
  opts.name = "ets1"
  local n = node.start(opts)
  local ctx = beam.attach(n, { parts = { "tables" } })
  local d = beam.domain("ets")
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

local function find(rows, key, value)
  for _, row in ipairs(rows) do
    if row[key] == value then
      return row
    end
  end
  error(("nothing whose %s is %s among %s"):format(key, value, json.encode(rows)), 2)
end

for kind, opts in pairs({ Erlang = {}, Elixir = { elixir = true } }) do
  describe(("the ets domain on an %s node"):format(kind), function()
    local function fresh()
      return start({ elixir = opts.elixir })
    end

    it("counts tables and their memory as the node does", support.async(function()
      local n, _, _, ctx = fresh()
      n:eval("fl_ets:burst(few, 30), fl_ets:unnamed(large, 100000, undefined).")
      assert(ctx.sweep:once())
      local d, data = beam.whole_snapshot("ets", ctx, "memory_basis")
      near(n:number("length(ets:all())."), data.table_count, 1, "table_count")
      near(n:number("erlang:memory(ets) / 1048576."), data.total_memory_mb, 0.1, "total_memory_mb")
      near(n:number("lists:max([ets:info(T, memory) || T <- ets:all()]) * 8 / 1048576."),
        data.largest_table_mb, 0.01, "largest_table_mb")
      assert.is_true(data.largest_table_mb > 5)
      assert.are.equal(n:number("erlang:system_info(ets_limit)."), data.table_limit)
      near(n:number("erlang:memory(code) / 1048576."), data.memory_code_mb, 0.5, "code")
      near(n:number("erlang:system_info(process_count)."), data.process_count, 3, "processes")
      assert.are.equal("rss", data.memory_basis)
      local documented = {}
      for _, metric in ipairs(d.metrics) do
        documented[metric.name] = true
        assert.is_not_nil(data[metric.name], metric.name)
      end
      for key in pairs(data) do
        assert.is_true(documented[key], key)
      end
    end))

    it("lists every table with its size and memory", support.async(function()
      local n, get, d = fresh()
      n:eval("fl_ets:unnamed(cache, 5000, cache_owner), fl_ets:burst(few, 3).")
      local rows, meta = get("ets_list_tables")
      local own = "\n" .. n:bytes("fl_ets:own_list().") .. "\n"
      local alike = 0
      for _, listed in ipairs(rows) do
        local line = ("\n%s %d %d\n"):format(listed.id, listed.size,
          math.floor(listed.memory_kb + 0.5))
        alike = alike + (own:find(line, 1, true) and 1 or 0)
      end
      -- What logs meanwhile changes a figure of its own.
      assert.is_true(alike >= #rows - 3, ("%d of %d are as the node says"):format(alike, #rows))
      assert.are.equal(select(2, own:gsub("\n", "")) - 1, #rows)
      assert.are.same({ #rows, #rows, 0 }, { meta.total, meta.returned, meta.skipped })
      local row = find(rows, "owner_name", "cache_owner")
      assert.are.same({ "cache", 5000, "set", "public", false },
        { row.name, row.size, row.type, row.protection, row.compressed })
      assert.matches("^#Ref<", row.id)
      assert.is_truthy(own:find(("\n%s 5000 "):format(row.id), 1, true), row.id)
      for i = 2, #rows do
        assert.is_true(rows[i - 1].memory_kb >= rows[i].memory_kb)
      end
      for _, callback in ipairs(d:callbacks()) do
        if callback.name == "ets_list_tables" then
          beam.check_returns(callback, rows)
        end
      end
    end))

    it("tells of one table by its name or its id", support.async(function()
      local n, get = fresh()
      local id = n:bytes("fl_ets:unnamed('Elixir.Shop.Cache', 700, shop_cache).")
      n:eval([==[
        fl_ets:keep(fun() ->
          ets:new('Elixir.Shop.Orders', [named_table, ordered_set, protected, compressed,
            {read_concurrency, true}, {keypos, 2}]),
          ets:insert('Elixir.Shop.Orders', [{x, N} || N <- lists:seq(1, 1000)])
        end).]==])
      local info = get("ets_table_info", "Shop.Orders")
      assert.are.same({ "Shop.Orders", "Shop.Orders", "ordered_set", "protected", 1000, true, true,
        false, 2 }, { info.name, info.id, info.type, info.protection, info.size, info.compressed,
        info.read_concurrency, info.write_concurrency, info.keypos })
      local own = n:eval("fl_ets:own_info('Elixir.Shop.Orders').")
      local size, bytes, owner = own:match('^{(%d+),(%d+),"(.-)"}$')
      assert.are.same({ info.size, info.memory_kb, info.owner_pid }, { tonumber(size),
        math.floor(bytes / 1024 + 0.5), owner })
      assert.are.same(info, get("ets_table_info", "Elixir.Shop.Orders"))
      assert.are.equal(700, get("ets_table_info", id).size)
      assert.are.equal(id, get("ets_table_info", "Shop.Cache").id)
      assert.are.same({ error = "table_not_found", table_name = "none_of_them" },
        get("ets_table_info", "none_of_them"))
      assert.are.equal("table_not_found", get("ets_table_info", "#Ref<0.1.2.3>").error)
      n:eval("exit(whereis(shop_cache), kill), timer:sleep(50).")
      assert.are.equal("table_not_found", get("ets_table_info", id).error)
    end))

    it("ranks tables by memory and by size", support.async(function()
      local n, get = fresh()
      n:eval([==[
        fl_ets:unnamed(many_small, 50000, small_owner),
        fl_ets:keep(fun() ->
          T = ets:new(few_large, [public]),
          ets:insert(T, [{N, lists:seq(1, 20000)} || N <- lists:seq(1, 30)])
        end).]==])
      local rows, meta = get("ets_top_tables", 2)
      assert.are.equal(2, #rows)
      assert.are.same({ "few_large", "many_small" }, { rows[1].name, rows[2].name })
      for _, row in ipairs(rows) do
        local own = n:bytes(("fl_ets:own_row(%q)."):format(row.id))
        assert.are.equal(own, ("%s %s %s %s %d %d %s %s"):format(row.id, row.name, row.type,
          row.protection, row.size, row.memory_kb, row.owner, row.compressed))
      end
      assert.matches("^20..%-", meta.sampled_at)
      assert.are.equal("many_small", get("ets_top_tables", 1, "size")[1].name)
      assert.are.equal("small_owner", get("ets_top_tables", 1, "size")[1].owner_name)
    end))
  end)
end

describe("the ets domain", function()
  it("takes names of any characters, and adds no atom for those that are not there",
    support.async(function()
      local n, get = start()
      n:eval([==[
        [fl_ets:keep(fun() -> ets:new(Name, [named_table]) end)
          || Name <- [list_to_atom([252, 8364]), list_to_atom(lists:duplicate(255, $x)),
            list_to_atom("a\nb")]].]==])
      assert.are.equal("ü€", get("ets_table_info", "ü€").name)
      assert.are.equal(200, #get("ets_table_info", ("x"):rep(255)).name)
      find(get("ets_list_tables"), "name", "a?b")
      get("ets_table_info", "warm_up")
      local before = n:number("erlang:system_info(atom_count).")
      for i = 1, 1000 do
        assert.are.equal("table_not_found", get("ets_table_info", "invented_" .. i).error)
      end
      assert.are.equal(before, n:number("erlang:system_info(atom_count)."))
      assert.are.equal("", n:log())
    end))

  it("looks at 10 000 tables while tables come and go", support.async(function()
    local n, get, _, ctx = start()
    n:eval([==[
      fl_ets:burst(leaked, 10000),
      [spawn(fun Churn() -> T = ets:new(churn, []), timer:sleep(1), ets:delete(T), Churn() end)
        || _ <- lists:seq(1, 50)].]==])
    local found = assert(ctx.sweep:part("tables", 15000))
    assert.is_true(found.total >= 10000)
    -- Of the 50 some may be gone before they are asked what they are.
    assert.is_true(#found.top.memory > 0 and #found.top.memory <= 50)
    -- A busy machine may not get to all of them: then it says to how many.
    assert.are.equal("leaked", found.groups[1].name)
    assert.is_true(found.groups[1].count + found.skipped >= 10000, found.skipped)
    assert.is_true(found.groups[1].count == 10000 or found.skipped > 0)
    local rows, meta = get("ets_list_tables")
    assert.are.equal(#rows, meta.returned)
    assert.is_true(#rows >= 500 - 50 and #rows <= 500, #rows)
    assert.is_true(meta.total >= 10000)
  end, 40))

  it("names the owner of an unnamed table by what it is", support.async(function()
    local n, _, _, ctx = start()
    n:eval([==[
      proc_lib:spawn(fun() -> put('$process_label', {importer, 7}), ets:new(labelled, []),
        receive never -> ok end end),
      fl_ets:unnamed(plain, 1, undefined), timer:sleep(100).]==])
    local found = assert(ctx.sweep:part("tables", 10000))
    local subjects = {}
    for _, row in pairs(found.rows) do
      subjects[row.name] = row.subject
    end
    assert.are.equal("labelled of {importer,7}", subjects.labelled)
    assert.are.equal("plain of erlang:apply/2", subjects.plain)
    assert.are.equal("ac_tab", subjects.ac_tab)
  end, 90))

  it("refuses wrong arguments with what is allowed", support.async(function()
    local _, _, d, ctx = start()
    for _, case in ipairs({
      { "ets_top_tables", { 51 }, "argument 1 %(limit%) is 51, a number; allowed: a whole number "
        .. "from 1 to 50" },
      { "ets_top_tables", { 5, "rows" }, 'is "rows", a string; allowed: one of "memory", "size"' },
      { "ets_table_info", {}, "argument 1 %(table_name%) is missing; allowed: text" },
      { "ets_table_info", { 7 }, "is 7, a number" },
    }) do
      local ok, err = d:invoke(ctx, case[1], case[2])
      assert.is_nil(ok)
      assert.matches(case[3], err)
    end
  end))
end)
