local beam = require("support.beam")
local node = require("support.node")
local support = require("support")

local function attach(n, opts)
  opts = opts or {}
  opts.parts = { "supervisors" }
  local ctx = beam.attach(n, opts)
  ctx.pass = function()
    local pass = assert(ctx.sweep:once())
    return pass.supervisors
  end
  return ctx
end

local function row_of(found, name)
  for _, row in pairs(found.rows) do
    if row.name == name then
      return row
    end
  end
  error("no supervisor " .. name, 2)
end

local function pids(found)
  local list = {}
  for pid in pairs(found.rows) do
    list[#list + 1] = pid
  end
  table.sort(list)
  return table.concat(list, " ")
end

local OWN = [[lists:join(" ", lists:sort([pid_to_list(P) || P <- fl_sup:supervisors()])).]]

describe("the sweep's supervisors", function()
  it("are those that reading every dictionary finds", support.async(function()
    local n = node.start({ name = "supsweep1" })
    n:eval([[
      fl_sup:start(shop_sup, [{a, worker}, {b, {sup, sub_sup, [{c, worker}, {d, {sup, []}}]}},
        {e, trapper}, {f, liar}]),
      fl_sup:dynamic(pool, 40), fl_sup:app(fl_shop, [{N, {sup, [{y, {sup, [{z, worker}]}}]}}
        || N <- lists:seq(1, 30)]).]])
    -- As on a large node: by links alone.
    local ctx = attach(n, { small_node = 0 })
    local found = ctx.pass()
    assert.are.equal(n:bytes(OWN), pids(found))
    assert.are.equal(0, found.skipped)
    assert.are.equal(n:number("length(fl_sup:supervisors())."), found.total)
    local shop, sub = row_of(found, "shop_sup"), row_of(found, "sub_sup")
    assert.are.same({ 4, true, "shop_sup", "process", "fl_sup" },
      { shop.children, shop.registered, shop.subject, shop.parent_kind, shop.module })
    assert.are.same({ 2, "supervisor", shop.pid }, { sub.children, sub.parent_kind, sub.parent })
    local top = row_of(found, "fl_shop_sup")
    assert.are.same({ 30, "application", "fl_shop" },
      { top.children, top.parent_kind, top.application })
    assert.are.equal("supervisor:fl_sup/1 of fl_shop_sup",
      row_of({ rows = { (function()
        for _, row in pairs(found.rows) do
          if row.parent == top.pid then
            return row
          end
        end
      end)() } }, "supervisor:fl_sup/1").subject)
    assert.are.equal(40, row_of(found, "pool").children)
    assert.are.equal(row_of(found, "pool").pid, found.top.children[1])
    assert.is_true(found.applications.kernel and found.applications.fl_shop)
    local before = shop.fingerprint
    assert.are.equal(before, row_of(ctx.pass(), "shop_sup").fingerprint)
    n:eval("ok = supervisor:terminate_child(shop_sup, a), {ok, _} = "
      .. "supervisor:restart_child(shop_sup, a).")
    local after = row_of(ctx.pass(), "shop_sup")
    assert.are.equal(4, after.children)
    assert.are_not.equal(before, after.fingerprint)
  end))

  it("need no name and no application on a small node", support.async(function()
    local n = node.start({ name = "supsweep1" })
    n:eval([[
      fl_sup:start(none, [{a, worker}]), fl_sup:start({global, {<<"far">>, 1}}, [{b, worker}]),
      fl_sup:trappers(trap_sup, 1500).]])
    local found = attach(n).pass()
    assert.are.equal(n:bytes(OWN), pids(found))
    local far = n:eval("pid_to_list(global:whereis_name({<<\"far\">>, 1})).")
    assert.are.equal("supervisor:fl_sup/1", found.rows[far:match("<[%d.]+>")].name)
    local by_links = attach(n, { small_node = 1000 }).pass()
    assert.are.equal(found.total - 2, by_links.total)
  end))

  it("are bounded, and say what was not looked at", support.async(function()
    local n = node.start({ name = "supsweep1" })
    n:eval([[
      fl_sup:app(fl_shop, [{N, {sup, [{y, worker}]}} || N <- lists:seq(1, 30)]),
      fl_sup:dynamic(pool, 3000).]])
    local found = attach(n, { most_supervisors = 10 }).pass()
    assert.are.equal(10, found.total)
    assert.is_true(found.skipped > 0)
    found = attach(n, { most_links = 1000, small_node = 0 }).pass()
    assert.is_true(found.skipped >= 2000, found.skipped)
    assert.are.equal(3000, row_of(found, "pool").children)
  end))

  it("are found among very many brothers that look alike", support.async(function()
    local n = node.start({ name = "supsweep1" })
    n:eval("fl_sup:trappers(trap_sup, 3000), fl_sup:start(wide_sup, "
      .. "[{N, {sup, [{a, worker}]}} || N <- lists:seq(1, 1200)]).")
    local found = attach(n, { small_node = 0 }).pass()
    assert.are.equal(3000, row_of(found, "trap_sup").children)
    assert.are.equal(n:bytes(OWN), pids(found))
    assert.are.equal(0, found.skipped)
  end))

  it("go on past a child that does not answer", support.async(function()
    local n = node.start({ name = "supsweep1", args = { "+S", "2:2" } })
    local ctx = attach(n, { patience_ms = 150, grace_ms = 100 })
    ctx.pass()
    n:eval([[
      fl_sup:start(shop_sup, [{a, worker}, {b, {sup, sub_sup, []}}]),
      fl_sick:hog(hog, [whereis(shop_sup)]), timer:sleep(200).]])
    -- Between two comparisons it answers: how often that is met depends on the machine.
    local found = support.wait_until(function()
      local now = ctx.pass()
      return now.skipped > 0 and now
    end, nil, "a pass in which the hog did not answer")
    assert.is_true(found.skipped < 30, found.skipped)
    row_of(found, "kernel_sup")
    n:kill("sigkill")
  end, 60))

  it("take no harm from what dies meanwhile, and leave nothing", support.async(function()
    local n = node.start({ name = "supsweep1" })
    n:eval([[
      fl_sup:churn(churn_sup, 200), fl_sup:start(shop_sup, [{a, worker}]),
      spawn(fun Churn() ->
        {ok, Sup} = supervisor:start_link({local, brief_sup}, fl_sup, {one_for_one, []}),
        unlink(Sup), Ref = monitor(process, Sup), exit(Sup, kill),
        receive {'DOWN', Ref, _, _, _} -> ok end, timer:sleep(1), Churn()
      end), timer:sleep(100).]])
    local ctx = attach(n)
    for _ = 1, 10 do
      local found = ctx.pass()
      assert.are.equal(0, found.skipped)
      assert.are.equal(1, row_of(found, "shop_sup").children)
    end
    n:eval("fl_sup:stop(), timer:sleep(200).")
    local facts = "{length(processes()), length(code:all_loaded()), "
      .. "erlang:system_info(atom_count)}."
    ctx.pass()
    local before
    support.wait_until(function()
      local last = before
      before = n:eval(facts)
      return before == last
    end)
    ctx.pass()
    support.wait_until(function()
      return n:eval(facts) == before
    end)
  end))
end)
