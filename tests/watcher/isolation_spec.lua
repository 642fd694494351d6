-- Watchers beside one whose loop fails each time, and one that is stuck: they notice nothing.

local async = require("runtime.async")
local stall_detector = require("runtime.watcher.stalls")
local support = require("support")
local watched = require("support.watched")

local STEPS, STEP_MS = 40, 20000

-- A watcher of this name over the bus and the alerts of `beside`.
local function another(name, script, beside)
  local it_is = watched.new(script)
  it_is.watcher.meta = { watcher = name, domain = "beam", node = "shop@db1" }
  if beside then
    it_is.watcher.telemetry, it_is.watcher.alerts = beside.telemetry, beside.alerts
  end
  return it_is
end

local function always(step)
  local script = {}
  for i = 1, 4 * STEPS do
    script[i] = step
  end
  return script
end

-- What a watcher did in some cycles of looking and waiting, `meanwhile` called in each of them.
local function story(steady, meanwhile)
  steady:start()
  for i = 1, STEPS do
    steady:asleep()
    meanwhile(i)
    steady.clock.advance(STEP_MS)
  end
  steady:asleep()
  steady:stop()
  local told = {}
  for _, event in ipairs(steady.events) do
    if event.metadata.watcher == "steady" then
      told[#told + 1] = ("%s %s %s"):format(event.event, tostring(event.metadata.tool),
        tostring(event.measurements.ms))
    end
  end
  return told
end

local function steady_script()
  local script = {}
  for i = 1, 2 * (STEPS + 1), 2 do
    script[i], script[i + 1] = { "get_alerts" }, { "wait", { ms = STEP_MS } }
  end
  return script
end

describe("a watcher beside others that fail", function()
  it("does all that it does alone", support.async(function()
    local alone = story(another("steady", steady_script()), function() end)
    assert.is_true(#alone > 5 * STEPS, #alone)

    local steady = another("steady", steady_script())
    local failing = another("failing", always(function()
      error("a bug in the loop")
    end), steady)
    local stuck = another("stuck", always(function()
      async.await(nil, function() end)
    end), steady)
    local stalls = stall_detector.new({ watchers = function()
      local list = { stuck.watcher, failing.watcher, steady.watcher }
      return function()
        return table.remove(list)
      end
    end })
    failing:start()
    stuck:start()
    local together = story(steady, function()
      failing.clock.advance(60000)
      stuck.clock.advance(60000)
      stalls:check()
    end)
    failing:stop()
    stuck:stop()
    assert.are.same(alone, together)
    local function count(name, watcher)
      local found = 0
      for _, event in ipairs(steady:all(name)) do
        found = found + (event.metadata.watcher == watcher and 1 or 0)
      end
      return found
    end
    assert.is_true(count("watcher.crashed", "failing") >= 15)
    assert.is_true(count("watcher.stalled", "stuck") >= 3)
    assert.are.equal(0, count("watcher.stalled", "failing"))
  end))
end)
