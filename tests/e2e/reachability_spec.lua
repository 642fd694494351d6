-- A node that goes away, comes back, or falls silent.

local anthropic_server = require("support.anthropic_server")
local node = require("support.node")
local support = require("support")
local watch = require("support.watch")

local WATCHER = [[
  name = "beam", domain = "beam", sample = "1s", wait = { min = "1s", max = "2s" },
  rules = { node_down = { hold = "2s" }, node_unresponsive = { hold = "3s" } },
]]

local function of_type(kind)
  return function(event)
    return event.metadata.alert.type == kind
  end
end

describe("a node that goes away", function()
  it("is told at once, alerted with its last snapshots, and resolved when it is back",
    support.async(function()
      local server = anthropic_server.start({ on_request = function()
        return { tool = "wait", input = { ms = 1000 } }
      end })
      local n = node.start({ name = "away1" })
      local b = watch.start({ node = n, watchers = { WATCHER }, env = {
        "ANTHROPIC_API_KEY=sk-spec", "ANTHROPIC_BASE_URL=" .. server.url } })
      b:wait_for("sampler.sample")
      b:wait_for("watcher.wait")

      n:kill("sigkill")
      n:wait_exit()
      local down = b:wait_for("node.down", nil, 1000)
      assert.is_true(down.metadata.was_up)
      -- A request under way when the node went down may still come in.
      support.wait_until(function()
        return #b:all("beamlens.llm.start") == #b:all("beamlens.llm.stop")
      end)
      local requests = #server.requests

      local fired = b:wait_for("watcher.alert_fired", of_type("node_down"), 8000)
      local alert = fired.metadata.alert
      assert.are.equal("critical", alert.severity)
      assert.is_true(#alert.snapshots >= 1)
      assert.is_number(alert.snapshots[1].data.process_count)
      assert.are.equal(requests, #server.requests)

      node.start({ name = "away1" })
      b:wait_for("node.up", function(event)
        return event.metadata.creation ~= b:all("beamlens.node.up")[1].metadata.creation
      end, 30000)
      local resolved = b:wait_for("watcher.alert_resolved", of_type("node_down"), 5000)
      assert.are.equal(alert.id, resolved.metadata.alert.id)
      b:wait_for("node.restarted")
      support.wait_until(function()
        return #server.requests > requests
      end, 5000, "the model to be asked again")
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
      server:stop()
    end, 60))

  it("is unresponsive while it is stopped, blocks nothing, and recovers", support.async(function()
    local n, other = node.start({ name = "stopped1" }), node.start({ name = "stopped2" })
    local b = watch.start({ node = n, watchers = {
      WATCHER,
      ('name = "other", domain = "beam", sample = "1s", node = %q'):format(other.name),
    }, target = nil })
    b:wait_for("sampler.sample")
    n:kill("sigstop")
    b:wait_for("node.unresponsive", nil, 30000)
    local fired = b:wait_for("watcher.alert_fired", of_type("node_unresponsive"), 10000)
    assert.are.equal("warning", fired.metadata.alert.severity)
    n:kill("sigcont")
    local resolved = b:wait_for("watcher.alert_resolved", of_type("node_unresponsive"), 15000)
    assert.are.equal(fired.metadata.alert.id, resolved.metadata.alert.id)
    b:kill("sigint")
    assert.are.equal(0, b:wait_exit())
  end, 60))
end)
