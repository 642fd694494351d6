local async = require("runtime.async")
local json = require("runtime.json")
local kept = require("runtime.watcher.kept")
local support = require("support")
local watched = require("support.watched")

local WAIT = { "wait", { ms = 60000, note = "look at the queue" } }

-- What is kept of a watcher, as it comes out of the store.
local function stored(t)
  local value = json.decode(json.encode(kept.export(t.watcher)))
  assert.is_nil(kept.mistake(value))
  return value
end

describe("a watcher that goes on where another one was", function()
  it("has its state with reason and age, its note, and what happened", support.async(function()
    local t = watched.new({ { "set_state", { state = "observing", reason = "odd" } }, WAIT })
    t:start()
    t:asked(2)
    t:asleep()
    t.watcher:happened("something")
    t:stop()
    local again = watched.new({ WAIT })
    kept.restore(again.watcher, stored(t))
    local name, detail = again.watcher:state()
    assert.are.equal("observing", name)
    assert.are.equal("odd", detail.reason)
    assert.are.equal(t.watcher.current.since_ms, detail.since_ms)
    again:start()
    local opening = again:asked(1).texts[1]
    for _, part in ipairs({ "Cycle 2 of", "observing", "odd", "look at the queue", "something",
      "beamlens was restarted", "set_state observing: odd" }) do
      assert.is_truthy(opening:find(part, 1, true), opening)
    end
    again:asleep()
    again:stop()
  end))

  it("stays paused until it is resumed", support.async(function()
    local t = watched.new({ WAIT })
    t.watcher:pause()
    local again = watched.new({ WAIT })
    kept.restore(again.watcher, stored(t))
    again:start()
    for _ = 1, 5 do
      async.sleep(0)
    end
    assert.are.equal(0, #again.registry.requests)
    assert.are.equal("paused", again.watcher.status)
    again.watcher:resume()
    again:asked(1)
    again:asleep()
    again:stop()
  end))

  it("stays paused for what is left of its time", support.async(function()
    local t = watched.new({ WAIT })
    t.watcher:pause({ by = "guardian", reason = "too much", for_ms = 60000 })
    local again = watched.new({ WAIT })
    again.clock.advance(20000)
    kept.restore(again.watcher, stored(t))
    local paused = again.watcher.paused
    assert.are.same({ "guardian", "too much", 40000 },
      { paused.by, paused.reason, paused.ends_ms - again.clock.now_ms() })
    again:start()
    again.clock.advance(40000)
    again:asked(1)
    again:asleep()
    again:stop()
  end))

  it("tells what is none", function()
    local good = { state = { name = "healthy", reason = "", source = "start", since_ms = 1,
      as_of_ms = 1 }, cycles = 0, notes = {}, journal = {} }
    assert.is_nil(kept.mistake(good))
    for field, value in pairs({ state = { name = "well" }, cycles = "many", notes = { 7 },
      note = "text", paused = true, journal = { { tool = 7 } } }) do
      local bad = json.decode(json.encode(good))
      bad[field] = value
      assert.is_string(kept.mistake(bad))
    end
    assert.is_string(kept.mistake(7))
  end)
end)
