-- How the host ends while everything is under way: a model that does not answer, scripts that do
-- not end, calls to a node that has stopped.

local anthropic_server = require("support.anthropic_server")
local beamlens = require("support.beamlens")
local node = require("support.node")
local support = require("support")
local tree = require("support.tree")
local uv = require("luv")
local watch = require("support.watch")

local DOMAIN = [[return {
  name = "calm", target = "none", title = "Calm",
  metrics = { { name = "level", type = "integer" } }, callbacks = {}, rules = {},
  snapshot = function() return { level = 1 } end,
}]]

-- A watcher of the model at `url`.
local function watcher(name, url, more)
  return ([[name = "%s", domain = "beam", sample = "1s", client = "Main", %s
    clients = { primary = "Main", clients = { { name = "Main", provider = "anthropic",
      options = { model = "m", api_key = "sk-spec", base_url = %q } } } }]]):format(name,
    more or "", url)
end

-- Models that hang, and that have scripts run which never end: one computes, one sleeps, and one
-- waits for the node.
local function models()
  local function serve(on_request)
    local server = anthropic_server.start({ on_request = on_request })
    support.on_cleanup(function()
      server:stop()
    end)
    return server.url
  end
  local function script(code)
    return serve(function()
      return { tool = "execute", input = { reason = "spec", code = code } }
    end)
  end
  return {
    hang = serve(function()
      return { hang = true }
    end),
    spin = script("while true do end"),
    sleep = script("while true do sleep(1000) end"),
    call = script("while true do pcall(beam_get_memory) end"),
  }
end

local function start(n)
  local url = models()
  local long = 'execute = { wall = "1m", cpu = "1m", callbacks = 1000000 },'
  return watch.start({ node = n, env = { "ANTHROPIC_API_KEY=sk-spec" }, watchers = {
    watcher("hang", url.hang), watcher("spin", url.spin, long),
    watcher("sleep", url.sleep, long), watcher("call", url.call, long) } })
end

local ENDLESS = 'require("beamlens").sleep(3600000)'

-- A host with a handler that has this body, called when its watcher stops.
local function start_rude(body)
  local root = tree.make({
    ["clients.lua"] = 'return { primary = "rules", clients = {} }',
    ["domains/calm.lua"] = DOMAIN,
    ["watchers/w.lua"] = ([[return { domain = "calm", sample = "1s", handlers = {
      { "rude", "beamlens.watcher.loop_stopped", function() %s end } } }]]):format(body),
  })
  local b = beamlens.start({ "run", root .. "/watchers/w.lua", "--log", "json" }, { cwd = root })
  b:wait_for("watcher.wait", nil, 60000)
  return b
end

-- Opens a FIFO for writing once somebody reads it.
local function await_reader(fifo)
  local flags = uv.constants.O_WRONLY + uv.constants.O_NONBLOCK
  return support.wait_until(function()
    return (uv.fs_open(fifo, flags, 0))
  end, 60000, "a reader of the FIFO")
end

local function of(name)
  return function(event)
    return event.metadata.watcher == name
  end
end

-- Waits until all of it is under way.
local function await_all(b)
  b:wait_for("llm.start", of("hang"), 60000)
  b:wait_for("watcher.execute_start", of("spin"), 60000)
  b:wait_for("watcher.execute_start", of("sleep"), 60000)
  b:wait_for("watcher.execute_start", of("call"), 60000)
end

describe("the host", function()
  it("ends with 0 at the first signal, whatever is under way, and tells of each watcher",
    support.async(function()
      local n = node.start({ name = "shutdown1" })
      local b = start(n)
      await_all(b)
      -- The script's next call, those of the samplers and the heartbeat get no answer.
      n:kill("sigstop")
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit(60000))
      for _, name in ipairs({ "hang", "spin", "sleep", "call" }) do
        assert.are.equal("sigterm", b:wait_for("watcher.loop_stopped", of(name)).metadata.reason)
      end
      assert.are.equal(0, #b:all("beamlens.watcher.crashed"))
      assert.are.equal("", b:stderr())
      n:kill("sigcont")
    end, 200))

  it("does not wait for what a user's file left: a handler that does not return, an open handle",
    support.async(function()
      for _, body in ipairs({ ENDLESS, 'require("luv").new_timer()',
        'require("luv").new_tcp():bind("127.0.0.1", 0)' }) do
        local b = start_rude(body)
        b:kill("sigterm")
        assert.are.equal(0, b:wait_exit(60000), body)
        assert.are.equal("", b:stderr())
      end
    end, 200))

  it("ends at once at the second signal", support.async(function()
    -- The first signal's handling reads a FIFO that is never written: it cannot end by itself.
    local fifo = uv.cwd() .. "/" .. support.tmp_path("shutdown-fifo")
    assert(node.run_program("mkfifo", { fifo }) == 0)
    support.on_cleanup(function()
      os.remove(fifo)
    end)
    for _, signal in ipairs({ "sigint", "sigterm" }) do
      local b = start_rude(("io.open(%q):read()"):format(fifo))
      b:kill("sigterm")
      local writer = await_reader(fifo)
      b:kill(signal)
      assert.are.equal(130, b:wait_exit(60000), signal)
      uv.fs_close(writer)
    end
  end, 200))

  it("ends at the second signal while a call that cannot be cut holds it up", support.async(
    function()
      local root = tree.make({
        ["clients.lua"] = 'return { primary = "rules", clients = {} }',
        ["domains/calm.lua"] = DOMAIN,
        ["watchers/w.lua"] = [[return { domain = "calm", sample = "1s", guard = function()
          return ("a"):rep(60):find(("a?"):rep(60) .. ("a"):rep(60)) end }]],
      })
      local b = beamlens.start({ "run", root .. "/watchers/w.lua", "--log", "json" },
        { cwd = root })
      support.wait_until(function()
        return b:stderr():find("in one call that cannot be cut", 1, true)
      end, 60000, "the watchdog")
      b:kill("sighup") -- does not count
      b:kill("sigterm")
      b:kill("sigint")
      assert.are.equal(130, b:wait_exit(60000))
    end, 200))
end)
