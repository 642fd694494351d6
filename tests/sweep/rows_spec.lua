local beam = require("support.beam")
local node = require("support.node")
local rows = require("runtime.sweep.rows")
local support = require("support")

local function row(changes)
  local made = { pid = "<0.1.0>", name = "a", status = "waiting", reductions = 1000 }
  for field, value in pairs(changes or {}) do
    made[field] = value
  end
  return made
end

local function assert_same(expected, one)
  for field, value in pairs(expected) do
    assert.are.equal(value, one[field], field)
  end
  assert.are.same(expected, rows.whole(one))
end

describe("rows of processes that pass after pass saw", function()
  it("are one row while nothing happens", function()
    local first = rows.unless_idle(row())
    assert.are.equal(first, rows.unless_idle(row(), first))
    assert.are.equal(first, rows.unless_idle(row({ reductions = 1016 }), first))
  end)

  it("say what the new one says, whatever changed, came or went", function()
    local kept = row()
    for _, changes in ipairs({ { reductions = 1017 }, { reductions = 1050 },
      { reductions = 1050, status = "running" }, { reductions = 1080, status = "running" },
      { reductions = 1081, status = "running", binary_kb = 7 }, { reductions = 1099 },
      { reductions = 2000, binary_kb = 7 }, { reductions = 3000 } }) do
      kept = rows.unless_idle(row(changes), kept)
      local exact = rows.whole(kept)
      assert.is_true(row(changes).reductions - exact.reductions <= rows.IDLE_REDUCTIONS)
      exact.reductions = row(changes).reductions
      assert.are.same(row(changes), exact)
    end
  end)

  it("have nothing of their own but what moved when they are looked at", function()
    local first = row()
    local second = rows.unless_idle(row({ reductions = 1040 }), first)
    local third = rows.unless_idle(row({ reductions = 1080 }), second)
    assert.are.equal("reductions", next(third))
    assert.is_nil(next(third, "reductions"))
    assert_same(row(), first)
    assert_same(row({ reductions = 1040 }), second)
    assert_same(row({ reductions = 1080 }), third)
  end)

  it("of a node are whole in each of its passes", support.async(function()
    local n = node.start({ name = "rows1" })
    local ctx = beam.attach(n, { parts = { "processes" } })
    for _ = 1, 4 do
      local found = assert(ctx.sweep:once()).processes
      for pid, one in pairs(found.rows) do
        assert.are.equal(pid, one.pid)
        assert.is_string(one.name)
        assert.is_number(one.memory_kb)
        assert.is_number(one.reductions)
      end
    end
  end))
end)
