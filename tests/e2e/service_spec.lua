-- The host under a service manager: what it tells on the manager's real socket, from its start to
-- its end.

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local beamlens = require("support.beamlens")
local control = require("support.control")
local manager = require("support.manager")
local support = require("support")
local tree = require("support.tree")
local uv = require("luv")

-- A domain whose `count`th snapshot never ends.
local DOMAIN = [[
local count = 0
return {
  name = "calm", target = "none", title = "Calm",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function()
    count = count + 1
    while count == %s do end
    return { level = 1 }
  end,
  callbacks = {}, rules = {},
}
]]

local function start(m, opts)
  local root = tree.make({
    ["domains/calm.lua"] = DOMAIN:format(opts.endless or "-1"),
    ["watchers/w.lua"] = [[return {
      { name = "one", domain = "calm", sample = "1s", wait = { min = "1s", max = "1s" } },
      { name = "two", domain = "calm", sample = "1h", wait = { min = "1s", max = "1h" } } }]],
    ["clients.lua"] = opts.clients or 'return { primary = "rules", clients = {} }',
  })
  local env = { "NOTIFY_SOCKET=" .. m.path }
  for _, pair in ipairs(opts.env or {}) do
    env[#env + 1] = pair
  end
  return beamlens.start({ "run", root .. "/watchers/w.lua", "--log", "json" },
    { cwd = root, env = env })
end

describe("a service manager", function()
  it("is told when the watchers run, what they see, and of the end",
    support.async(function()
      for _, path in ipairs({ control.folder() .. "/notify",
        ("@beamlens-service-%d"):format(uv.os_getpid()) }) do
        local m = manager.open(path)
        local b = start(m, {})
        m:wait_for("READY=1")
        m:wait_for("STATUS=2 watchers")
        assert.are.equal(1, m:count("READY=1"))
        b:wait_for("watcher.started", function(event)
          return event.metadata.watcher == "two"
        end)
        b:kill("sigterm")
        assert.are.equal(0, b:wait_exit(60000))
        assert.are.equal(1, m:count("STOPPING=1"))
        assert.are.equal(0, m:count("WATCHDOG=1"))
        assert.are.equal("", b:stderr())
      end
    end, 130))

  it("gets signs of life for as long as the host runs", support.async(function()
    local m = manager.open(control.folder() .. "/notify")
    local b = start(m, { env = { "WATCHDOG_USEC=100000" } })
    m:wait_for("READY=1")
    m:wait_for("WATCHDOG=1", 5)
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit(60000))
  end, 130))

  it("is not told of what its environment does not ask for", support.async(function()
    local m = manager.open(control.folder() .. "/notify")
    local b = start(m, { env = { "WATCHDOG_USEC=100000", "WATCHDOG_PID=1" } })
    m:wait_for("READY=1")
    b:wait_for("sampler.sample", nil, 60000)
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit(60000))
    assert.are.equal(0, m:count("WATCHDOG=1"))
  end, 130))

  it("hears nothing any more from a host whose loop stands still", support.async(function()
    local m = manager.open(control.folder() .. "/notify")
    local b = start(m, { endless = 4, env = { "WATCHDOG_USEC=100000" } })
    m:wait_for("WATCHDOG=1", 3)
    b:wait_for("sampler.sample", nil, 60000)
    -- The signs end when the loop does; how many there were before is the machine's matter.
    local last, same = -1, 0
    support.wait_until(function()
      local count = m:count("WATCHDOG=1")
      same = count == last and same + 1 or 0
      last = count
      async.sleep(100)
      return same >= 20
    end, 60000, "the signs of life to end")
    b:kill("sigkill")
    b:wait_exit(60000)
  end, 130))

  it("hears that the host ends while a model is asked", support.async(function()
    local server = anthropic_server.start({ on_request = function()
      return { hang = true }
    end })
    local m = manager.open(control.folder() .. "/notify")
    local b = start(m, { clients = ([[return { clients = { { name = "Main",
      provider = "anthropic", options = { model = "m", base_url = "%s", api_key = "sk-spec" } }
      } }]]):format(server.url) })
    b:wait_for("llm.start", nil, 60000)
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit(60000))
    assert.are.equal(1, m:count("STOPPING=1"))
    server:stop()
  end, 130))
end)
