-- Who runs when there is no room for all, and when the worker program is changed.

local async = require("runtime.async")
local jail = require("support.jail")
local support = require("support")

local MIB = 1024 ^ 2

local with_sandbox, value_of = jail.with_sandbox, jail.value_of

-- Starts scripts that wait until they are released; `started` is the order in which they ran.
local function new_crowd(box)
  local crowd = { started = {}, tasks = {}, gates = {} }
  function crowd.start(owner, limits)
    local gate = async.signal()
    table.insert(crowd.tasks, async.spawn(function()
      local outcome = box:exec({ code = "return f()", functions = { "f" }, owner = owner,
        limits = limits, on_call = function()
          table.insert(crowd.started, owner)
          table.insert(crowd.gates, gate)
          gate:wait()
          return true, owner
        end })
      assert(outcome.value == owner, outcome.message)
    end))
  end
  function crowd.wait_started(n)
    support.wait_until(function()
      return #crowd.started >= n
    end, 10000, n .. " scripts")
    assert.are.equal(n, #crowd.started)
  end
  function crowd.release(n)
    for _ = 1, n do
      table.remove(crowd.gates, 1):fire()
    end
  end
  function crowd.finish()
    local total = #crowd.tasks
    support.wait_until(function()
      crowd.release(#crowd.gates)
      return #crowd.started == total
    end, 10000)
    crowd.release(#crowd.gates)
    for _, task in ipairs(crowd.tasks) do
      assert(task:join(10000))
    end
  end
  return crowd
end

local function count(list, value)
  local n = 0
  for _, item in ipairs(list) do
    n = n + (item == value and 1 or 0)
  end
  return n
end

describe("the sandbox's queue", function()
  it("gives one owner half of the places, so that there is room for another",
    with_sandbox(function(box)
      local crowd = new_crowd(box)
      for _ = 1, 30 do
        crowd.start("greedy")
      end
      crowd.wait_started(8)
      assert.are.equal(22, box:stats().queued)
      crowd.start("modest")
      crowd.wait_started(9)
      assert.are.equal("modest", crowd.started[9])
      crowd.finish()
      assert.are.equal(0, box:stats().queued)
    end))

  it("lets owners take turns", with_sandbox(function(box)
    local crowd = new_crowd(box)
    for _ = 1, 20 do
      crowd.start("a")
    end
    for _ = 1, 20 do
      crowd.start("b")
    end
    crowd.wait_started(16)
    for _ = 1, 3 do
      crowd.start("c")
    end
    assert.are.same({ 8, 8 }, { count(crowd.started, "a"), count(crowd.started, "b") })
    -- The newcomer has none running: the next three places are its own, though others came first.
    crowd.release(3)
    crowd.wait_started(19)
    assert.are.equal(3, count(crowd.started, "c"))
    crowd.finish()
    assert.are.equal(0, box:stats().running)
  end))

  it("bounds the memory of all that runs together", with_sandbox(function(box)
    local crowd = new_crowd(box)
    crowd.start("a", { memory_bytes = 60 * MIB })
    crowd.start("b", { memory_bytes = 60 * MIB })
    crowd.start("c", { memory_bytes = 10 * MIB })
    crowd.wait_started(1)
    assert.are.equal(60 * MIB, box:stats().memory_bytes)
    assert.are.equal(2, box:stats().queued) -- the small one does not overtake the large one
    crowd.release(1)
    crowd.wait_started(3)
    assert.are.equal(70 * MIB, box:stats().memory_bytes)
    crowd.finish()
    assert.are.equal(0, box:stats().memory_bytes)
    -- More than there is at all runs alone.
    assert.are.equal(1, value_of(box, "return 1", { limits = { memory_bytes = 200 * MIB } }))
  end, { max_memory = 100 * MIB }))

  it("forgets a script whose task is cancelled while it waits", with_sandbox(function(box)
    local crowd = new_crowd(box)
    for _ = 1, 9 do
      crowd.start("a")
    end
    crowd.wait_started(8)
    table.remove(crowd.tasks):cancel()
    assert.are.equal(0, box:stats().queued)
    crowd.finish()
  end))
end)

describe("a sandbox's worker program", function()
  it("is changed after a number of scripts, under scripts that run", with_sandbox(function(box)
    local crowd = new_crowd(box)
    crowd.start("early")
    crowd.wait_started(1)
    local first = box:stats().zygotes[1]
    for i = 1, 12 do
      assert.are.equal(i, value_of(box, "return args", { args = i }))
    end
    assert.is_true(box:stats().starts >= 3)
    -- The first one waits for its script, the others are gone or going.
    assert.is_true(jail.is_alive(first))
    crowd.finish()
    jail.wait_gone(first)
  end, { pool = 1, max_forks = 5 }))

  it("is changed after a time, and idle processes with it", with_sandbox(function(box)
    assert.are.equal(1, value_of(box, "return 1"))
    local before = box:stats()
    async.sleep(60)
    assert.are.equal(2, value_of(box, "return 2"))
    assert.is_true(box:stats().starts > before.starts)
    for _, pid in ipairs(before.zygotes) do
      jail.wait_gone(pid)
    end
    for _, pid in ipairs(before.children) do
      jail.wait_gone(pid)
    end
  end, { max_age_ms = 50 }))
end)
