local snapshots = require("runtime.watcher.snapshots")

local function sample(n)
  return { id = ("%016x"):format(n), at_ms = n * 1000, data = { n = n } }
end

local function filled(limit, count)
  local store = snapshots.new({ limit = limit })
  for n = 1, count do
    store:add(sample(n))
  end
  return store
end

describe("a watcher's snapshots", function()
  it("are kept once each, found by id, and bounded: the oldest go first", function()
    local store = filled(3, 5)
    assert.are.equal(store:get(sample(5).id), store:add(sample(5)))
    assert.are.same({ id = sample(5).id, captured_at = 5000, data = { n = 5 } },
      store:get(sample(5).id))
    assert.is_nil(store:get(sample(2).id))
    assert.are.same({ sample(5).id, sample(4).id, sample(3).id }, store:ids())
  end)

  it("come in pages, newest first, with the total", function()
    local store = filled(10, 5)
    local page = store:page(2, 1)
    assert.are.equal(5, page.total)
    assert.are.equal(4, page.snapshots[1].data.n)
    assert.are.equal(3, page.snapshots[2].data.n)
    assert.are.same({}, store:page(2, 5).snapshots)
    assert.are.same({}, store:page(2, 500).snapshots)
    assert.are.equal(1, #store:page(50, 4).snapshots)
  end)

  it("are not dropped while an alert of the cycle references them", function()
    local store = filled(3, 3)
    store:pin({ sample(1).id })
    store:add(sample(4))
    assert.is_truthy(store:get(sample(1).id))
    assert.is_nil(store:get(sample(2).id))
    store:pin({ sample(3).id, sample(4).id })
    store:add(sample(5))
    assert.are.equal(4, store:page(50).total)
    store:unpin_all()
    assert.are.same({ sample(5).id, sample(4).id, sample(3).id }, store:ids())
  end)

  it("obey a new limit at once", function()
    local store = filled(5, 5)
    store:set_limit(2)
    assert.are.same({ sample(5).id, sample(4).id }, store:ids())
  end)
end)
