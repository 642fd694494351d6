-- A domain that watches no node, as its user sees it: run with a model, and each command.

local anthropic_server = require("support.anthropic_server")
local beamlens = require("support.beamlens")
local json = require("runtime.json")
local node = require("support.node")
local support = require("support")
local tree = require("support.tree")

-- Reads a file: what a domain without a node does.
local DOMAIN = [[
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
    { name = "path", type = "string", default = "/nowhere" },
    { name = "full_at", type = "integer", default = 50, min = 1 },
    { name = "key", type = "string", default = "", secret = true },
  },
  metrics = { { name = "level", type = "integer" } },
  snapshot = level,
  callbacks = {
    { name = "tank_level", returns = { { name = "level", type = "integer" } }, doc = "Now.",
      run = level },
  },
  rules = {
    { type = "tank_full", hold = "0s", clear_hold = "0s", investigate = "return tank_level()",
      when = function(history)
        local now = history:latest().data.level
        return now > 50 and { subject = "tank", value = now } or nil
      end },
  },
}
]]

local CLIENTS = [[return { primary = "Main", clients = { {
  name = "Main", provider = "anthropic",
  options = { base_url = "%s", api_key = "sk-spec-key", model = "claude-haiku-4-5-20251001" },
} } }]]

local function files(root_settings, more)
  local all = {
    ["domains/tank.lua"] = DOMAIN,
    ["level"] = "7",
    ["watchers/tank.lua"] = ('return { domain = "tank", sample = "1s", settings = { %s } }')
      :format(root_settings or ""),
  }
  for path, text in pairs(more or {}) do
    all[path] = text
  end
  return tree.make(all)
end

describe("a domain without a node", function()
  it("runs with rules alone, alerts, and resolves, with no cookie in sight", support.async(
    function()
      local root = files('path = "level", key = "s3cret"')
      local b = beamlens.start({ "run", root .. "/watchers/tank.lua", "--log", "json" },
        { cwd = root, env = { "BEAMLENS_NODE=absent@localhost" } })
      local sample = b:wait_for("sampler.sample")
      assert.are.same({ level = 7 }, sample.metadata.data)
      assert.are.equal("tank", sample.metadata.node)
      support.write_file(root .. "/level", "70")
      local alert = b:wait_for("watcher.alert_fired").metadata.alert
      assert.are.equal("tank_full", alert.type)
      assert.are.equal(70, alert.executions[1].value.level)
      assert.are.same({
        "beamlens exec tank --set 'path=level' -e 'return tank_level()'",
        "beamlens snapshot tank --set 'path=level'",
      }, alert.next)
      support.write_file(root .. "/level", "8")
      b:wait_for("watcher.alert_resolved")
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
      assert.are.equal(0, #b:all("beamlens.node.down"))
      assert.is_nil((b:stdout() .. b:stderr()):find("s3cret", 1, true))
    end, 40))

  it("goes on beside a node that refuses, and tells the same failure ever more rarely",
    support.async(function()
      local n = node.start({ name = "refuses1" })
      local root = files('path = "gone"', { ["watchers/beam.lua"] =
        ('return { domain = "beam", node = "%s" }'):format(n.name) })
      local env = { "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=not-it" }
      local b = beamlens.start({ "run", root .. "/watchers", "--log", "json" },
        { cwd = root, env = env })
      assert.are.equal("ECOOKIE", b:wait_for("node.down").metadata.code)
      b:wait_for("sampler.failed", function(event)
        return event.measurements.in_a_row == 3
      end)
      support.write_file(root .. "/gone", "9")
      assert.are.equal(9, b:wait_for("sampler.sample").metadata.data.level)
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())

      os.remove(root .. "/gone")
      b = beamlens.start({ "run", root .. "/watchers/tank.lua", "--log", "text" }, { cwd = root })
      support.wait_until(function()
        return b:stdout():find("in a row", 1, true)
      end, 30000, "the tenth failure")
      local told = {}
      for line in b:stdout():gmatch("sampler%.failed: ([^\n]*)") do
        told[#told + 1] = line
      end
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
      assert.matches("^EFILE: gone: No such file or directory$", told[1])
      assert.matches("EFILE: gone: No such file or directory %(10 times in a row%)$", told[2])
      assert.are.equal(2, #told)
    end, 60))

  it("is judged by a model that is told of no node", support.async(function()
    local root = files('path = "level"')
    local server = anthropic_server.start({ on_request = function(_, count)
      return count == 1 and { tool = "execute", input = { reason = "how much?",
        code = "return tank_level().level" } }
        or { tool = "wait", input = { reason = "calm", ms = 60000 } }
    end })
    support.on_cleanup(function()
      server:stop()
    end)
    support.write_file(root .. "/clients.lua", CLIENTS:format(server.url))
    local b = beamlens.start({ "run", root .. "/watchers/tank.lua", "--log", "json",
      "--clients", root .. "/clients.lua" }, { cwd = root })
    local done = b:wait_for("watcher.execute_complete")
    assert.are.equal(7, done.metadata.value)
    b:wait_for("watcher.wait")
    local body = server.requests[1].body
    assert.matches("^Cycle 1 of watcher tank on tank%. ", json.encode(body.messages[1].content)
      :match("Cycle.*"))
    local system = json.encode(body.system)
    assert.is_truthy(system:find("You watch one running system from outside", 1, true))
    assert.is_nil(system:find("BEAM", 1, true))
    assert.is_nil(system:find("%f[%w]node"))
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit())
  end, 40))

  it("works in snapshot, exec, domains and doctor", support.async(function()
    local root = files()
    local function run(...)
      return { beamlens.run({ ... }, { cwd = root, env = { "BEAMLENS_DIR=" .. root } }) }
    end
    assert.are.same({ 0, '{"level":7}', "" }, run("snapshot", "tank", "--set", "path=level"))
    assert.are.same({ 0, "7", "" }, run("exec", "tank", "--set=path=level", "-e",
      "return tank_level().level"))
    assert.are.same({ 0, '{"level":7}',
      "beamlens: --node has no effect: domain tank watches no node\n" },
      run("snapshot", "tank", "--set", "path=level", "--node", "a@b"))
    local status, out, err = unpack(run("snapshot", "tank"))
    assert.are.same({ 1, "" }, { status, out })
    assert.matches("^beamlens: EFILE: /nowhere: No such file", err)
    status, out = unpack(run("domains", "tank"))
    assert.are.equal(0, status)
    assert.is_truthy(out:find('full_at = 50: a whole number, at least 1', 1, true))
    assert.is_nil(out:find("get_node_info", 1, true))
    status, out = unpack(run("doctor", "tank", "--set", "path=level"))
    assert.are.equal(0, status)
    assert.matches("^ok    snapshot of domain tank\nok    client", out)
    status, out = unpack(run("doctor", "tank"))
    assert.are.equal(1, status)
    assert.matches("^FAIL  snapshot EFILE: /nowhere", out)
    for text, given in pairs({
      ['there is no setting "pat"; did you mean "path"?'] = "pat=x",
      ['full_at is 0, a number; allowed: a whole number, at least 1'] = "full_at=0",
      ['full_at is "two", a string; allowed: a whole number'] = "full_at=two",
      ['"path" is not NAME=VALUE'] = "path",
    }) do
      status, out, err = unpack(run("snapshot", "tank", "--set", given))
      assert.are.same({ 2, "" }, { status, out })
      assert.is_truthy(err:find(text, 1, true), err)
    end
  end, 60))

  it("is checked by `check` and `run` alike, with what has no effect", support.async(function()
    local root = files('path = "level"', {
      ["watchers/odd.lua"] = 'return {\n  domain = "tank",\n  cookie_file = "x",\n'
        .. '  instructions = "look",\n  rules = {\n    tank_fill = { hold = "1s" },\n  },\n}',
      ["watchers/wrong.lua"] = 'return {\n  domain = "tank",\n  settings = { pathh = "x" },\n}',
      ["watchers/node.lua"] = 'return {\n  domain = "tank",\n  node = "a@b",\n}',
    })
    local file = root .. "/watchers/odd.lua"
    local wanted = {
      ":4: the instructions have no effect: the client is rules, not a model",
      ":3: cookie_file has no effect: domain tank watches no node",
      ':6: rules.tank_fill has no effect: domain tank has no such rule; did you mean "tank_full"?',
    }
    for _, command in ipairs({ { "check", file }, { "run", file, "--for", "100ms" } }) do
      local status, _, err = beamlens.run(command)
      assert.are.equal(0, status, err)
      for _, text in ipairs(wanted) do
        assert.is_truthy(err:find(file .. text, 1, true), err)
      end
    end
    for name, text in pairs({
      wrong = ':3: settings: there is no setting "pathh"; did you mean "path"?',
      node = ':3: node must be a label without "@", of at most 255 bytes: this domain watches no',
    }) do
      file = ("%s/watchers/%s.lua"):format(root, name)
      for _, command in ipairs({ { "check", file }, { "run", file, "--for", "100ms" } }) do
        local status, _, err = beamlens.run(command)
        assert.are.equal(2, status)
        assert.is_truthy(err:find(file .. text, 1, true), err)
      end
    end
  end, 60))
end)
