-- A quarter of a day in the life of a watcher: how often its model is asked, and what is left of
-- its budget when something happens. tests/soak/day_spec.lua has whole days.

local day = require("support.day")
local support = require("support")

local HOURS = 6
local CALLS_A_DAY = 100
local MINUTE_MS = 60000

local function assert_fault_was_told(it_was)
  assert.are.same({ "atom_limit atoms" }, it_was.found)
  assert.is_true(it_was.investigated_ms < MINUTE_MS, it_was.investigated_ms)
  assert.are.equal(1, #it_was.told)
  assert.are.equal("atom_limit", it_was.told[1].type)
  assert.are.equal("atoms was looked into: see the execution", it_was.told[1].summary)
end

describe("a watcher of a healthy node", function()
  it("asks a calm model rarely, and has budget when something happens", support.async(function()
    local it_was = day.live({ recording = "batch", hours = HOURS, wait_ms = 30 * MINUTE_MS })
    assert.is_true(it_was.calls >= 2 * HOURS, it_was.calls)
    assert.is_true(it_was.calls <= CALLS_A_DAY * HOURS / 24, it_was.calls)
    assert.are.equal(30 * MINUTE_MS, it_was.longest_wait_ms)
    assert.are.equal(0, it_was.exhausted)
    assert.is_true(it_was.left_before > 0.9, it_was.left_before)
    assert_fault_was_told(it_was)
  end, 300))

  it("stretches the waits of a model that asks for the shortest", support.async(function()
    local it_was = day.live({ recording = "batch", hours = HOURS / 2, wait_ms = 10000 })
    assert.is_true(it_was.longest_wait_ms > MINUTE_MS, it_was.longest_wait_ms)
    assert.are.equal(0, it_was.exhausted)
    assert.is_true(it_was.left_before >= 0.4, it_was.left_before)
    assert_fault_was_told(it_was)
  end, 300))
end)
