-- A host over its own limits, as its operator sees it: what is told, who is paused, what goes on.

local beamlens = require("support.beamlens")
local control = require("support.control")
local json = require("runtime.json")
local support = require("support")
local tree = require("support.tree")

-- Snapshots of `heavy` compute for most of the time between two of them.
local DOMAIN = [[
local beamlens = require("beamlens")
return {
  name = "%s", target = "none", title = "Spec",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function()
    for _ = 1, %d do
      local until_s = os.clock() + 0.01
      while os.clock() < until_s do end
      beamlens.sleep(1)
    end
    return { level = 1 }
  end,
  callbacks = {}, rules = {},
}
]]

local function start(args)
  local root = tree.make({
    ["clients.lua"] = 'return { primary = "rules", clients = {} }',
    ["domains/light.lua"] = DOMAIN:format("light", 0),
    ["domains/heavy.lua"] = DOMAIN:format("heavy", 80),
    ["watchers/w.lua"] = [[return {
      { name = "light", domain = "light", sample = "1s", wait = { min = "1s", max = "1s" } },
      { name = "heavy", domain = "heavy", sample = "1s", wait = { min = "1s", max = "1s" } } }]],
  })
  local env = { "BEAMLENS_RUNTIME_DIR=" .. control.folder() }
  local all = { "run", root .. "/watchers/w.lua", "--log", "json", unpack(args) }
  return beamlens.start(all, { cwd = root, env = env }), env
end

local function status(env)
  local code, text, stderr = beamlens.run({ "status", "--json" }, { env = env })
  assert.are.equal(0, code, stderr)
  return json.decode(text)
end

local function stop(b)
  b:kill("sigterm")
  assert.are.equal(0, b:wait_exit(60000))
  assert.are.equal("", b:stderr())
end

describe("a host over its limit", function()
  it("of CPU time pauses the watcher that takes it, and gets over it", support.async(function()
    local b, env = start({ "--max-cpu", "10" })
    local told = b:wait_for("host.over_limit", nil, 300000)
    assert.are.equal("cpu", told.metadata.resource)
    assert.are.equal("heavy", told.metadata.watcher)
    assert.is_true(told.measurements.held_ms >= 60000)
    local paused = b:wait_for("watcher.paused")
    assert.are.equal("heavy", paused.metadata.watcher)
    assert.are.equal("guardian", paused.metadata.by)
    local seen = status(env).watchers
    assert.are.equal("paused", seen[2].state.text)
    assert.are.equal("guardian", seen[2].paused.by)
    assert.is_nil(seen[1].paused)
    -- It is sampled ten times more rarely, and so takes a tenth.
    assert.are.equal("cpu", b:wait_for("host.recovered", nil, 120000).metadata.resource)
    stop(b)
  end, 500))

  it("of memory tells it and pauses one watcher after the other, and runs on", support.async(
    function()
      local b, env = start({ "--max-rss", "1MiB", "--max-cpu", "none" })
      support.wait_until(function()
        return #b:all("beamlens.watcher.paused") == 2
      end, 300000, "both watchers to be paused")
      assert.are.equal(1024 ^ 2, b:wait_for("host.over_limit").measurements.limit)
      assert.are.same({ "memory" }, status(env).host.limits.over)
      local code = beamlens.run({ "resume", "light" }, { env = env })
      assert.are.equal(0, code)
      assert.are.equal("operator", b:wait_for("watcher.resumed").metadata.by)
      local before = #b:all("beamlens.sampler.sample")
      support.wait_until(function()
        return #b:all("beamlens.sampler.sample") > before
      end, 120000, "another sample")
      stop(b)
    end, 500))
end)
