local async = require("runtime.async")
local clock = require("runtime.clock")
local support = require("support")
local turns = require("runtime.turns")
local waking = require("runtime.watcher.waking")

describe("a sleep", function()
  local function asleep(ms)
    local t = { clock = clock.manual(0), waits = {} }
    t.waking = waking.new({ clock = t.clock, await = function(left_ms, start)
      t.waits[#t.waits + 1] = left_ms or "for ever"
      return async.await(nil, start)
    end, turns = turns.new() })
    t.task = async.spawn(function()
      t.result = { t.waking:sleep(ms) }
    end, { name = "sleeper", detached = true })
    support.on_cleanup(function()
      t.task:cancel()
    end)
    return t
  end

  it("that is limited lasts no longer than that in all", support.async(function()
    local t = asleep(1800000)
    t.clock.advance(20000)
    t.waking:limit(60000)
    t.clock.advance(10000)
    t.waking:limit(3600000)
    t.waking:limit(5000)
    assert.are.same({ 1800000, 40000, 1770000, 0 }, t.waits)
    t.waking:wake("a reason")
    support.wait_until(function()
      return t.result
    end)
    assert.are.same({ "a reason" }, t.result)
  end))

  it("for ever has no limit, and a limit is not for the next one", support.async(function()
    local t = asleep(nil)
    t.waking:limit(1000)
    assert.are.same({ "for ever", "for ever" }, t.waits)
    t.waking:wake("x")
    support.wait_until(function()
      return t.result
    end)
    t.waking:limit(1)
    assert.is_nil(t.waking.pending)
  end))
end)
