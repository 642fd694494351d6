local async = require("runtime.async")
local beam = require("support.beam")
local detect = require("support.detect")
local node = require("support.node")
local support = require("support")

describe("the rules of sup on a real node, as they are shipped", function()
  it("find a storm within its hold and two sweeps, and nothing else", support.async(function()
    local n = node.start({ name = "suprules1" })
    local ctx = beam.attach(n, { parts = { "supervisors" } })
    n:eval([[
      fl_sup:churn(churning_sup, 50), fl_sup:churn_with_ids(jobs_sup, 10),
      fl_sup:start(steady_sup, [{a, worker}, {b, {sup, steady_inner_sup, [{c, worker}]}}]).]])
    ctx.sweep:start()
    local d = detect.start(ctx, "sup", {}, nil, 10000)
    support.wait_until(function()
      return #d.history:sweeps() >= 2
    end, 30000, "two healthy sweeps")
    assert.are.same({}, d:findings())
    n:eval("fl_sup:storm(storm_sup, 0).")
    local started_ms = async.now_ms()
    -- It begins between two sweeps; two see it, and each is looked at by the next sample.
    support.wait_until(function()
      local finding = d:findings()[1]
      return finding and finding.phase == "firing"
    end, 60000, "the storm to fire")
    assert.is_true(async.now_ms() - started_ms < 52000)
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
