-- Detection does not depend on a model: what the rules see is alerted and resolved by them.

local anthropic_server = require("support.anthropic_server")
local node = require("support.node")
local support = require("support")
local watch = require("support.watch")

local WATCHER = [[
  name = "beam", domain = "beam", sample = "1s",
  rules = { mailbox_growth = { hold = "2s", clear_hold = "1s" } },
]]

local function is_growth(subject)
  return function(event)
    local found = event.metadata.alert or event.metadata.finding
    return found.type == "mailbox_growth" and found.subject == subject
  end
end

describe("the rules", function()
  it("alert a growing mailbox although the model only waits, and resolve that alert alone",
    support.async(function()
      local n = node.start({ name = "rules1" })
      local server = anthropic_server.start({ on_request = function()
        return { tool = "wait", input = { reason = "calm", ms = 300000 } }
      end })
      local b = watch.start({ node = n, watchers = { WATCHER }, env = {
        "ANTHROPIC_API_KEY=sk-spec", "ANTHROPIC_BASE_URL=" .. server.url } })
      b:wait_for("watcher.wait")

      n:eval("fl:slow_consumer(orders_worker, 2000, 1).")
      n:eval("fl:slow_consumer(mail_worker, 2000, 1).")
      local pending = b:wait_for("finding.pending", is_growth("orders_worker"), 60000)
      local fired = b:wait_for("watcher.alert_fired", is_growth("orders_worker"), 60000)
      b:wait_for("watcher.alert_fired", is_growth("mail_worker"), 15000)
      -- Held for 2 s, in samples of one: at the third after it was seen, or the fourth.
      local samples, has_begun = 0, false
      for _, event in ipairs(b.events) do
        has_begun = has_begun or event == pending
        if event == fired then
          break
        elseif has_begun and event.event == "beamlens.sampler.sample" then
          samples = samples + 1
        end
      end
      assert.is_true(samples <= 4, samples)

      local alert = fired.metadata.alert
      assert.are.equal("rule", alert.source)
      assert.are.equal("firing", alert.status)
      assert.are.equal("new", fired.metadata.cause)
      assert.is_true(alert.corroborated)
      assert.is_true(#alert.snapshots >= 1)
      assert.is_true(#alert.executions >= 1)
      assert.is_nil(alert.executions[1].error)
      assert.is_true(alert.trend.per_s > 0 and alert.trend.per_s < 10000, alert.trend.per_s)
      assert.matches("orders_worker <%d+%.%d+%.%d+>: mailbox", alert.summary)

      -- The finding ended the model's wait: there is a second request, which tells of it.
      support.wait_until(function()
        return #server.requests >= 2
      end, 5000, "the wait to be ended by the finding")

      n:eval("exit(whereis(orders_worker), kill).")
      local resolved = b:wait_for("watcher.alert_resolved", nil, 20000)
      assert.are.equal(alert.id, resolved.metadata.alert.id)
      assert.are.equal("rule", resolved.metadata.alert.resolved_by)
      assert.are.equal(1, #b:all("beamlens.watcher.alert_resolved"))
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
      assert.are.equal("", b:stderr())
      server:stop()
    end, 120))
end)
