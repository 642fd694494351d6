-- Watchers of domains that watch no BEAM node, in the running host.

local alerts = require("runtime.alerts")
local app = require("runtime.app")
local clients = require("runtime.clients")
local clock = require("runtime.clock")
local loader = require("runtime.loader")
local parts = require("runtime.app.parts")
local policy = require("runtime.policy")
local sandbox = require("runtime.sandbox")
local support = require("support")
local telemetry = require("runtime.telemetry")
local tree = require("support.tree")

local DOMAIN = [[
return {
  name = "tap",
  target = "none",
  metrics = { { name = "drops", type = "integer" } },
  snapshot = function(target)
    assert(target.target == nil and target.sweep == nil)
    return { drops = 7 }
  end,
  callbacks = {
    { name = "tap_drops", returns = { { name = "drops", type = "integer" } }, doc = "Drops.",
      run = function() return { drops = 8 } end },
  },
  rules = {
    { type = "tap_drips", hold = "0s", title = "The tap drips",
      investigate = "return tap_drops()",
      when = function(history)
        local drops = history:latest().data.drops
        return drops > 5 and { subject = "tap", value = drops, threshold = 5, unit = "drops",
          summary = drops .. " drops" } or nil
      end },
  },
}
]]

-- A loader that finds the domain.
local function write_domain(source)
  return loader.new({ dir = tree.make({ ["domains/tap.lua"] = source or DOMAIN }),
    env = function() end })
end

local function read(source, files, node)
  return policy.parse(source, "watchers/spec.lua", {
    env = function(name)
      return name == "BEAMLENS_NODE" and node or nil
    end,
    watches_node = parts.watches_node(files),
  })
end

local function start(source)
  local files = write_domain()
  local t = { events = {}, bus = telemetry.new(), clock = clock.system() }
  t.bus:attach_many("spec", telemetry.event_names(), function(event, _, metadata)
    t.events[#t.events + 1] = { event = event:match("^beamlens%.(.*)"), metadata = metadata }
  end)
  t.alerts = alerts.new({ telemetry = t.bus, clock = t.clock })
  t.app = assert(app.new({
    policies = assert(read(source, files)),
    registry = assert(clients.new({ telemetry = t.bus, clock = t.clock, env = function() end })),
    loader = files, sandbox = sandbox.new({ telemetry = t.bus }),
    alerts = t.alerts, telemetry = t.bus, clock = t.clock,
    cookie = function()
      error("a domain without a node needs no cookie")
    end,
  }))
  support.on_cleanup(function()
    t.app:stop("spec")
  end)
  t.app:start({ on_refused = function(err)
    error(err)
  end })
  return t
end

describe("a watcher whose domain watches no node", function()
  it("needs no node: it samples, and its rules find, investigate and alert", support.async(
    function()
      local t = start('return { domain = "tap", name = "tap", sample = "1s" }')
      local fired = support.wait_until(function()
        return t.alerts:firing({ watcher = "tap", node = "tap" })[1]
      end, 15000, "an alert")
      assert.are.equal("tap_drips", fired.type)
      assert.are.same({ "beamlens exec tap -e 'return tap_drops()'", "beamlens snapshot tap" },
        fired.next)
      for _, one in ipairs(t.events) do
        assert.is_nil(one.event:match("^node%."))
        assert.are.equal("tap", one.metadata.node or "tap")
      end
      assert.are.same({ nodes = 0, up = 0, watchers = 1 }, t.app:extent())
      assert.matches("^watcher tap on tap: domain tap", t.app:introduction()[1])
    end, 30))

  it("says that there is no node to a script that asks for it, and not in the docs",
    support.async(function()
      local t = start('return { domain = "tap", name = "tap" }')
      local unit = t.app.units[1]
      assert.is_nil(unit.domain:docs():find("get_node_info", 1, true))
      assert.is_truthy(unit.domain:docs():find("get_current_time", 1, true))
      local record = unit.executor:run("return get_node_info()")
      assert.matches("^script:1: get_node_info: ENODE: this domain watches no node",
        record.error.message)
    end))

  it("takes `node` as its label, whatever --node and BEAMLENS_NODE say", support.async(function()
    local files = write_domain()
    local list = assert(read([[return {
      { domain = "tap", name = "a" }, { domain = "tap", name = "b", node = "kitchen" },
      { domain = "beam" } }]], files, "shop@db1"))
    assert.are.same({ "tap", "kitchen", "shop@db1" },
      { list[1].node, list[2].node, list[3].node })
    local _, errors = read('return {\n  domain = "tap",\n  node = "a@h",\n}', files)
    assert.matches("^watchers/spec.lua:3: node must be a label without \"@\"", errors[1])
    _, errors = read('return { domain = "beam" }', files)
    assert.matches("no node: set `node` here", errors[1])
  end))

  it("tells what is wrong with the domain, not that there is no node", support.async(function()
    local files = write_domain("return {")
    local list, errors = read('return {\n  domain = "tap",\n  node = "a@h",\n}', files)
    assert.is_nil(list)
    assert.are.equal(1, #errors)
    assert.matches("^watchers/spec.lua:2: .*/domains/tap.lua:1: unexpected symbol", errors[1])
  end))
end)
