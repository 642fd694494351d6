-- Reloading with a cluster that is followed: what is changed for its members, too.

local node = require("support.node")
local reloading = require("support.reloading")
local support = require("support")

describe("a reload of a watcher that follows a cluster", function()
  it("changes the watchers of all members, adds one to each, and lets go of them",
    support.async(function()
      local a, b = node.start({ name = "rc1a" }), node.start({ name = "rc1b" })
      assert.equal("pong", a:eval(("net_adm:ping('%s')."):format(b.name)))
      local function file(domain, where, more)
        return ('return { domain = %q, node = %q, sample = "1s", %s }'):format(domain, where,
          more or "")
      end
      local h = reloading.start({ ["watchers/beam.lua"] = file("beam", "cluster:" .. a.name) }, {
        env = { "ERL_EPMD_PORT=" .. a.epmd_port, "BEAMLENS_COOKIE=" .. a.cookie } })
      local function sampled(watcher, name)
        h.b:wait_for("sampler.sample", function(event)
          return event.metadata.watcher == watcher and event.metadata.node == name
        end, 60000)
      end
      sampled("beam", b.name)
      local function names(...)
        local list = {}
        for i, watcher in ipairs({ ... }) do
          list[2 * i - 1], list[2 * i] = watcher .. " " .. a.name, watcher .. " " .. b.name
        end
        return list
      end
      h:write("watchers/beam.lua", file("beam", "cluster:" .. a.name, 'wait = { max = "1m" }'))
      local applied = h:applied()
      assert.are.same({ names("beam"), {}, {} },
        { applied.changed, applied.started, applied.stopped })
      h:write("watchers/ets.lua", file("ets", "cluster:" .. a.name))
      assert.are.same(names("ets"), h:applied().started)
      sampled("ets", b.name)
      assert.are.equal(2, #h.b:all("beamlens.node.up"))

      -- The first node alone: the other one is not watched any more.
      h:write("watchers/ets.lua", file("ets", a.name))
      applied = h:applied()
      assert.are.same({ "ets " .. b.name }, applied.stopped)
      h:write("watchers/beam.lua", file("beam", a.name))
      applied = h:applied()
      assert.are.same({ "beam " .. b.name }, applied.stopped)
      assert.are.same({ "beam " .. a.name }, applied.changed)
      local samples = #h.b:all("beamlens.sampler.sample")
      support.wait_until(function()
        return #h.b:all("beamlens.sampler.sample") >= samples + 4
      end, 30000, "samples of what is left")
      local all = h.b:all("beamlens.sampler.sample")
      for i = samples + 1, #all do
        assert.are.equal(a.name, all[i].metadata.node)
      end
      assert.are.same({}, h.b:all("beamlens.node.left"))

      -- And all of it again.
      h:write("watchers/beam.lua", file("beam", "cluster:" .. a.name))
      h:applied()
      support.wait_until(function()
        return #h.b:all("beamlens.node.joined") == 2
      end, 60000, "the member to be found again")
      assert.are.equal(0, #h.b:all("beamlens.watcher.crashed"))
      h:stop()
    end, 150))
end)
