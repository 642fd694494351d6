-- Whole days in the life of a watcher, over ordinary systems.

local day = require("support.day")
local support = require("support")

local HOURS = 24
local MOST_CALLS = 100
local SYSTEMS = { "batch", "cluster", "ejabberd", "rabbitmq" }
local DOMAINS = { "beam", "ets", "gc", "ports", "sup" }
local LONGEST_MS, SHORTEST_MS = 1800000, 10000

local function print_of(name, it_was)
  print(("%s: %d calls (%d before the fault), %.0f tokens and %.2f USD of the first watcher, "
    .. "%.0f %% of its budget left at the fault"):format(name, it_was.calls, it_was.calls_before,
      it_was.tokens, it_was.usd, 100 * it_was.left_before))
end

local function assert_fault_was_told(it_was)
  assert.are.same({ "atom_limit atoms" }, it_was.found)
  assert.is_true(it_was.investigated_ms < 60000, it_was.investigated_ms)
  assert.are.equal(1, #it_was.told)
  assert.are.equal(0, it_was.exhausted)
  assert.is_true(it_was.left_before >= 0.4, it_was.left_before)
end

describe("a healthy day", function()
  for _, name in ipairs(SYSTEMS) do
    it("takes at most 100 calls: " .. name, support.async(function()
      local it_was = day.live({ recording = name, hours = HOURS, wait_ms = LONGEST_MS })
      print_of(name, it_was)
      assert.is_true(it_was.calls <= MOST_CALLS, it_was.calls)
      assert_fault_was_told(it_was)
    end, 1200))
  end

  it("lasts within the budget of a model that asks for the shortest waits",
    support.async(function()
      local it_was = day.live({ recording = "batch", hours = HOURS, wait_ms = SHORTEST_MS })
      print_of("the shortest waits", it_was)
      assert_fault_was_told(it_was)
    end, 1200))

  it("takes at most 100 calls of each of five watchers", support.async(function()
    local watchers = {}
    for i, name in ipairs(DOMAINS) do
      watchers[i] = ('name = "%s", domain = "%s", limits = { %s }'):format(name, name, day.LIMITS)
    end
    local it_was = day.live({ recording = "rabbitmq", hours = HOURS, wait_ms = LONGEST_MS,
      watchers = watchers })
    print_of("five watchers", it_was)
    assert.is_true(it_was.calls <= MOST_CALLS * #DOMAINS, it_was.calls)
    assert_fault_was_told(it_was)
  end, 1200))
end)
