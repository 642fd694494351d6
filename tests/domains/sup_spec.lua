local beam = require("support.beam")
local executor = require("runtime.executor")
local json = require("runtime.json")
local node = require("support.node")
local sandbox = require("runtime.sandbox")
local support = require("support")
local telemetry = require("runtime.telemetry")

local function start(opts, sweep_opts)
  opts = opts or {}
  opts.name = "sup1"
  local n = node.start(opts)
  sweep_opts = sweep_opts or {}
  sweep_opts.parts = { "supervisors" }
  local ctx = beam.attach(n, sweep_opts)
  local d = beam.domain("sup")
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
  error(("nobody whose %s is %s among %s"):format(key, value, json.encode(rows)), 2)
end

local function pid_of(n, source)
  return n:eval(("pid_to_list(%s)."):format(source)):match("<[%d.]+>")
end

-- What the node's own supervisor:which_children says: "Id Pid type" of each, sorted.
local function own_children(n, sup)
  local text = n:bytes(([==[
    lists:join("\n", lists:sort([io_lib:format("~0tp ~0tp ~0tp", [Id, P, T])
      || {Id, P, T, _} <- supervisor:which_children(%s)])).]==]):format(sup))
  return text
end

local function as_lines(rows)
  local lines = {}
  for i, row in ipairs(rows) do
    lines[i] = ("%s %s %s"):format(row.id, row.pid, row.type)
  end
  table.sort(lines)
  return table.concat(lines, "\n")
end

-- "pid:child_count:active_children" of all, sorted; once as the node counts, once as sup_list does.
local function own_counts(n)
  return n:bytes([==[
    lists:join(" ", lists:sort([begin {C, A} = fl_sup:counts(P),
      io_lib:format("~p:~p:~p", [P, C, A]) end || P <- fl_sup:supervisors()])).]==])
end

local function listed_counts(rows)
  local parts = {}
  for i, row in ipairs(rows) do
    parts[i] = ("%s:%d:%d"):format(row.pid, row.child_count, row.active_children)
  end
  table.sort(parts)
  return table.concat(parts, " ")
end

describe("the sup domain", function()
  it("has null for what no pass has found yet, and then what the node itself finds",
    support.async(function()
      local n, _, d, ctx = start()
      n:eval([[
        fl_sup:start(shop_sup, [{a, worker}, {b, {sup, sub_sup, [{c, worker}]}}]),
        fl_sup:dynamic(pool, 40).]])
      local data = assert(d:snapshot(ctx))
      assert.are.equal(json.null, data.supervisor_count)
      assert.are.equal(json.null, data.total_children)
      assert(ctx.sweep:once())
      data = assert(d:snapshot(ctx))
      assert.are.equal(n:number("length(fl_sup:supervisors())."), data.supervisor_count)
      assert.are.equal(n:number("lists:sum([element(2, fl_sup:counts(P)) "
        .. "|| P <- fl_sup:supervisors()])."), data.total_children)
      assert.are.equal(0, data.supervisors_skipped)
      for _, key in ipairs({ "process_count", "process_limit", "port_count" }) do
        local own = n:number(("erlang:system_info(%s)."):format(key))
        assert.is_true(math.abs(own - data[key]) <= 2, key)
      end
      local code = n:number("erlang:memory(code) / 1048576.")
      assert.is_true(math.abs(code - data.memory_code_mb) < 1, data.memory_code_mb)
      local uptime = n:number("element(1, erlang:statistics(wall_clock)) / 1000.")
      assert.is_true(math.abs(uptime - data.uptime_s) < 60)
      local mono = n:number("erlang:monotonic_time(millisecond).")
      assert.is_true(mono - data.mono_ms >= 0 and mono - data.mono_ms < 60000)
    end))

  it("documents each metric and each key of its callbacks", support.async(function()
    local n, get, d, ctx = start()
    n:eval("fl_sup:start(shop_sup, [{a, worker}, {b, {sup, sub_sup, [{c, worker}]}}]).")
    local data = assert(d:snapshot(ctx))
    local documented = {}
    for _, metric in ipairs(d.metrics) do
      documented[metric.name] = true
      assert.is_not_nil(data[metric.name], metric.name)
    end
    for key in pairs(data) do
      assert.is_true(documented[key], key)
    end
    local args = { sup_children = "shop_sup", sup_tree = "shop_sup", sleep = 1 }
    for _, callback in ipairs(d:callbacks()) do
      beam.check_returns(callback, (get(callback.name, args[callback.name])))
    end
    beam.check_returns(d.by_name.sup_tree, (get("sup_tree", "nobody")))
  end))

  it("lists the supervisors, as the node counts their children", support.async(function()
    local n, get = start()
    n:eval([[
      fl_sup:start(shop_sup, [{a, worker}, {b, {sup, sub_sup, [{c, worker}, {d, worker}]}},
        {e, {sup, [{f, trapper}]}}, {g, liar}]),
      fl_sup:dynamic(pool, 40), fl_sup:app(fl_shop, [{x, {sup, [{y, worker}]}}]),
      ok = supervisor:terminate_child(shop_sup, a),
      fl_sup:start(none, [{h, worker}]), fl_sup:start({global, {<<"far">>, 1}}, [{i, worker}]).]])
    local rows, meta = get("sup_list")
    assert.are.equal(own_counts(n), listed_counts(rows))
    assert.are.same({ #rows, #rows, 0, 0, false },
      { meta.total, meta.returned, meta.skipped, meta.partial, meta.truncated })
    local shop = find(rows, "name", "shop_sup")
    assert.are.same({ pid_of(n, "whereis(shop_sup)"), 4, 3, true, json.null, "supervisor" },
      { shop.pid, shop.child_count, shop.active_children, shop.registered, shop.application,
        shop.counted_by })
    assert.are.equal("fl_shop", find(rows, "name", "fl_shop_sup").application)
    local unnamed = find(rows, "pid", pid_of(n, [[element(2,
      lists:keyfind(x, 1, supervisor:which_children(fl_shop_sup)))]]))
    assert.are.same({ "supervisor:fl_sup/1", false, "fl_shop" },
      { unnamed.name, unnamed.registered, unnamed.application })
    assert.are.equal("kernel", find(rows, "name", "kernel_sup").application)
  end))

  it("knows RabbitMQ's own kind of supervisor", support.async(function()
    local n, get, _, ctx = start()
    n:eval([=[
      fl_sup:start(shop_sup, [#{id => inner, type => supervisor,
        start => {supervisor2, start_link, [rabbit_like_sup, [a, b, c]]}}]).]=])
    local pid = pid_of(n, "whereis(rabbit_like_sup)")
    for _ = 1, 2 do
      assert(ctx.sweep:once())
      local row = find(get("sup_list"), "name", "rabbit_like_sup")
      assert.are.same({ pid, 3, 3, "supervisor" },
        { row.pid, row.child_count, row.active_children, row.counted_by })
    end
    assert.are.equal("a", get("sup_children", "rabbit_like_sup")[1].id)
    assert.are.equal(3, #find(get("sup_tree", "shop_sup").children, "id", "inner").children)
    assert.are.equal("", n:log())
  end))

  it("names children by their ids, whatever terms these are", support.async(function()
    local n, get = start()
    n:eval([[
      Ids = [plain, 'Elixir.Shop.Cache', <<"a binary">>, {'Elixir.Shop.Cart', 7}, "text", 42,
        <<195, 188, 226, 130, 172>>, <<255, 254>>, list_to_atom([252, 10, 8364]),
        binary:copy(<<"x">>, 1000000), {big, binary:copy(<<"y">>, 1000000)}, #{a => 1}],
      fl_sup:start(shop_sup, [{Id, worker} || Id <- Ids]).]])
    local rows, meta = get("sup_children", "shop_sup")
    assert.are.equal(12, meta.total)
    assert.is_false(meta.partial)
    for _, id in ipairs({ "plain", "Shop.Cache", "a binary", "{Shop.Cart,7}", '"text"', "42", "ü€",
      "\239\191\189\239\191\189", "ü?€", "#{a => 1}" }) do
      assert.are.equal("worker", find(rows, "id", id).type)
    end
    for _, row in ipairs(rows) do
      assert.is_true(#row.id <= 200, #row.id)
      assert.matches("^<0%.%d+%.%d+>$", row.pid)
    end
    assert(json.encode_strict(rows))
  end))

  it("gives children as which_children does, the stopped ones too", support.async(function()
    local n, get = start()
    n:eval([[
      fl_sup:start(shop_sup, [{a, worker}, {b, {sup, sub_sup, []}}, {c, worker}]),
      ok = supervisor:terminate_child(shop_sup, c), fl_sup:dynamic(pool, 40).]])
    local rows, meta = get("sup_children", "shop_sup")
    assert.are.equal(own_children(n, "shop_sup"), as_lines(rows))
    assert.are.equal("undefined", find(rows, "id", "c").pid)
    assert.are.same({ 3, 3, 0, false, false },
      { meta.total, meta.returned, meta.skipped, meta.truncated, meta.partial })
    rows = get("sup_children", "pool")
    assert.are.equal(40, #rows)
    assert.are.equal(json.null, rows[1].id)
    assert.are.equal(own_children(n, "kernel_sup"), as_lines((get("sup_children", "kernel_sup"))))
  end))

  it("finds a supervisor by its name, its pid, or as sup_list prints it", support.async(function()
    local n, get = start()
    n:eval([[
      fl_sup:start('Elixir.Shop.Sup', [{a, worker}]), fl_sup:start(list_to_atom([252, 10, 8364]),
      [{b, worker}]), fl_sup:app(fl_shop, [{x, {sup, [{y, worker}]}}]).]])
    for name, id in pairs({ ["Shop.Sup"] = "a", ["Elixir.Shop.Sup"] = "a", ["ü\n€"] = "b",
      ["ü?€"] = "b", ["supervisor:fl_sup/1"] = "y",
      [pid_of(n, "whereis('Elixir.Shop.Sup')")] = "a" }) do
      local rows = get("sup_children", name)
      assert.are.equal(id, rows[1] and rows[1].id, name)
      assert.are.equal(id, get("sup_tree", name).children[1].id, name)
    end
  end))

  it("knows nobody who is no supervisor, and calls nobody else", support.async(function()
    local n, get = start()
    n:eval([[
      fl_sup:start(shop_sup, [{a, trapper}, {b, liar}]),
      register(trapper, element(2, lists:keyfind(a, 1, supervisor:which_children(shop_sup)))).]])
    local before = n:eval("fl_sup:children(shop_sup).")
    local trapper = pid_of(n, "whereis(trapper)")
    for _, name in ipairs({ "trapper", trapper, "init", "nobody", "", "<0.999999.0>", "<0.1",
      "a b", "<0.99999999999999999999.0>", "code_server", "error_logger", ("x"):rep(1024), "ü",
      "\255" }) do
      assert.are.equal("supervisor_not_found", get("sup_children", name).error, name)
      assert.are.equal("supervisor_not_found", get("sup_tree", name).error, name)
    end
    -- b says that it is a supervisor.
    assert.is_nil(find(get("sup_tree", "shop_sup").children, "id", "b").children)
    n:eval("exit(whereis(shop_sup), kill), timer:sleep(50).")
    assert.are.equal("supervisor_not_found", get("sup_children", "shop_sup").error)
    assert.is_truthy(before:find(trapper, 1, true))
    assert.are.equal("", n:log())
  end))

  it("refuses wrong arguments with what is allowed", support.async(function()
    local _, _, d, ctx = start()
    local allowed = "; allowed: text of at most 1024 bytes"
    for _, name in ipairs({ "sup_children", "sup_tree" }) do
      local cases = {
        { {}, ": argument 1 (supervisor_name) is missing" .. allowed },
        { { 5 }, ": argument 1 (supervisor_name) is 5, a number" .. allowed },
        { { true }, ": argument 1 (supervisor_name) is true, a boolean" .. allowed },
        { { {} }, ": argument 1 (supervisor_name) is missing" .. allowed },
        { { "a", 1 }, ": argument 2 is one too many; allowed: at most 1" },
        { { ("x"):rep(2 ^ 20) }, (": argument 1 (supervisor_name) is %q, a string%s"):format(
          ("x"):rep(60) .. "…", allowed) },
      }
      for _, case in ipairs(cases) do
        local ok, err = d:invoke(ctx, name, case[1])
        assert.is_nil(ok)
        assert.are.equal(name .. case[2], err)
      end
    end
    assert.are.equal("sup_list: argument 1 is one too many; allowed: none",
      select(2, d:invoke(ctx, "sup_list", { 1 })))
  end))

  it("shows a tree to depth 5, and says where it is cut", support.async(function()
    local n, get = start()
    n:eval([[
      Deep = lists:foldl(fun(N, Below) -> [{N, {sup, Below}}, {{w, N}, worker}] end,
        [{leaf, worker}], lists:seq(1, 7)),
      fl_sup:start(deep_sup, Deep), fl_sup:dynamic(pool, 130).]])
    local tree = get("sup_tree", "deep_sup")
    assert.are.same({ "deep_sup", pid_of(n, "whereis(deep_sup)"), 2 },
      { tree.name, tree.pid, tree.child_count })
    local at, depth = tree, 0
    while at.children[1] do
      assert.is_nil(at.truncated)
      at, depth = find(at.children, "type", "supervisor"), depth + 1
    end
    assert.are.same({ 5, true, 2 }, { depth, at.truncated, at.child_count })
    assert.are.equal("supervisor:fl_sup/1", at.name)
    local pool = get("sup_tree", "pool")
    assert.are.same({ 130, 100, true }, { pool.child_count, #pool.children, pool.truncated })
  end))

  it("is not held up by many children: links say how many", support.async(function()
    local n, get, d, ctx = start()
    n:eval("fl_sup:dynamic(many_sup, 20000), fl_sup:dynamic(too_many_sup, 30000).")
    local rows, meta = get("sup_list")
    local many = find(rows, "name", "too_many_sup")
    assert.are.same({ 30000, 30000, "links" },
      { many.child_count, many.active_children, many.counted_by })
    assert.are.equal(2, meta.partial)
    rows, meta = get("sup_children", "many_sup")
    assert.are.same({ 500, 20000, 19500, true, false },
      { #rows, meta.total, meta.skipped, meta.truncated, meta.partial })
    rows, meta = get("sup_children", "too_many_sup")
    assert.are.same({ 500, 30000, 29500, true, true },
      { #rows, meta.total, meta.skipped, meta.truncated, meta.partial })
    assert.are.equal("worker", rows[1].type)
    local tree = get("sup_tree", "too_many_sup")
    assert.are.same({ 30000, 100, true, true },
      { tree.child_count, #tree.children, tree.truncated, tree.partial })
    assert.is_true(assert(d:snapshot(ctx)).total_children >= 50000)
  end, 40))

  it("does not wait for a supervisor that is stuck in a child's init", support.async(function()
    local n, get, d, ctx = start()
    n:eval("fl_sup:start(stuck_sup, [{a, worker}, {b, worker}]), fl_sup:start(other_sup, []).")
    assert(ctx.sweep:once())
    n:eval("fl_sup:slow_child(stuck_sup, 3600000).")
    assert(d:snapshot(ctx))
    assert(ctx.sweep:once())
    local rows, meta = get("sup_list")
    local stuck = find(rows, "name", "stuck_sup")
    assert.are.same({ 2, 2, "links", 1 },
      { stuck.child_count, stuck.active_children, stuck.counted_by, meta.partial })
    rows, meta = get("sup_children", "stuck_sup")
    assert.are.same({ 2, 2, true }, { #rows, meta.total, meta.partial })
    assert.are.equal(json.null, rows[1].id)
    local tree = get("sup_tree", "stuck_sup")
    assert.are.same({ "stuck_sup", 2, true }, { tree.name, tree.child_count, tree.partial })
  end))

  it("lets no atom grow on the node once it knows it", support.async(function()
    local n, get, d, ctx = start()
    n:eval("fl_sup:start(shop_sup, [{a, worker}, {b, {sup, sub_sup, [{c, worker}]}}]).")
    local invented = 0
    local function round()
      assert(d:snapshot(ctx))
      assert(ctx.sweep:once())
      get("sup_list")
      invented = invented + 1
      for _, name in ipairs({ "shop_sup", "nobody_" .. invented, "Elixir.Nobody" .. invented,
        "<0." .. 5000 + invented .. ".0>", "supervisor:nobody" .. invented .. "/1" }) do
        get("sup_children", name)
        get("sup_tree", name)
      end
    end
    round()
    n:number("erlang:system_info(atom_count).")
    local before = n:number("erlang:system_info(atom_count).")
    for _ = 1, 3 do
      round()
    end
    assert.are.equal(before, n:number("erlang:system_info(atom_count)."))
    assert.are.equal("", n:log())
  end))

  it("has rules whose investigations answer in little", support.async(function()
    local n, _, d, ctx = start()
    n:eval("fl_sup:start(shop_sup, [{a, worker}, {b, worker}]), fl_sup:dynamic(pool, 300), "
      .. "fl_sup:storm(storm_sup, 20).")
    local box = sandbox.new({ pool = 1 })
    support.on_cleanup(function()
      box:close()
    end)
    local e = executor.new({ sandbox = box, domain = d, ctx = ctx, telemetry = telemetry.new(),
      clock = ctx.clock, meta = { watcher = "sup", domain = "sup", node = ctx.node } })
    for _, rule in ipairs(d.rules) do
      local record = e:run(rule.investigate, { source = "rule", args = {
        subject = "storm_sup: stormy", pid = pid_of(n, "whereis(storm_sup)") } })
      assert.is_nil(record.error, record.error and record.error.message)
      assert.is_true(#assert(json.encode_strict(record.value)) < 6000)
      if rule.type == "restart_storm" then
        assert.are.same({ 2, 1, "stormy" }, { record.value.children,
          #record.value.not_as_before, record.value.not_as_before[1].id })
      elseif rule.type == "child_growth" then
        assert.are.same({ "pool", 300 },
          { record.value.largest[1].name, record.value.largest[1].active_children })
      end
    end
    local gone = e:run(d.rules[3].investigate, { args = { subject = "nobody_sup" } })
    assert.are.equal("supervisor_not_found", gone.value.error)
  end))

  it("works on a node that has run nothing but its own boot", support.async(function()
    local n = node.start({ name = "sup1", control = false })
    local ctx = beam.attach(n, { parts = { "supervisors" } })
    local d = beam.domain("sup")
    assert(d:snapshot(ctx))
    local _, rows = assert(d:invoke(ctx, "sup_list", {}))
    find(rows, "name", "kernel_sup")
    local _, tree = assert(d:invoke(ctx, "sup_tree", { "kernel_sup" }))
    assert.is_true(#tree.children > 5)
    assert.are.equal("", n:log())
  end))
end)

describe("the sup domain on an Elixir node", function()
  it("counts supervisors and children, 40 and 20 000 of one, as the node does",
    support.async(function()
      local n, get, d, ctx = start({ elixir = true })
      n:eval("fl_sup:start('Elixir.Shop.Sup', [{a, worker}, {b, {sup, sub_sup, [{c, worker}]}}]), "
        .. "fl_sup:dynamic(pool, 40), fl_sup:dynamic(many_sup, 20000).")
      assert(ctx.sweep:once())
      local data = assert(d:snapshot(ctx))
      assert.are.equal(n:number("length(fl_sup:supervisors())."), data.supervisor_count)
      assert.are.equal(n:number("lists:sum([element(2, fl_sup:counts(P)) "
        .. "|| P <- fl_sup:supervisors()])."), data.total_children)
      assert.are.equal(0, data.supervisors_skipped)
      assert.are.equal(own_counts(n), listed_counts(get("sup_list")))
      local pool = get("sup_children", "pool")
      local pids = {}
      for i, row in ipairs(pool) do
        assert.are.same({ json.null, "worker" }, { row.id, row.type })
        pids[i] = row.pid
      end
      table.sort(pids)
      assert.are.equal(n:bytes([==[lists:join(" ", lists:sort([pid_to_list(P)
        || {_, P, _, _} <- supervisor:which_children(pool)])).]==]), table.concat(pids, " "))
      local rows, meta = get("sup_children", "many_sup")
      assert.are.same({ 500, 20000, 19500, true }, { #rows, meta.total, meta.skipped,
        meta.truncated })
      local tree = get("sup_tree", "Shop.Sup")
      local inner = find(tree.children, "id", "b")
      assert.are.same({ "sub_sup", 1, "c" }, { inner.name, inner.child_count,
        inner.children[1].id })
      assert.are.equal(pid_of(n, "whereis(sub_sup)"), inner.pid)
    end, 40))

  it("finds the supervisors of all kinds, named as Elixir names them", support.async(function()
    local n, get, d, ctx = start({ elixir = true })
    n:eval([==[
      Me = self(),
      spawn(fun() ->
        {ok, _} = 'Elixir.Supervisor':start_link([
          {'Elixir.DynamicSupervisor', [{name, 'Elixir.Shop.Carts'},
            {strategy, one_for_one}]},
          {'Elixir.Task.Supervisor', [{name, 'Elixir.Shop.Tasks'}]},
          {'Elixir.PartitionSupervisor', [{name, 'Elixir.Shop.Parts'}, {partitions, 3},
            {child_spec, {'Elixir.DynamicSupervisor', []}}]},
          {'Elixir.Registry', [{name, 'Elixir.Shop.Names'}, {keys, unique}]}
        ], [{strategy, one_for_one}, {name, 'Elixir.Shop.Supervisor'}]),
        [{ok, _} = 'Elixir.DynamicSupervisor':start_child('Elixir.Shop.Carts',
          #{id => cart, start => {fl_sup, worker, []}, restart => temporary})
          || _ <- lists:seq(1, 5)],
        Me ! started,
        receive never -> ok end
      end),
      receive started -> ok end.]==])
    local rows = get("sup_list")
    assert.are.equal(own_counts(n), listed_counts(rows))
    assert(d:snapshot(ctx))
    for name, active in pairs({ ["Shop.Supervisor"] = 4, ["Shop.Carts"] = 5, ["Shop.Tasks"] = 0,
      ["Logger.Supervisor"] = false }) do
      local row = find(rows, "name", name)
      assert.are.equal(active or row.active_children, row.active_children, name)
      assert.are.equal("supervisor", row.counted_by, name)
    end
    assert.are.equal("logger", find(rows, "name", "Logger.Supervisor").application)
    assert.are.equal(own_children(n, "'Elixir.Shop.Supervisor'"):gsub("'Elixir%.([%w.]+)'", "%1"),
      (as_lines((get("sup_children", "Shop.Supervisor")))))
    local carts = get("sup_children", "Shop.Carts")
    assert.are.same({ 5, json.null }, { #carts, carts[1].id })
    local tree = get("sup_tree", "Shop.Supervisor")
    local parts = find(tree.children, "id", "Shop.Parts")
    assert.are.equal(3, #find(tree.children, "pid", parts.pid).children)
    for _, row in ipairs(rows) do
      assert.is_nil(row.name:find("Elixir", 1, true), row.name)
    end
    assert.are.equal("", n:log())
  end))
end)
