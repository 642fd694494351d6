-- `beamlens run` with node = "cluster:NAME": one node is named, its peers are watched, too.

local beamlens = require("support.beamlens")
local node = require("support.node")
local support = require("support")
local watch = require("support.watch")

local WATCHER = [[
  name = "beam", domain = "beam", sample = "1s", node = "cluster:%s",
  rules = { node_down = { hold = "2s" } },
]]

local function of(name)
  return function(event)
    return event.metadata.node == name
  end
end

local function start(seed, args)
  local path = watch.file({ WATCHER:format(seed.name) })
  return beamlens.start({ "run", path, "--log", "json", unpack(args or {}) }, { env = {
    "ERL_EPMD_PORT=" .. seed.epmd_port, "BEAMLENS_COOKIE=" .. seed.cookie } })
end

describe("beamlens run with a cluster", function()
  it("shows figures of all its nodes, and the end of one as that one's alone",
    support.async(function()
      local a = node.start({ name = "clu1" })
      local b, c = node.start({ name = "clu2" }), node.start({ name = "clu3" })
      for _, peer in ipairs({ b, c }) do
        assert.equal("pong", a:eval(("net_adm:ping('%s')."):format(peer.name)))
      end
      local run = start(a)
      for _, n in ipairs({ a, b, c }) do
        local sample = run:wait_for("sampler.sample", of(n.name), 20000)
        assert.is_number(sample.metadata.data.process_count)
        assert.equal(1, #run:all("beamlens.watcher.started", of(n.name)))
      end
      assert.equal(2, #run:all("beamlens.node.joined"))

      b:kill("sigkill")
      b:wait_exit()
      assert.is_true(run:wait_for("node.down", of(b.name), 5000).metadata.was_up)
      local fired = run:wait_for("watcher.alert_fired", nil, 15000)
      assert.equal("node_down", fired.metadata.alert.type)
      assert.equal(b.name, fired.metadata.alert.node)
      assert.is_true(#fired.metadata.alert.snapshots >= 1)

      -- The others go on as if nothing had happened.
      local seen = #run.events
      for _, n in ipairs({ a, c }) do
        support.wait_until(function()
          for i = seen + 1, #run.events do
            local event = run.events[i]
            if event.event == "beamlens.sampler.sample" and event.metadata.node == n.name then
              return true
            end
          end
        end, 10000, "a sample of " .. n.name)
      end
      assert.equal(0, #run:all("beamlens.node.down", of(a.name)))
      assert.equal(0, #run:all("beamlens.node.down", of(c.name)))
      assert.equal(1, #run:all("beamlens.watcher.alert_fired"))
      run:kill("sigterm")
      assert.equal(0, run:wait_exit())
      -- That no model is set up is the only thing to say.
      assert.is_nil(run:stderr():find("failed", 1, true))
    end, 60))

  it("watches each member in all five domains over one connection, and those that join later",
    support.async(function()
      local domains, bodies = { "beam", "ets", "gc", "ports", "sup" }, {}
      local a, b = node.start({ name = "clu6" }), node.start({ name = "clu7" })
      assert.equal("pong", a:eval(("net_adm:ping('%s')."):format(b.name)))
      for i, domain in ipairs(domains) do
        bodies[i] = ('domain = "%s", sample = "1s", node = "cluster:%s"'):format(domain, a.name)
      end
      local run = beamlens.start({ "run", watch.file(bodies), "--log", "json" }, { env = {
        "ERL_EPMD_PORT=" .. a.epmd_port, "BEAMLENS_COOKIE=" .. a.cookie } })
      local function watched(n)
        for _, domain in ipairs(domains) do
          run:wait_for("sampler.sample", function(event)
            return event.metadata.node == n.name and event.metadata.domain == domain
          end, 30000)
        end
        assert.equal("[beamlens1@localhost]", n:eval("nodes(hidden)."))
        assert.equal(5, #run:all("beamlens.watcher.started", of(n.name)))
        assert.equal(1, #run:all("beamlens.node.up", of(n.name)))
      end
      watched(a)
      watched(b)
      local c = node.start({ name = "clu8" })
      assert.equal("pong", c:eval(("net_adm:ping('%s')."):format(b.name)))
      watched(c)
      assert.equal(0, #run:all("beamlens.watcher.alert_fired"))
      run:kill("sigterm")
      assert.equal(0, run:wait_exit())
    end, 120))

  it("is said in the text log in a few lines, each with its node", support.async(function()
    local a, b = node.start({ name = "clu4" }), node.start({ name = "clu5" })
    assert.equal("pong", a:eval(("net_adm:ping('%s')."):format(b.name)))
    local run = start(a, { "--log", "text" })
    support.wait_until(function()
      return run:stdout():find("[beam " .. b.name .. "] figures", 1, true)
    end, 20000)
    local text = run:stdout()
    assert.matches("watcher beam on the cluster of clu4@localhost: domain beam", text)
    assert.matches("found clu5@localhost in the cluster of clu4@localhost", text)
    run:kill("sigterm")
    assert.equal(0, run:wait_exit())
  end, 40))

  it("refuses a cluster that names no node, with file and line", support.async(function()
    local path = watch.file({ 'name = "x", domain = "beam",\nnode = "cluster:shop"' })
    local status, _, err = beamlens.run({ "run", path })
    assert.equal(2, status)
    assert.matches(path:gsub("%p", "%%%0") .. ":3: node \"cluster:shop\" names no node", err)
    local file = watch.file({ 'name = "x", domain = "beam"' })
    status, _, err = beamlens.run({ "run", file, "--node", "nohost" })
    assert.equal(2, status)
    assert.matches('%-%-node: "nohost" is not a node\'s name', err)
  end))
end)
