local beam = require("support.beam")
local node = require("support.node")
local ranking = require("runtime.sweep.ranking")
local support = require("support")

local function new_ranking()
  return ranking.new({ orders = { size = "size", rate = "per_s" }, id = "id",
    is_before = function(a, b)
      return a.id < b.id
    end })
end

local ROWS = {
  x = { id = "x", size = 2 }, a = { id = "a", size = 2, per_s = 0 },
  b = { id = "b", size = 7, per_s = 3 },
}

describe("a ranking", function()
  it("has the largest first, and leaves out rows without the field", function()
    assert.are.same({ size = { "b", "a", "x" }, rate = { "b", "a" } }, new_ranking():of(ROWS))
    assert.are.same({ size = { "b" }, rate = { "b" } }, new_ranking():of(ROWS, 1))
  end)

  it("says the same on demand, and nothing of an order that there is not", function()
    local top = new_ranking():on_demand(ROWS)
    assert.are.same({ "b", "a", "x" }, top.size)
    assert.are.same({ "b", "a" }, top.rate)
    assert.is_nil(top.weight)
  end)

  it("is kept of the newest passes, and made again of those before", support.async(function()
    local n = node.start({ name = "ranking1" })
    local ctx = beam.attach(n, { parts = { "processes", "tables", "ports", "supervisors" } })
    local first = assert(ctx.sweep:once())
    local said = {}
    for part, orders in pairs({ processes = { "memory", "reductions_per_s" }, tables = { "size" },
      ports = { "input" }, supervisors = { "children" } }) do
      for _, order in ipairs(orders) do
        local ids = first[part].top[order]
        assert.is_true(#ids > 0, part)
        said[#said + 1] = { part = part, order = order, ids = { unpack(ids) } }
      end
    end
    assert(ctx.sweep:once())
    assert.is_not_nil(next(first.processes.top))
    assert(ctx.sweep:once())
    assert.is_nil(next(first.processes.top))
    for _, one in ipairs(said) do
      assert.are.same(one.ids, first[one.part].top[one.order], one.part)
    end
  end))
end)
