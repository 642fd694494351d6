local beam = require("support.beam")
local node = require("support.node")
local support = require("support")

local function start(opts)
  local n = node.start({ name = "children1", elixir = opts and opts.elixir })
  local ctx = beam.attach(n, { parts = { "supervisors" } })
  local function pass()
    return assert(ctx.sweep:once()).supervisors
  end
  return n, pass
end

local function row_of(found, name)
  for _, row in pairs(found.rows) do
    if row.name == name then
      return row
    end
  end
  error("no supervisor " .. name, 2)
end

local function gone_names(found)
  local names = {}
  for i, gone in ipairs(found.gone) do
    names[i] = gone.name
  end
  return table.concat(names, " ")
end

describe("a supervisor that is no more", function()
  it("is gone when it gave up, until it is back", support.async(function()
    local n, pass = start()
    n:eval("fl_sup:start(shop_sup, [{a, worker}]), fl_sup:start(other_sup, [{a, worker}]).")
    assert.are.equal("", gone_names(pass()))
    n:eval("fl_sup:exhaust(shop_sup).")
    local found = pass()
    assert.are.equal("shop_sup", gone_names(found))
    assert.is_true(found.gone[1].seen_s > 0 and found.gone[1].seen_s < 600)
    local since_ms = found.gone[1].since_ms
    assert.are.equal(since_ms, pass().gone[1].since_ms)
    n:eval("fl_sup:start(shop_sup, [{a, worker}]).")
    assert.are.equal("", gone_names(pass()))
  end))

  it("is not missed when somebody ended it", support.async(function()
    local n, pass = start()
    n:eval([[
      fl_sup:start(shop_sup, [{a, {sup, stopped_sup, []}}, {b, {sup, deleted_sup, []}},
        {c, {sup, transient_sup, [{d, worker}]}, transient},
        {e, {sup, temporary_sup, [{f, worker}]}, temporary}]),
      fl_sup:app(fl_shop, [{x, {sup, fl_shop_inner_sup, []}}]),
      register(starter, fl_sup:started_by(shell_sup, [{a, worker}])),
      fl_sup:start(renamed_sup, []).]])
    pass()
    n:eval([[
      ok = supervisor:terminate_child(shop_sup, a), ok = supervisor:terminate_child(shop_sup, b),
      ok = supervisor:delete_child(shop_sup, b), ok = supervisor:terminate_child(shop_sup, c),
      ok = supervisor:terminate_child(shop_sup, e), logger:set_primary_config(level, none),
      ok = application:stop(fl_shop), Ref = monitor(process, starter), exit(whereis(starter), kill),
      receive {'DOWN', Ref, _, _, _} -> ok end, true = unregister(renamed_sup), timer:sleep(100).]])
    for _ = 1, 2 do
      local found = pass()
      assert.are.equal("", gone_names(found))
      assert.is_nil(row_of(found, "shop_sup").missing)
    end
  end))
end)

describe("a permanent child", function()
  it("is missing while it does not start again", support.async(function()
    local n, pass = start()
    n:eval("fl_sup:flaky_sup(flaky_sup, 100), fl_sup:flaky_sup(hanging_sup, 6000).")
    pass()
    n:eval([=[
      fl_sup:break(), [exit(element(2, lists:keyfind(flaky, 1, supervisor:which_children(S))), kill)
        || S <- [flaky_sup, hanging_sup]].]=])
    local found
    support.wait_until(function()
      found = pass()
      return row_of(found, "flaky_sup").missing and row_of(found, "hanging_sup").missing
    end, 15000)
    local function missing(name)
      local list = row_of(found, name).missing
      return { #list, list[1].id, list[1].state, list[1].seen_s > 0 }
    end
    assert.are.same({ 1, "flaky", "restarting", true }, missing("flaky_sup"))
    assert.are.same({ 1, "flaky", "silent", true }, missing("hanging_sup"))
    assert.is_nil(row_of(found, "flaky_sup").restarts)
    n:eval("fl_sup:heal().")
    support.wait_until(function()
      found = pass()
      return not row_of(found, "flaky_sup").missing and not row_of(found, "hanging_sup").missing
    end, 20000)
  end, 45))

  it("is not asked for while its supervisor has much to do", support.async(function()
    local n, pass = start()
    n:eval([[
      logger:set_primary_config(level, none), fl_sup:start(stuck_sup, [{a, worker}]),
      fl_sup:slow_child(stuck_sup, 3600000), [stuck_sup ! hello || _ <- lists:seq(1, 12)].]])
    local waiting = "element(2, process_info(whereis(stuck_sup), message_queue_len))."
    local before = n:number(waiting)
    for _ = 1, 2 do
      assert.is_nil(row_of(pass(), "stuck_sup").missing)
    end
    assert.are.equal(before, n:number(waiting))
  end))

  it("may be stopped, deleted, added and restarted by hand", support.async(function()
    local n, pass = start()
    n:eval("fl_sup:start(shop_sup, [{a, worker}, {b, worker}, {c, worker}]).")
    pass()
    n:eval([[
      ok = supervisor:terminate_child(shop_sup, a), ok = supervisor:terminate_child(shop_sup, b),
      ok = supervisor:delete_child(shop_sup, b), exit(element(2,
        lists:keyfind(c, 1, supervisor:which_children(shop_sup))), kill),
      {ok, _} = supervisor:start_child(shop_sup, #{id => d, start => {fl_sup, worker, []}}).]])
    for _ = 1, 3 do
      local shop = row_of(pass(), "shop_sup")
      assert.are.same({}, { shop.missing, shop.restarts })
    end
  end))

  it("is restarted again and again, and its supervisor says so", support.async(function()
    local n, pass = start()
    n:eval("fl_sup:storm(at_once_sup, 0), fl_sup:storm(soon_sup, 100).")
    assert.are.same({ "stormy" }, row_of(pass(), "at_once_sup").restarts.ids)
    support.wait_until(function()
      local found = pass()
      return row_of(found, "soon_sup").restarts and row_of(found, "at_once_sup").restarts
    end)
    for _ = 1, 2 do
      local found = pass()
      local soon = row_of(found, "soon_sup").restarts
      local at_once = row_of(found, "at_once_sup").restarts
      assert.are.same({ "stormy" }, soon.ids)
      assert.is_true(soon.per_s > 0 and soon.per_s <= 11, soon.per_s)
      assert.are.same({ "stormy" }, at_once.ids)
      assert.is_true(at_once.per_s > 1, at_once.per_s)
    end
    n:eval("fl_sup:stop().")
  end))
end)

describe("children that come and go", function()
  it("are left alone below dynamic supervisors, and beside permanent ones", support.async(function()
    local n, pass = start()
    n:eval("fl_sup:churn(churn_sup, 20), fl_sup:churn_with_ids(jobs_sup, 5).")
    for _ = 1, 4 do
      local found = pass()
      for _, row in pairs(found.rows) do
        assert.are.same({}, { row.missing, row.restarts })
      end
    end
    n:eval("fl_sup:stop().")
  end))

  it("are left alone on an Elixir node, where a storm is seen too", support.async(function()
    local n, pass = start({ elixir = true })
    n:eval([==[
      logger:set_primary_config(level, none),
      Me = self(),
      spawn(fun() ->
        {ok, _} = 'Elixir.Supervisor':start_link([
          {'Elixir.DynamicSupervisor', [{name, 'Elixir.Shop.Carts'}, {strategy, one_for_one},
            {max_restarts, 1000000}]},
          {'Elixir.Task.Supervisor', [{name, 'Elixir.Shop.Tasks'}]},
          #{id => 'Elixir.Shop.Stock', start => {fl_sup, crasher, [50]}}
        ], [{strategy, one_for_one}, {max_restarts, 1000000}, {name, 'Elixir.Shop.Supervisor'}]),
        Me ! started,
        receive never -> ok end
      end),
      receive started -> ok end,
      spawn(fun Churn() ->
        'Elixir.DynamicSupervisor':start_child('Elixir.Shop.Carts',
          #{id => cart, start => {fl_sup, slower, [0, 30]}, restart => temporary}),
        'Elixir.Task.Supervisor':start_child('Elixir.Shop.Tasks', fun() -> timer:sleep(30) end),
        timer:sleep(5), Churn()
      end).]==])
    support.wait_until(function()
      return row_of(pass(), "Shop.Supervisor").restarts
    end)
    for _ = 1, 2 do
      local found = pass()
      for _, row in pairs(found.rows) do
        assert.are.same(row.name == "Shop.Supervisor" and { "Shop.Stock" } or nil,
          row.restarts and row.restarts.ids, row.name)
        assert.is_nil(row.missing)
      end
    end
  end))
end)
