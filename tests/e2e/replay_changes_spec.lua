-- Sessions in which the run was changed from outside: files that were saved, commands, a store of
-- before, a service manager, hooks that were cut.

local beamlens = require("support.beamlens")
local control = require("support.control")
local manager = require("support.manager")
local node = require("support.node")
local reloading = require("support.reloading")
local sessions = require("support.sessions")
local store = require("runtime.store")
local support = require("support")
local tap = require("support.tap")
local uv = require("luv")

local WAIT_MS = 30000
local KEY, HEADER = "a-key-written-in-a-file", "a-header-written-in-a-file"

-- Waits for the reload of a file.
local function applied(h, name)
  return h:applied(function(metadata)
    for _, path in ipairs(metadata.files) do
      if path:sub(-#name) == name then
        return true
      end
    end
  end)
end

local function command(env, ...)
  return beamlens.run({ ... }, { env = env, timeout_ms = WAIT_MS })
end

-- Waits for one more event of a watcher than there are.
local function await_more(b, name, watcher)
  local function count()
    return #b:all("beamlens." .. name, function(event)
      return event.metadata.watcher == watcher
    end)
  end
  local before = count()
  support.wait_until(function()
    return count() > before
  end, WAIT_MS, name)
end

describe("a recorded session with reloads", function()
  it("applies the versions that were recorded, good, broken and mended", support.async(function()
    local path = sessions.path()
    local first = reloading.watcher()
    local h = reloading.start({ ["watchers/w.lua"] = first }, { options = { "--record", path } })
    h:running()
    h:write("watchers/w.lua", reloading.watcher('instructions = "another one"'))
    applied(h, "watchers/w.lua")
    h:write("watchers/w.lua", "return {\n  domain = nil ..\n}\n")
    h:failed("w.lua")
    h:write("watchers/w.lua", reloading.watcher('name = "mended"'))
    applied(h, "watchers/w.lua")
    h:write("watchers/second.lua", reloading.watcher())
    applied(h, "watchers/second.lua")
    h:write("clients.lua", ([[return { primary = "rules", clients = { { name = "Main",
      provider = "anthropic", options = { model = "m", api_key = %q,
        headers = { ["X-Team"] = %q } } } } }]]):format(KEY, HEADER))
    applied(h, "clients.lua")
    h:shell("rm watchers/second.lua")
    applied(h, "watchers/second.lua")
    h:stop()
    -- The files of the start, and nothing of what came later.
    h:write("watchers/w.lua", first)
    os.remove(h:path("clients.lua"))
    sessions.assert_replays(path, h.b:stdout())
    local text = sessions.read(path)
    assert.matches('"kind":"file"', text)
    assert.is_nil(text:find(KEY, 1, true))
    assert.is_nil(text:find(HEADER, 1, true))
  end, 120))

  it("has the time that a file read, which goes on while it runs", support.async(function()
    local path = sessions.path()
    local first = reloading.watcher()
    local h = reloading.start({ ["watchers/w.lua"] = first }, { options = { "--record", path } })
    h:running()
    h:write("watchers/w.lua", [[
      local begun = os.time()
      repeat until os.time() ~= begun
      ]] .. reloading.watcher('name = "at" .. os.time() .. os.date("!%S", begun)'))
    applied(h, "watchers/w.lua")
    h:stop()
    h:write("watchers/w.lua", first)
    sessions.assert_replays(path, h.b:stdout())
    assert.matches('"kind":"time"', sessions.read(path))
  end, 90))

  it("reloads by a signal, and by a domain that needs a node's answer", support.async(function()
    local n = node.start({ name = "changes1" })
    local path = sessions.path()
    local h = reloading.start({ ["watchers/w.lua"] = reloading.watcher(),
      ["watchers/beam.lua"] = ('return { domain = "beam", node = %q, sample = "1s" }'):format(
        n.name) }, { options = { "--record", path }, env = { "ERL_EPMD_PORT=" .. n.epmd_port,
        "BEAMLENS_COOKIE=" .. n.cookie } })
    h.b:wait_for("node.up", nil, WAIT_MS)
    h.b:wait_for("watcher.wait", function(event)
      return event.metadata.domain == "beam"
    end, WAIT_MS)
    local before = sessions.read(h:path("watchers/w.lua"))
    h:write("watchers/w.lua", reloading.watcher('name = "other"'))
    h.b:kill("sighup")
    applied(h, "watchers/w.lua")
    n:stop()
    h.b:wait_for("node.down", function(event)
      return event.metadata.was_up
    end, WAIT_MS)
    node.start({ name = "changes1", cookie = n.cookie })
    h.b:wait_for("node.restarted", nil, 60000)
    h:stop()
    h:write("watchers/w.lua", before)
    sessions.assert_replays(path, h.b:stdout())
  end, 150))
end)

describe("a recorded session with commands", function()
  it("pauses, resumes and wakes as it was told, and opens no socket", support.async(function()
    local path = sessions.path()
    local env = { "BEAMLENS_RUNTIME_DIR=" .. control.folder() }
    local h = reloading.start({ ["watchers/one.lua"] = reloading.watcher(),
      ["watchers/two.lua"] = reloading.watcher() }, { options = { "--record", path }, env = env })
    h:running()
    local b = h.b
    assert.are.equal(0, (command(env, "pause", "one")))
    b:wait_for("watcher.paused", nil, WAIT_MS)
    await_more(b, "watcher.wait", "two")
    assert.are.equal(1, (command(env, "wake", "one")))
    assert.are.equal(0, (command(env, "status")))
    assert.are.equal(0, (command(env, "resume", "one")))
    b:wait_for("watcher.resumed", nil, WAIT_MS)
    await_more(b, "watcher.wait", "one")
    assert.are.equal(0, (command(env, "wake", "two")))
    assert.are.equal(2, (command(env, "resume", "nobody")))
    assert.are.equal(0, (command(env, "pause", "two", "--for", "1s")))
    b:wait_for("watcher.resumed", function(event)
      return event.metadata.watcher == "two"
    end, WAIT_MS)
    h:write("watchers/one.lua", reloading.watcher('instructions = "more"'))
    assert.are.equal(0, (command(env, "reload")))
    applied(h, "watchers/one.lua")
    h:stop()
    h:write("watchers/one.lua", reloading.watcher())
    sessions.assert_replays(path, b:stdout())
    local status, replayed, stderr = command({ "BEAMLENS_RUNTIME_DIR=/proc/none" }, "run",
      "--replay", path, "--log", "json")
    assert.are.equal(0, status)
    assert.are.equal(b:stdout(), replayed)
    assert.is_nil(stderr:find("socket", 1, true))
  end, 120))

  it("told a service manager, whom a replay does not tell", support.async(function()
    local m = manager.open("@beamlens-replay-" .. uv.os_getpid())
    local path = sessions.path()
    local h = reloading.start({ ["watchers/w.lua"] = reloading.watcher() }, {
      options = { "--record", path },
      env = { "NOTIFY_SOCKET=" .. m.path, "WATCHDOG_USEC=1000000" } })
    h:running()
    m:wait_for("READY=1")
    m:wait_for("WATCHDOG=1")
    h.b:kill("sighup")
    m:wait_for("RELOADING=1")
    h:stop()
    local told = #m:read()
    sessions.assert_replays(path, h.b:stdout())
    assert.are.equal(told, #m:read())
  end, 90))
end)

-- Starts the host of `tap` with a recording.
local function start_tap(t, path, place)
  return beamlens.start({ "run", t.root .. "/watchers/w.lua", "--log", "json", "--store",
    place or t.store, "--record", path }, { cwd = t.root, env = { "ANTHROPIC_API_KEY=sk-spec",
    "ANTHROPIC_BASE_URL=" .. t.server.url } })
end

local function stop(b)
  b:kill("sigterm")
  assert.are.equal(0, sessions.wait_exit(b, WAIT_MS), b:stderr())
end

-- Waits until the store has an alert.
local function await_kept(path, id)
  support.wait_until(function()
    local opened = assert(store.read(path))
    local rows = assert(opened:query("SELECT 1 FROM alerts WHERE id = ?1", id))
    opened:close()
    return rows[1]
  end, WAIT_MS, "the alert in the store")
end

local function is_there(path)
  return uv.fs_stat(path) ~= nil
end

describe("a recorded session with a store", function()
  it("begins with the states and alerts that it had, and makes none in a replay", support.async(
    function()
      local steps = { { tool = "take_snapshot", input = { reason = "look" } },
        { tool = "set_state", input = { state = "observing", reason = "it drips" } } }
      local at = 0
      local t = tap.setup({ replies = function()
        at = at + 1
        return steps[at] or { tool = "wait", input = { reason = "calm", ms = 1000, note = "seal" } }
      end })
      local b = start_tap(t, sessions.path())
      b:wait_for("watcher.wait", nil, WAIT_MS)
      t.level(20)
      local fired = b:wait_for("watcher.alert_fired", nil, WAIT_MS).metadata.alert
      await_kept(t.store, fired.id)
      stop(b)

      local path = sessions.path()
      b = start_tap(t, path)
      b:wait_for("sampler.sample", nil, WAIT_MS)
      t.level(1)
      local ended = b:wait_for("watcher.alert_resolved", nil, WAIT_MS).metadata.alert
      assert.are.equal(fired.id, ended.id)
      stop(b)
      t.server:stop()
      for _, suffix in ipairs({ "", "-wal", "-shm", ".lock" }) do
        os.remove(t.store .. suffix)
      end
      sessions.assert_replays(path, b:stdout())
      assert.is_false(is_there(t.store))
      assert.is_false(is_there(t.store .. ".lock"))
    end, 120))

  it("that fails and works again, replays without one", support.async(function()
    local t = tap.setup({})
    local place = t.root .. "/broken.db"
    assert(uv.fs_mkdir(place, 448))
    local path = sessions.path()
    local b = start_tap(t, path, place)
    b:wait_for("store.failed", nil, WAIT_MS)
    b:wait_for("watcher.wait", nil, WAIT_MS)
    assert(uv.fs_rmdir(place))
    b:wait_for("store.recovered", nil, 60000)
    stop(b)
    os.remove(place)
    sessions.assert_replays(path, b:stdout())
    assert.is_false(is_there(place))
  end, 120))

  it("that was broken, is set aside once", support.async(function()
    local t = tap.setup({})
    support.write_file(t.store, ("this is no database\n"):rep(500))
    local path = sessions.path()
    local b = start_tap(t, path)
    b:wait_for("store.recovered", nil, WAIT_MS)
    b:wait_for("watcher.wait", nil, WAIT_MS)
    stop(b)
    support.write_file(t.store, "left alone")
    sessions.assert_replays(path, b:stdout())
    assert.are.equal("left alone", sessions.read(t.store))
  end, 120))
end)

describe("a recorded session with a hook that ran too long", function()
  it("cuts it where it was cut", support.async(function()
    local path = sessions.path()
    local h = reloading.start({ ["watchers/w.lua"] = reloading.watcher([[
      on_state = function() while true do end end,
      handlers = { { "loop", "beamlens.watcher.wait", function() while true do end end } },
    ]]), ["level"] = "20" }, { options = { "--record", path } })
    h.b:wait_for("handler.failed", nil, WAIT_MS)
    h.b:wait_for("watcher.alert_fired", nil, WAIT_MS)
    h:stop()
    sessions.assert_replays(path, h.b:stdout())
    assert.matches('"kind":"overrun"', sessions.read(path))
  end, 90))
end)
