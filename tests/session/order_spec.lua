local order = require("runtime.session.order")

local function keys_of(t)
  local keys = {}
  for key in order.pairs(t) do
    keys[#keys + 1] = key
  end
  return keys
end

describe("pairs of a session", function()
  it("goes by numbers, then by texts, both ascending", function()
    local t = { b = 1, a = 2, [10] = 3, [2] = 4, [0.5] = 5, [true] = 6, [false] = 7, B = 8 }
    assert.are.same({ 0.5, 2, 10, "B", "a", "b", false, true }, keys_of(t))
    assert.are.same({ 1, 2, 3 }, keys_of({ "x", "y", "z" }))
    assert.are.same({}, keys_of({}))
  end)

  it("gives the values as they are then, and leaves out what was cleared", function()
    local t, seen = { a = 1, b = 2, c = 3, d = 4 }, {}
    for key, value in order.pairs(t) do
      seen[key] = value
      t.b = nil
      t.c = 30
      t[key] = nil
    end
    assert.are.same({ a = 1, c = 30, d = 4 }, seen)
  end)

  it("visits objects, too", function()
    local a, b = {}, {}
    local count = 0
    for key in order.pairs({ [a] = 1, [b] = 2, x = 3 }) do
      count = count + 1
      assert.are.equal(count == 1, key == "x")
    end
    assert.are.equal(3, count)
  end)

  it("stands in the place of Lua's own until it is removed", function()
    local own = pairs
    order.install()
    local installed = pairs
    order.remove()
    assert.are.equal(order.pairs, installed)
    assert.are.equal(own, pairs)
  end)
end)
