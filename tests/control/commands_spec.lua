-- What a host answers, over real watchers on a moved clock.

local async = require("runtime.async")
local commands = require("runtime.control.commands")
local json = require("runtime.json")
local pauses = require("runtime.watcher.pause")
local support = require("support")
local watched = require("support.watched")

-- A host of these watchers, each a `support.watched` with its unit.
local function host(names)
  local units, reloads = {}, {}
  local first
  for i, name in ipairs(names) do
    local it_is = watched.new({})
    local watcher, node = name:match("^([^@]*)@(.*)$")
    it_is.watcher.meta = { watcher = watcher, domain = "beam", node = node }
    first = first or it_is
    units[i] = { meta = it_is.watcher.meta, watcher = it_is.watcher, it_is = it_is }
  end
  local answer = commands.new({
    app = { units = units, order = {} }, clock = first.clock, args = { "beamlens", "run" },
    reload = function(reason)
      reloads[#reloads + 1] = reason
      return nil, "nothing can be reloaded", "ENOSYS"
    end,
  })
  return function(request)
    request.v = 1
    return answer(request)
  end, units, reloads
end

describe("a command to a host", function()
  it("finds its watcher by name, by name@node, or by name and node", support.async(function()
    local ask = host({ "beam@a@h", "beam@b@h", "ets@a@h" })
    assert.are.equal("a@h", ask({ command = "pause", watcher = "ets" }).node)
    assert.are.equal("b@h", ask({ command = "pause", watcher = "beam@b@h" }).node)
    assert.are.equal("a@h", ask({ command = "pause", watcher = "beam", node = "a@h" }).node)
  end))

  it("is refused where its watcher is not clear, with those that are meant", support.async(
    function()
      local ask = host({ "beam@b@h", "beam@a@h", "ets@a@h" })
      local _, err, code = ask({ command = "wake", watcher = "beam" })
      assert.are.equal("EAMBIGUOUS", code)
      assert.are.equal("2 watchers are named beam: say which with --node, or one of "
        .. "beam@a@h, beam@b@h", err)
      local many = {}
      for i = 1, 20 do
        many[i] = ("beam@n%02d@h"):format(i)
      end
      _, err = host(many)({ command = "wake", watcher = "beam" })
      assert.matches("^20 watchers .* beam@n08@h and 12 more$", err)
    end))

  it("goes to all watchers that a name with * means, but those with which it makes no sense",
    support.async(function()
      local ask, units = host({ "beam-1@a@h", "beam-2@a@h", "beam-2@b@h", "ets@a@h", "be.m@a@h" })
      assert.are.same({ watchers = { "beam-1@a@h", "beam-2@a@h", "beam-2@b@h" }, left_out = 0 },
        ask({ command = "pause", watcher = "beam-*" }))
      assert.are.equal("operator", units[3].watcher.paused.by)
      assert.is_nil(units[4].watcher.paused)
      assert.are.same({ watchers = { "ets@a@h", "be.m@a@h" }, left_out = 2 },
        ask({ command = "wake", watcher = "*", node = "a@h" }))
      assert.are.same({ watchers = { "beam-2@b@h" }, left_out = 0 },
        ask({ command = "resume", watcher = "*@b@h", node = "b@h" }))
      assert.are.same({ watchers = { "be.m@a@h" }, left_out = 0 },
        ask({ command = "pause", watcher = "*e.m" }))
      assert.are.equal("EPAUSED", (select(3, ask({ command = "wake", watcher = "beam-1*" }))))
      local _, err, code = ask({ command = "wake", watcher = "postgres*" })
      assert.are.equal("EUNKNOWN", code)
      assert.matches("^no watcher postgres%* runs", err)
    end))

  it("to very many watchers lets the loop go on meanwhile", support.async(function()
    local it_is = watched.new({})
    local unit = { meta = it_is.watcher.meta, watcher = it_is.watcher }
    local units = {}
    for i = 1, 1000 do
      units[i] = unit
    end
    local answer = commands.new({ app = { units = units, order = {} }, clock = it_is.clock,
      args = {} })
    local woken
    local task = async.spawn(function()
      woken = answer({ v = 1, command = "wake", watcher = "*" })
    end)
    assert.is_nil(woken)
    assert(task:join())
    assert.are.equal(1000, #woken.watchers)
  end))

  it("is refused where there is no such watcher, with the nearest name", support.async(function()
    local ask = host({ "beam@a@h" })
    local _, err, code = ask({ command = "pause", watcher = "baem" })
    assert.are.equal("EUNKNOWN", code)
    assert.are.equal('no watcher baem runs; did you mean "beam"?', err)
    _, err = ask({ command = "pause", watcher = "postgres" })
    assert.are.equal("no watcher postgres runs; `beamlens status` lists them", err)
    _, err = ask({ command = "pause", watcher = "beam", node = "c@h" })
    assert.matches("^no watcher beam on c@h runs", err)
  end))

  it("is refused where it makes no sense", support.async(function()
    local ask = host({ "beam@a@h" })
    for _, request in ipairs({ { command = "pause" }, { command = "pause", watcher = 7 },
      { command = "pause", watcher = "beam", node = {} },
      { command = "pause", watcher = "beam", for_ms = -1 },
      { command = "pause", watcher = "beam", for_ms = "1h" } }) do
      assert.are.equal("EREQUEST", (select(3, ask(request))))
    end
    local _, err, code = ask({ command = ("x"):rep(1000) })
    assert.are.equal("ECOMMAND", code)
    assert.is_true(#err < 100)
    assert.are.equal("ENOTPAUSED", (select(3, ask({ command = "resume", watcher = "beam" }))))
    ask({ command = "pause", watcher = "beam" })
    assert.are.equal("EPAUSED", (select(3, ask({ command = "wake", watcher = "beam" }))))
  end))

  it("to reload goes to the host's one hook, and its refusal comes back", support.async(function()
    local ask, _, reloads = host({ "beam@a@h" })
    local result, err, code = ask({ command = "reload" })
    assert.are.same({ nil, "nothing can be reloaded", "ENOSYS" }, { result, err, code })
    assert.are.same({ "the control socket" }, reloads)
  end))
end)

describe("a host's status", function()
  it("has a watcher's state with its age, who says so, and no secret in its reason", support.async(
    function()
      local ask, units = host({ "beam@a@h" })
      local it_is = units[1].it_is
      local at_ms = it_is.clock.wall_ms()
      it_is.watcher:change_state("warning", "password: hunter2secret is in the log", "model")
      it_is.clock.advance(90000)
      it_is.watcher:confirm_state()
      local seen = ask({ command = "status" }).watchers[1]
      assert.are.equal("warning", seen.state.name)
      assert.are.equal("model", seen.state.source)
      assert.are.equal(at_ms, seen.state.since_ms)
      assert.are.equal(at_ms + 90000, seen.state.as_of_ms)
      assert.is_nil(seen.state.reason:find("hunter2secret", 1, true))
      assert.matches("redacted", seen.state.reason)
    end))
end)

describe("the status of very many watchers", function()
  it("is whole, and the loop goes on while it is made", support.async(function()
    local it_is = watched.new({})
    local unit = { meta = it_is.watcher.meta, watcher = it_is.watcher }
    local units = {}
    for i = 1, 10000 do
      units[i] = unit
    end
    local app = { units = units, order = {} }
    local answer = commands.new({ app = app, clock = it_is.clock, args = {} })
    local seen
    local task = async.spawn(function()
      seen = answer({ v = 1, command = "status" })
    end)
    assert.is_nil(seen)
    app.units = {} -- what changes meanwhile does not matter
    assert(task:join())
    assert.are.equal(10000, #seen.watchers)
    assert.are.equal("beam", seen.watchers[10000].watcher)
  end))
end)

describe("a pause", function()
  local function setup()
    local it_is = watched.new({})
    it_is:start()
    it_is:asleep()
    return it_is
  end

  it("stops decisions until it is resumed, and is told", support.async(function()
    local it_is = setup()
    it_is.watcher:pause()
    support.wait_until(function()
      return it_is.watcher.status == "paused"
    end)
    local asked = #it_is.registry.requests
    it_is.clock.advance(86400000)
    it_is.watcher:wake()
    support.wait_until(function()
      return it_is.clock.sleepers() > 0
    end)
    assert.are.equal(asked, #it_is.registry.requests)
    assert.are.equal("paused", it_is.watcher.status)
    assert.are.equal("operator", it_is:last("watcher.paused").metadata.by)
    it_is.watcher:resume()
    it_is:asked(asked + 1)
    assert.are.equal(86400000, it_is:last("watcher.resumed").measurements.duration)
    it_is.watcher:resume()
    assert.are.equal(1, #it_is:all("watcher.resumed"))
    it_is:stop()
  end))

  it("goes on in another process, for what is left of its time", support.async(function()
    local it_is = watched.new({})
    local now_ms = it_is.clock.wall_ms()
    local kept = json.decode((json.encode({ by = "guardian", reason = "too heavy",
      since_ms = now_ms - 60000, until_ms = now_ms + 5000, began_ms = 1e9, ends_ms = 1e9 })))
    it_is.watcher.paused = pauses.restore(it_is.watcher, kept)
    it_is:start()
    support.wait_until(function()
      return it_is.watcher.status == "paused" and it_is.clock.sleepers() > 0
    end)
    it_is.clock.advance(5000)
    it_is:asked(1)
    assert.are.equal(65000, it_is:last("watcher.resumed").measurements.duration)
    it_is:stop()
    assert.is_false(pauses.restore(it_is.watcher, nil))
    assert.is_false(pauses.restore(it_is.watcher, false))
    local by_hand = pauses.restore(it_is.watcher, true)
    assert.are.same({ "operator" }, { by_hand.by, by_hand.ends_ms })
  end))

  it("with a time ends by itself", support.async(function()
    local it_is = setup()
    local asked = #it_is.registry.requests
    it_is.watcher:pause({ by = "guardian", reason = "too heavy", for_ms = 600000 })
    support.wait_until(function()
      return it_is.watcher.status == "paused" and it_is.clock.sleepers() > 0
    end)
    local told = it_is:last("watcher.paused")
    assert.are.same({ 600000, "guardian", "too heavy" }, { told.measurements.for_ms,
      told.metadata.by, told.metadata.reason })
    it_is.clock.advance(599999)
    assert.are.equal("paused", it_is.watcher.status)
    it_is.clock.advance(1)
    it_is:asked(asked + 1)
    assert.are.equal("time", it_is:last("watcher.resumed").metadata.by)
    assert.is_false(it_is.watcher.paused)
    it_is:stop()
  end))
end)
