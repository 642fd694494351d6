local async = require("runtime.async")
local clock = require("runtime.clock")
local moved = require("support.moved")
local support = require("support")
local turns = require("runtime.turns")
local waking = require("runtime.watcher.waking")

describe("a rest", function()
  local function resting(ms)
    local t = { clock = moved.new(), over = {} }
    t.waking = waking.new({ clock = t.clock, after = t.clock.after, turns = turns.new() })
    t.rests = t.waking:rest(ms, function(reason)
      t.over[#t.over + 1] = reason or "time"
    end)
    return t
  end

  it("is over once: when its time is, or when something wakes", support.async(function()
    local t = resting(60000)
    assert.is_true(t.rests)
    t.clock.advance(59999)
    assert.are.same({}, t.over)
    t.clock.advance(1)
    assert.are.same({ "time" }, t.over)
    t.waking:wake("late")
    assert.are.same({ "time" }, t.over)
    assert.are.equal("late", t.waking.pending)

    t = resting(60000)
    t.waking:wake("a reason")
    t.waking:wake("another")
    t.clock.advance(60000)
    assert.are.same({ "a reason" }, t.over)
    assert.are.equal(0, t.clock.sleepers())
  end))

  it("does not begin where something came before it", support.async(function()
    local t = resting(60000)
    t.waking:end_rest(nil, true)
    t.clock.advance(60000)
    assert.are.same({}, t.over)
    t.waking:wake("a reason")
    assert.is_false(t.waking:rest(60000, error))
    assert.are.equal(0, t.clock.sleepers())
  end))

  it("that is limited lasts no longer than that in all", support.async(function()
    local t = resting(1800000)
    t.clock.advance(20000)
    t.waking:limit(60000)
    t.clock.advance(39999)
    t.waking:limit(3600000)
    t.clock.advance(1739999)
    assert.are.same({}, t.over)
    t.waking:limit(5000)
    t.clock.advance(0)
    assert.are.same({ "time" }, t.over)
  end))
end)

describe("a rest that a finding which clears again and again", function()
  it("ends, ends at most every 5 min", support.async(function()
    local finding = { type = "mailbox_growth", subject = "orders" }
    local text = "finding mailbox_growth of orders cleared"
    local t = { clock = moved.new(), over = {} }
    t.waking = waking.new({ clock = t.clock, after = t.clock.after, turns = turns.new() })
    local function rest()
      assert.is_true(t.waking:rest(1800000, function(reason)
        t.over[#t.over + 1] = reason or "time"
        t.waking:rested()
      end))
    end
    rest()
    t.waking:finding(finding, "cleared")
    assert.are.same({ text }, t.over)
    t.clock.advance(60000)
    rest()
    t.waking:finding(finding, "cleared")
    t.clock.advance(239999)
    assert.are.same({ text }, t.over)
    t.clock.advance(1)
    assert.are.same({ text, text }, t.over)
    rest()
    t.clock.advance(1800000)
    assert.are.same({ text, text, "time" }, t.over)
    assert.are.equal(0, t.clock.sleepers())
  end))
end)

describe("a sleep", function()
  local function asleep(ms)
    local t = { clock = clock.manual(0), waits = {} }
    t.waking = waking.new({ clock = t.clock, await = function(left_ms, start)
      t.waits[#t.waits + 1] = left_ms or "for ever"
      return async.await(nil, function(done)
        t.time_is_over = done
        return start(done)
      end)
    end, turns = turns.new() })
    function t.sleep(of_ms)
      t.result = nil
      t.task = async.spawn(function()
        t.result = { t.waking:sleep(of_ms) }
      end, { name = "sleeper", detached = true })
    end
    t.sleep(ms)
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

  it("is ended by a finding that clears again and again, but at most every 5 min", support.async(
    function()
      local finding = { type = "mailbox_growth", subject = "orders" }
      local t = asleep(1800000)
      local function ended_by(text)
        support.wait_until(function()
          return t.result
        end)
        assert.are.same({ ("finding mailbox_growth of orders %s"):format(text) }, t.result)
      end
      t.waking:finding(finding, "cleared")
      ended_by("cleared")
      t.clock.advance(60000)
      t.sleep(1800000)
      t.waking:finding(finding, "pending")
      ended_by("began")
      t.sleep(1800000)
      t.clock.advance(20000)
      t.waking:finding(finding, "cleared")
      -- 300 s after the first time.
      assert.are.same({ 1800000, 1800000, 1800000, 220000 }, t.waits)
      t.clock.advance(220000)
      t.time_is_over()
      ended_by("cleared")
      t.sleep(1800000)
      assert.are.equal(1800000, t.waits[5])
    end))
end)
