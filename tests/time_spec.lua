-- A wall clock that is set forward and back changes timestamps, and nothing else; what is meant by
-- the wall's clock (mutes) follows it at once. Budgets: tests/spending_spec.lua.

local detection = require("support.detection")
local support = require("support")
local watched = require("support.watched")

local DAY_MS = 86400000
local MINUTE_MS = 60000

local function queues(length)
  return { queues = { orders = length } }
end

-- What the events of a detector say, but for times of day.
local function told(t)
  local lines = {}
  for i, event in ipairs(t.events) do
    local measured, of = event.measurements, event.metadata.alert or event.metadata.finding
    lines[i] = ("%s cause=%s duration=%s phase=%s count=%s flaps=%s"):format(event.name,
      tostring(event.metadata.cause), tostring(measured.duration), tostring(of.phase),
      tostring(of.count), tostring(of.flaps))
  end
  return lines
end

-- A finding that fires, is renotified, resolved, and reopened. `jump(clock, i)` is called before
-- each step.
local function detect(jump)
  local t = detection.setup({ rules = { detection.queue_rule() },
    policy = { renotify_ms = 60000 } })
  local i = 0
  for _, part in ipairs({ { 18, 200 }, { 10, 5 }, { 12, 300 }, { 10, 5 } }) do
    for _ = 1, part[1] do
      i = i + 1
      jump(t.clock, i)
      assert(t.step(10, queues(part[2])))
    end
  end
  return told(t)
end

describe("a wall clock that jumps", function()
  it("changes nothing about findings and alerts: when they begin, are told again and end",
    support.async(function()
      local steady = detect(function() end)
      assert.is_true(#steady >= 10, #steady)
      for _, days in ipairs({ 1, -1, 30 }) do
        assert.are.same(steady, detect(function(clock, i)
          if i % 3 == 0 then
            clock.set_wall(detection.WALL_MS + i % 2 * days * DAY_MS)
          end
        end))
      end
    end))

  it("neither ends a watcher's wait nor makes it longer", support.async(function()
    for _, by_ms in ipairs({ DAY_MS, -DAY_MS }) do
      local it_is = watched.new({ { "wait", { ms = 30 * MINUTE_MS } } })
      it_is:start()
      it_is:asked(1)
      it_is:asleep()
      it_is.clock.set_wall(it_is.clock.wall_ms() + by_ms)
      it_is.clock.advance(30 * MINUTE_MS - 1)
      assert.are.equal(1, #it_is.registry.requests)
      it_is.clock.advance(1)
      it_is:asked(2)
      assert.are.equal(30 * MINUTE_MS, it_is.watcher.last_wait.waited_ms)
      it_is:stop()
    end
  end))

  it("does not keep a failed model from being asked again in time", support.async(function()
    for _, by_ms in ipairs({ DAY_MS, -DAY_MS }) do
      local it_is = watched.new({ { err = "HTTP 500" } }, { wait = { min_ms = 1000,
        max_ms = 30 * MINUTE_MS } })
      it_is:start()
      it_is:asked(1)
      it_is:asleep()
      it_is.clock.set_wall(it_is.clock.wall_ms() + by_ms)
      it_is.clock.advance(4999)
      assert.are.equal(1, #it_is.registry.requests)
      it_is.clock.advance(1)
      it_is:asked(2)
      it_is:stop()
    end
  end))

  it("does not make an old sample pass for a fresh one", support.async(function()
    local it_is = watched.new({})
    it_is:start()
    it_is:asleep()
    local before = it_is.detector.history.latest()
    it_is.clock.set_wall(it_is.clock.wall_ms() - DAY_MS)
    it_is.clock.advance(30 * MINUTE_MS)
    it_is:asked(2)
    assert.are_not.equal(before.id, it_is.detector.history.latest().id)
    it_is:stop()
  end))

  it("does not change how long a pause lasts", support.async(function()
    for _, by_ms in ipairs({ DAY_MS, -DAY_MS }) do
      local it_is = watched.new({})
      it_is:start()
      it_is:asleep()
      it_is.watcher:pause({ for_ms = MINUTE_MS })
      support.wait_until(function()
        return it_is.watcher.status == "paused" and it_is.clock.sleepers() > 0
      end)
      it_is.clock.set_wall(it_is.clock.wall_ms() + by_ms)
      it_is.clock.advance(MINUTE_MS - 1)
      assert.is_truthy(it_is.watcher.paused)
      it_is.clock.advance(1)
      it_is:asked(2)
      assert.are.equal(MINUTE_MS, it_is:last("watcher.resumed").measurements.duration)
      it_is:stop()
    end
  end))

  it("is followed by a mute at once, since that is meant by it", support.async(function()
    local t = detection.setup({ rules = { detection.queue_rule() }, policy = {
      renotify_ms = 60000, mute = { { from = "00:00", to = "01:00" } } } })
    local function fired()
      return (select(2, t.names():gsub("alert_fired", "")))
    end
    t.pass(60, queues(200))
    assert.are.equal(0, fired())
    t.clock.set_wall(detection.WALL_MS + DAY_MS / 2)
    t.step(10)
    assert.are.equal(1, fired())
    t.clock.set_wall(detection.WALL_MS)
    t.pass(120, queues(200000))
    assert.are.equal(0, fired())
    t.clock.set_wall(detection.WALL_MS - DAY_MS / 2)
    t.step(10)
    assert.are.equal(1, fired())
  end))
end)
