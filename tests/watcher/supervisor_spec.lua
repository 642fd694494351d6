local async = require("runtime.async")
local moved = require("support.moved")
local supervisor = require("runtime.watcher.supervisor")
local support = require("support")

local function supervise(run)
  local clock, seen = moved.new(), {}
  local self = supervisor.new({
    title = function()
      return "w"
    end,
    run = function()
      return run(clock)
    end,
    clock = clock,
    emit = function(_, event, metadata, measurements)
      seen[#seen + 1] = { event = event:match("%w+_?%w*$"), metadata = metadata,
        measurements = measurements or {} }
    end,
  }, clock.await)
  return self, clock, seen
end

local function events(seen)
  local names = {}
  for i, each in ipairs(seen) do
    names[i] = each.event
  end
  return table.concat(names, " ")
end

describe("a supervisor", function()
  it("restarts a failing task after 1 s, doubling to 1 min, and says so", support.async(function()
    local runs = 0
    local self, clock, seen = supervise(function()
      runs = runs + 1
      error("boom " .. runs)
    end)
    self:start()
    for expected, delay_ms in ipairs({ 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000 }) do
      assert.are.equal(expected, runs)
      assert.are.equal(delay_ms, seen[#seen].measurements.restart_ms)
      assert.is_truthy(seen[#seen].metadata.error:find("boom " .. expected, 1, true))
      clock.advance(delay_ms - 1)
      assert.are.equal(expected, runs)
      clock.advance(1)
    end
    assert.are.equal(8, self.restarts)
    self:stop("done")
    assert.are.equal("loop_stopped", seen[#seen].event)
    assert.are.equal("done", seen[#seen].metadata.reason)
    clock.advance(1e6)
    assert.are.equal(9, runs)
  end))

  it("begins with 1 s again when the task ran for 5 min", support.async(function()
    local self, clock, seen = supervise(function(clock)
      clock.await(300000, function() end)
      error("late")
    end)
    self:start()
    for _ = 1, 3 do
      clock.advance(300000)
      assert.are.equal(1000, seen[#seen].measurements.restart_ms)
      clock.advance(1000)
      assert.are.equal("restarted", seen[#seen].event)
    end
    self:stop()
  end))

  it("has a task that rests go on, and counts its rests as time that it ran", support.async(
    function()
      local runs = 0
      local self, clock, seen = supervise(function()
        runs = runs + 1
        if runs == 1 or runs == 3 then
          error("boom")
        end
        return true
      end)
      self:start()
      clock.advance(1000)
      assert.are.equal(2, runs)
      assert.is_false(self:is_running())
      self:restart("it rests")
      clock.advance(300000)
      assert.are.equal("restarted", seen[#seen].event)
      self:go_on()
      assert.are.equal(3, runs)
      assert.are.equal(1000, seen[#seen].measurements.restart_ms)
      clock.advance(1000)
      self:stop()
      self:go_on()
      assert.are.equal(4, runs)
      assert.are.equal("crashed restarted crashed restarted loop_stopped", events(seen))
    end))

  it("starts a task that failed 15 times in a row every 10 min only, until it ran for 5 min",
    support.async(function()
      local runs, runs_for_ms = 0, 0
      local self, clock, seen = supervise(function(clock)
        runs = runs + 1
        clock.await(runs_for_ms, function() end)
        error("boom")
      end)
      self:start()
      clock.advance(0)
      while runs < 15 do
        assert.is_true(seen[#seen].measurements.restart_ms <= 60000)
        clock.advance(seen[#seen].measurements.restart_ms)
      end
      for _ = 1, 3 do
        assert.are.equal(600000, seen[#seen].measurements.restart_ms)
        clock.advance(599999)
        assert.are.equal("crashed", seen[#seen].event)
        runs_for_ms = runs == 17 and 300000 or 0
        clock.advance(1)
      end
      assert.are.equal("restarted", seen[#seen].event)
      clock.advance(300000)
      assert.are.equal("crashed", seen[#seen].event)
      assert.are.equal(1000, seen[#seen].measurements.restart_ms)
      self:stop()
    end))

  it("ends a task that is to restart, and says why it did", support.async(function()
    local runs, cancelled = 0, 0
    local self, clock, seen = supervise(function()
      runs = runs + 1
      async.await(nil, function()
        return function()
          cancelled = cancelled + 1
        end
      end)
    end)
    self:restart("not yet")
    self:start()
    assert.is_true(self:is_running())
    self:restart("it is stuck")
    self:restart("twice")
    assert.is_false(self:is_running())
    assert.are.same({ 1, 1 }, { runs, cancelled })
    assert.are.same({ "crashed", "it is stuck" }, { seen[1].event, seen[1].metadata.error })
    clock.advance(1000)
    assert.are.same({ 2, 1 }, { runs, cancelled })
    self:stop()
    assert.are.equal(2, cancelled)
    assert.are.equal("crashed restarted loop_stopped", events(seen))
  end))

  it("ends what a failed task had spawned before it starts it again", support.async(function()
    local runs, ended = 0, 0
    local self, clock = supervise(function()
      runs = runs + 1
      async.spawn(function()
        async.await(nil, function()
          return function()
            ended = ended + 1
          end
        end)
      end)
      error("boom")
    end)
    self:start()
    assert.are.equal(1, ended)
    clock.advance(1000)
    assert.are.equal(2, runs)
    assert.are.equal(2, ended)
    self:stop()
  end))

  it("cancels what the task waits for, says so once, and is done when the task returns",
    support.async(function()
      local cancelled = false
      local self, _, seen = supervise(function()
        async.await(nil, function()
          return function()
            cancelled = true
          end
        end)
      end)
      self:start()
      self:stop("reload")
      self:stop("again")
      assert.is_true(cancelled)
      assert.are.equal("loop_stopped", events(seen))
      assert.are.equal("reload", seen[1].metadata.reason)

      local other, _, seen_there = supervise(function() end)
      other:start()
      assert.are.equal("loop_stopped", events(seen_there))
      assert.are.equal("ended", seen_there[1].metadata.reason)
    end))
end)
