-- Sessions of a domain without a node: what it reads, what hooks send, what a store restores.

local anthropic_server = require("support.anthropic_server")
local beamlens = require("support.beamlens")
local sessions = require("support.sessions")
local support = require("support")
local tree = require("support.tree")

-- Reads a file, in an order that only `pairs` decides, and asks a service.
local DOMAIN = [[
local beamlens = require("beamlens")

local function level(target)
  local file, err = io.open(target.settings.path)
  if not file then
    return nil, "EFILE: " .. err, "EFILE"
  end
  local text = file:read("*a")
  file:close()
  return { level = tonumber(text) }
end

return {
  name = "tank",
  target = "none",
  title = "Tank",
  settings = {
    { name = "path", type = "string", default = "level" },
    { name = "url", type = "string", default = "" },
  },
  metrics = { { name = "level", type = "integer" } },
  snapshot = level,
  callbacks = {
    { name = "tank_level", returns = { { name = "level", type = "integer" } }, doc = "Now.",
      run = level },
    { name = "tank_mood", returns = { { name = "status", type = "integer" } }, doc = "Asks.",
      run = function(target)
        local answer, err = beamlens.http.request({ url = target.settings.url .. "/mood" })
        if not answer then
          return nil, err
        end
        return { status = answer.status }
      end },
  },
  rules = {
    { type = "tank_full", hold = "0s", clear_hold = "0s",
      investigate = "return { tank_level(), tank_mood() }",
      when = function(history)
        local found = {}
        for name in pairs({ north = 1, south = 2, east = 3, west = 4, above = 5, below = 6 }) do
          found[#found + 1] = { subject = name, value = history:latest().data.level }
        end
        return history:latest().data.level > 50 and found or nil
      end },
  },
}
]]

local WATCHER = [[
return {
  domain = "tank", sample = "1s", wait = { min = "1s", max = "2s" },
  settings = { path = "level", url = %q },
  on_alert = function(alert)
    require("beamlens").http.request({ url = %q .. "/page?token=very-secret-token",
      body = alert.title })
  end,
}
]]

local CLIENTS = [[return { primary = "Main", clients = { {
  name = "Main", provider = "anthropic",
  options = { base_url = %q, api_key = "sk-spec-key-0123456789", price = { input = 1, output = 5 },
    model = "claude-haiku-4-5-20251001" },
} }, limits = { usd_per_day = 0.5 } }]]

-- A service that is asked, paged, and a model; `server.requests` are all of them.
local function service()
  local server = anthropic_server.start({ on_request = function(request, count)
    if request.path ~= "/v1/messages" then
      return { status = 200, body = "{}" }
    elseif count % 3 == 1 then
      return { tool = "execute", input = { reason = "how much?", code = "return tank_level()" } }
    end
    return { tool = "wait", input = { reason = "calm", ms = 1000 } }
  end })
  support.on_cleanup(function()
    server:stop()
  end)
  return server
end

local function files(server)
  return tree.make({
    ["domains/tank.lua"] = DOMAIN,
    ["level"] = "7",
    ["watchers/tank.lua"] = WATCHER:format(server.url, server.url),
    ["clients.lua"] = CLIENTS:format(server.url),
  })
end

-- Runs until an alert has come and gone. Returns the process.
local function record(root, path, args)
  local b = beamlens.start({ "run", root .. "/watchers/tank.lua", "--log", "json", "--record", path,
    unpack(args or {}) }, { cwd = root })
  b:wait_for("sampler.sample", nil, 20000)
  support.write_file(root .. "/level", "70")
  b:wait_for("watcher.alert_fired", nil, 20000)
  support.write_file(root .. "/level", "8")
  b:wait_for("watcher.alert_resolved", nil, 20000)
  os.remove(root .. "/level")
  local failed = b:wait_for("sampler.failed", nil, 20000)
  assert.matches("^EFILE: level: No such file", failed.metadata.error)
  support.write_file(root .. "/level", "8")
  b:kill("sigterm")
  assert.are.equal(0, sessions.wait_exit(b, 20000), b:stderr())
  return b
end

describe("a recorded session without a node", function()
  it("replays what its domain read, and asks and pages nobody", support.async(function()
    local server = service()
    local root = files(server)
    local path = sessions.path()
    local b = record(root, path)
    local asked = #server.requests
    assert.is_true(asked > 6)
    os.remove(root .. "/level")
    sessions.assert_replays(path, b:stdout())
    assert.are.equal(asked, #server.requests)
    assert.is_nil(sessions.read(path):find("very-secret-token", 1, true))
  end, 90))

  it("replays what its models cost, and what a store had kept", support.async(function()
    local server = service()
    local root = files(server)
    local args = { "--clients", root .. "/clients.lua", "--store", root .. "/store.db" }
    record(root, sessions.path(), args)
    local path = sessions.path()
    local b = record(root, path, args)
    server:stop()
    sessions.assert_replays(path, b:stdout())
    assert.matches('"kind":"query"', sessions.read(path))
    assert.is_nil(sessions.read(path):find("sk-spec-key-0123456789", 1, true))
  end, 120))

  it("answers a live run in the place of its model, and then leaves it to the rules", support.async(
    function()
      local server = service()
      local root = files(server)
      local path = sessions.path()
      record(root, path, { "--clients", root .. "/clients.lua" })
      server:stop()
      support.write_file(root .. "/again.lua", ([[return { clients = { {
        name = "Again", provider = "replay", options = { file = %q } } } }]]):format(path))
      local b = beamlens.start({ "run", root .. "/watchers/tank.lua", "--log", "json",
        "--clients", root .. "/again.lua" }, { cwd = root })
      local done = b:wait_for("watcher.execute_complete", nil, 20000)
      assert.are.equal(8, done.metadata.value.level)
      local stop = b:wait_for("llm.stop", nil, 20000)
      assert.are.equal("replay", stop.metadata.provider)
      assert.are.equal("replay", stop.metadata.model)
      assert.are.equal(0, stop.measurements.cost_usd)
      local failed = b:wait_for("llm.exception", nil, 20000)
      assert.matches("all %d+ answers to the watcher \"tank\" are given", failed.metadata.message)
      b:wait_for("watcher.llm_error", nil, 20000)
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit(20000))
    end, 90))
end)
