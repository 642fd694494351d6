-- A watcher that comes to no decision, on a moved clock.

local async = require("runtime.async")
local stall_detector = require("runtime.watcher.stalls")
local support = require("support")
local watched = require("support.watched")

local BOUND_MS = stall_detector.bound_ms(watched.policy())

-- A watcher whose model does not answer its first question, with a detector over it.
local function setup()
  local cancelled = false
  local it_is = watched.new({ function()
    async.await(nil, function()
      return function()
        cancelled = true
      end
    end)
  end })
  it_is.stalls = stall_detector.new({ watchers = function()
    local list = { it_is.watcher }
    return function()
      return table.remove(list)
    end
  end })
  function it_is.was_cancelled()
    return cancelled
  end
  return it_is
end

describe("a stalled watcher", function()
  it("is told of, ended and started again once it is past its bound", support.async(function()
    local it_is = setup()
    it_is:start()
    it_is:asked(1)
    it_is.clock.advance(BOUND_MS)
    it_is.stalls:check()
    assert.is_nil(it_is:last("watcher.stalled"))
    assert.is_false(it_is.was_cancelled())

    it_is.clock.advance(1)
    it_is.stalls:check()
    assert.is_true(it_is.was_cancelled())
    local told = it_is:last("watcher.stalled")
    assert.are.same({ BOUND_MS + 1, BOUND_MS, "deciding" }, { told.measurements.busy_ms,
      told.measurements.bound_ms, told.metadata.status })
    local crashed = it_is:last("watcher.crashed")
    assert.matches("^no decision for 600 s", crashed.metadata.error)
    assert.are.equal(1000, crashed.measurements.restart_ms)
    it_is.stalls:check() -- while it waits for its restart it is at nothing
    assert.are.equal(1, #it_is:all("watcher.stalled"))

    it_is.clock.advance(1000)
    assert.are.equal(1, it_is:last("watcher.restarted").measurements.restarts)
    it_is:asked(2)
    it_is:asleep()
    it_is:stop()
  end))

  it("is no one that waits, is paused or has no contact, however long", support.async(function()
    local it_is = watched.new({})
    local stalls = stall_detector.new({ watchers = function()
      local list = { it_is.watcher }
      return function()
        return table.remove(list)
      end
    end })
    local function look()
      support.wait_until(function()
        return it_is.clock.sleepers() > 0
      end)
      it_is.watcher.waking:seen()
      local before = it_is.clock.now_ms()
      it_is.clock.advance(3 * BOUND_MS)
      assert.is_true(it_is.clock.now_ms() > before)
      stalls:check()
      assert.is_true(stalls:are_all_well())
      assert.is_nil(it_is:last("watcher.stalled"))
    end
    assert.is_nil(it_is.watcher:busy_ms())
    it_is:start()
    it_is:asleep()
    assert.is_nil(it_is.watcher:busy_ms())
    it_is.watcher:pause()
    support.wait_until(function()
      return it_is.watcher.status == "paused"
    end)
    look()
    it_is.target.set("down", "down")
    it_is.watcher:resume()
    support.wait_until(function()
      return it_is.watcher.status == "no contact"
    end)
    look()
    it_is:stop()
  end))

  it("is no reason to think that all is well when it cannot be ended", support.async(function()
    local it_is = setup()
    it_is:start()
    it_is:asked(1)
    it_is.clock.advance(BOUND_MS + 60000)
    assert.is_true(it_is.stalls:are_all_well())
    it_is.clock.advance(1)
    assert.is_false(it_is.stalls:are_all_well())
    it_is.stalls:check()
    assert.is_true(it_is.stalls:are_all_well())
    it_is:stop()
  end))
end)
