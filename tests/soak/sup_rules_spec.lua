local alerts = require("runtime.alerts")
local beam = require("support.beam")
local clock = require("runtime.clock")
local detector = require("runtime.detector")
local node = require("support.node")
local support = require("support")
local telemetry = require("runtime.telemetry")

describe("the rules of sup on a real node, as they are shipped", function()
  it("find a storm within its hold and two sweeps, and nothing else", support.async(function()
    local n = node.start({ name = "suprules1" })
    local ctx = beam.attach(n, { parts = { "supervisors" } })
    local bus, system = telemetry.new(), clock.system()
    local d = detector.new({
      meta = { watcher = "sup", domain = "sup", node = ctx.node },
      domain = beam.domain("sup"), ctx = ctx, telemetry = bus, clock = system,
      alerts = alerts.new({ telemetry = bus, clock = system }),
      policy = { sample_ms = 10000, renotify_ms = 3600000, mute = {}, rules = {} },
      executor = {
        run = function()
          return { id = "0123456789abcdef", value = {}, calls = 0, duration_ms = 1 }
        end,
      },
    })
    support.on_cleanup(function()
      d:stop()
    end)
    n:eval([[
      fl_sup:churn(churning_sup, 50), fl_sup:churn_with_ids(jobs_sup, 10),
      fl_sup:start(steady_sup, [{a, worker}, {b, {sup, steady_inner_sup, [{c, worker}]}}]).]])
    ctx.sweep:start()
    d:start()
    support.wait_until(function()
      return #d.history:sweeps() >= 2
    end, 30000, "two healthy sweeps")
    assert.are.same({}, d:findings())
    n:eval("fl_sup:storm(storm_sup, 0).")
    local started_ms = system.now_ms()
    -- It begins between two sweeps; two see it, and each is looked at by the next sample.
    support.wait_until(function()
      local finding = d:findings()[1]
      return finding and finding.phase == "firing"
    end, 60000, "the storm to fire")
    assert.is_true(system.now_ms() - started_ms < 52000)
    assert.are.equal(1, #d:findings())
    local finding = d:findings()[1]
    assert.are.same({ "restart_storm", "storm_sup: stormy", "warning" },
      { finding.type, finding.subject, finding.severity })
    n:eval("ok = supervisor:terminate_child(storm_sup, stormy).")
    support.wait_until(function()
      return #d:findings() == 0
    end, 90000, "the finding to end")
  end, 240))
end)
