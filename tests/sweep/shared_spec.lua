local shared = require("runtime.sweep.shared")

local function result(changes)
  local made = {
    mono_ms = 1000, total = 2,
    rows = { a = { id = "a", size = 1, links = { 1, 2 } }, b = { id = "b", size = 2 } },
    top = { size = { "b", "a" }, memory = { "a", "b" } },
    groups = {},
  }
  for key, value in pairs(changes or {}) do
    made[key] = value
  end
  return made
end

describe("what a pass shares with the one before", function()
  it("is every table that says the same", function()
    local before = result()
    local after = shared.with(before, result({ mono_ms = 2000 }))
    assert.are.same(result({ mono_ms = 2000 }), after)
    assert.are.equal(before.rows, after.rows)
    assert.are.equal(before.top, after.top)
    assert.are.equal(before.groups, after.groups)
  end)

  it("is what is the same inside of what is not", function()
    local before = result()
    local new = result({
      rows = { a = { id = "a", size = 1, links = { 1, 2 } }, b = { id = "b", size = 3 } },
      top = { size = { "a", "b" }, memory = { "a", "b" } },
    })
    local after = shared.with(before, new)
    assert.are.equal(new, after)
    assert.are_not.equal(before.rows, after.rows)
    assert.are.equal(before.rows.a, after.rows.a)
    assert.are.same({ id = "b", size = 3 }, after.rows.b)
    assert.are.same({ "a", "b" }, after.top.size)
    assert.are.equal(before.top.memory, after.top.memory)
    assert.are.same(result(), before)
  end)

  it("is nothing that has more or fewer keys", function()
    local before = result()
    local fewer = shared.with(before, result({ rows = { a = { id = "a", size = 1 } },
      top = { size = { "b" } } }))
    assert.are.same({ a = { id = "a", size = 1 } }, fewer.rows)
    assert.are.same({ size = { "b" } }, fewer.top)
    local more = shared.with(fewer, result())
    assert.are.same(result(), more)
    assert.are.same(result(), shared.with(nil, result()))
  end)
end)
