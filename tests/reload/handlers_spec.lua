local async = require("runtime.async")
local handlers = require("runtime.reload.handlers")
local support = require("support")
local telemetry = require("runtime.telemetry")

local function setup()
  local t = { failed = {}, seen = {} }
  t.bus = telemetry.new({ on_handler_error = function(id, event, err)
    t.failed[#t.failed + 1] = ("%s %s %s"):format(id, event, err:match("[^\n]*"))
  end })
  t.handlers = handlers.new(t.bus)
  function t.policy(...)
    return { file = "w.lua", handlers = { ... } }
  end
  function t.note(name)
    return { name, "own.event", function(event, measurements, metadata, config)
      t.seen[#t.seen + 1] = { name, event, measurements, metadata, config }
    end, { config = name } }
  end
  return t
end

describe("the handlers of watcher files", function()
  it("are attached while a policy has them, once for all of its file", support.async(function()
    local t = setup()
    local a, b = t.note("a"), t.note("b")
    t.handlers:set({ t.policy(a), t.policy(a, b) })
    t.bus:execute("own.event", { m = 1 }, { n = 2 })
    assert.are.same({ { "a", "own.event", { m = 1 }, { n = 2 }, { config = "a" } },
      { "b", "own.event", { m = 1 }, { n = 2 }, { config = "b" } } }, t.seen)
    t.handlers:set({ t.policy(b, t.note("a")) })
    assert.are.equal(2, #t.bus:list_handlers("own"))
    t.bus:execute("own.event", {}, {})
    assert.are.equal(4, #t.seen)
    t.handlers:set({})
    assert.are.same({}, t.bus:list_handlers("own"))
  end))

  it("are detached when they fail, at once or after a wait, until they are others",
    support.async(function()
      local t = setup()
      local late = { "late", "own.event", function()
        async.sleep(1)
        error("too late")
      end }
      t.handlers:set({ t.policy({ "now", "own.event", function()
        error("at once")
      end }, late) })
      t.bus:execute("own.event", {}, {})
      support.wait_until(function()
        return #t.failed == 2
      end)
      assert.matches("^w%.lua:now own%.event .*at once", t.failed[1])
      assert.matches("^w%.lua:late own%.event .*too late", t.failed[2])
      t.handlers:set({ t.policy(late) })
      assert.are.same({}, t.bus:list_handlers("own"))
      t.handlers:set({ t.policy(t.note("late")) })
      t.bus:execute("own.event", {}, {})
      assert.are.equal(1, #t.seen)
    end))

  it("may emit events themselves, and be swapped by one", support.async(function()
    local t = setup()
    t.handlers:set({ t.policy({ "outer", "own.event", function()
      t.bus:execute("own.inner", {}, {})
    end }, { "inner", "own.inner", function()
      t.handlers:set({ t.policy(t.note("after")) })
    end }) })
    t.bus:execute("own.event", {}, {})
    t.bus:execute("own.event", {}, {})
    assert.are.equal("after", t.seen[1][1])
    assert.are.same({}, t.failed)
  end))
end)
