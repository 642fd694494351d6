local async = require("runtime.async")
local support = require("support")
local uv = require("luv")

describe("async", function()
  it("waits for a callback and returns its values", support.async(function()
    local a, b, c = async.await(1000, function(done)
      local timer = uv.new_timer()
      timer:start(1, 0, function()
        timer:close()
        done(1, nil, 3)
      end)
    end)
    assert.are.same({ 1, nil, 3 }, { a, b, c })
  end))

  it("returns at once when the callback comes at once", support.async(function()
    assert.are.equal("now", async.await(nil, function(done)
      done("now")
    end))
  end))

  it("cancels the work and says ETIMEDOUT when the time is over", support.async(function()
    local cancelled = false
    local value, err, code = async.await(5, function()
      return function()
        cancelled = true
      end
    end)
    assert.is_nil(value)
    assert.are.equal("ETIMEDOUT: no answer within 5 ms", err)
    assert.are.equal("ETIMEDOUT", code)
    assert.is_true(cancelled)
  end))

  it("cancels what a task waits for, and the tasks it spawned", support.async(function()
    local log = {}
    local task = async.spawn(function()
      async.spawn(function()
        async.await(nil, function()
          return function()
            log[#log + 1] = "child"
          end
        end)
      end)
      local ok = pcall(async.sleep, 60000)
      log[#log + 1] = ok and "slept" or "woken"
      async.sleep(60000)
      log[#log + 1] = "unreachable"
    end)
    task:cancel()
    assert.are.same({ "child", "woken" }, log)
    assert.is_true(task.done)
  end))

  it("ends the children of a task that returns", support.async(function()
    local child
    async.spawn(function()
      child = async.spawn(function()
        async.sleep(60000)
      end)
    end)
    assert.is_true(child.done)
  end))

  it("gives an error with its traceback to on_error", support.async(function()
    local seen
    async.spawn(function()
      async.sleep(1)
      error("broken")
    end, {
      on_error = function(text)
        seen = text
      end,
    }):join()
    assert.matches("broken\nstack traceback", seen)
  end))

  it("lets a cancellation through async.pcall", support.async(function()
    local reached = false
    local task = async.spawn(function()
      async.pcall(async.sleep, 60000)
      reached = true
    end)
    task:cancel()
    assert.is_false(reached)
  end))

  it("says when a function does not return, and why, and lets that go on", support.async(function()
    local told = {}
    local function on_unwind(err)
      told[#told + 1] = err or "cancelled"
    end
    assert.are.same({ 1, 2 }, { async.unwinding(on_unwind, function(...)
      async.sleep(1)
      return ...
    end, 1, 2) })
    assert.are.same({}, told)
    local ok, err = async.pcall(async.unwinding, on_unwind, error, "broken")
    assert.is_false(ok)
    assert.matches("broken", err)
    assert.matches("^broken", told[1])
    local task = async.spawn(async.unwinding, nil, on_unwind, async.sleep, 60000)
    task:cancel()
    assert.is_true(task.done)
    assert.are.equal("cancelled", told[2])
  end))

  it("wakes all who wait for a signal, with its values", support.async(function()
    local signal, got = async.signal(), {}
    for i = 1, 2 do
      async.spawn(function()
        got[i] = signal:wait(1000)
      end)
    end
    signal:fire("now")
    assert.are.same({ "now", "now" }, got)
    local _, _, code = signal:wait(1)
    assert.are.equal("ETIMEDOUT", code)
  end))

  it("joins a task for its results", support.async(function()
    local task = async.spawn(function(x)
      async.sleep(1)
      return x * 2
    end, nil, 21)
    assert.are.same({ true, 42 }, { task:join(1000) })
  end))

  it("meters the tasks that are started with a meter, and theirs, and no others", support.async(
    function()
      local function busy(ms)
        local until_ns = uv.hrtime() + ms * 1e6
        while uv.hrtime() < until_ns do end
      end
      local meter, other = async.meter(), async.meter()
      local started_ms = async.now_ms()
      local tasks = {}
      async.metered(meter, function()
        for i = 1, 2 do
          tasks[i] = async.spawn(function()
            busy(10)
            async.sleep(1)
            -- Its own child counts, what another task does inside of it does not.
            async.spawn(busy, {}, 10):join()
            async.metered(other, function()
              async.spawn(busy, { detached = true }, 30)
            end)
          end, { detached = true })
        end
      end)
      async.spawn(busy, {}, 50)
      for _, task in ipairs(tasks) do
        assert(task:join())
      end
      assert.is_true(meter.run_ms >= 40, meter.run_ms)
      assert.is_true(other.run_ms >= 60, other.run_ms)
      assert.is_true(meter.run_ms + other.run_ms + 50 <= async.now_ms() - started_ms)
      local ok, err = pcall(async.metered, meter, function()
        error("raised", 0)
      end)
      assert.is_false(ok)
      assert.matches("^raised", err)
      local before = meter.run_ms
      async.spawn(busy, {}, 20):join()
      assert.are.equal(before, meter.run_ms)
    end))

  it("gives back what is left of a deadline", support.async(function()
    local deadline = async.deadline(50)
    assert.is_true(deadline:left_ms() > 0 and deadline:left_ms() <= 50)
    assert.are.equal(0, async.deadline(0):left_ms())
  end))
end)
