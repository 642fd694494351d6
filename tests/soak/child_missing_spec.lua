local async = require("runtime.async")
local beam = require("support.beam")
local detect = require("support.detect")
local node = require("support.node")
local support = require("support")

local SETTLED_MS = 31 * 60 * 1000

-- Only what has run for half an hour is missed.
describe("child_missing on a real node", function()
  it("finds a permanent child that does not come back, none that was stopped, and ends",
    support.async(function()
      local n = node.start({ name = "missing1" })
      n:eval([[
        fl_sup:flaky_sup(sick_sup, 100), fl_sup:start(well_sup, [{a, worker}, {b, worker}]),
        fl_sup:start(steady_sup, [{c, worker}]).]])
      local ctx = beam.attach(n, { parts = { "supervisors" } })
      ctx.sweep:start()
      local d = detect.start(ctx, "sup", { child_missing = { clear_hold_ms = 5000 } }, nil, 10000)
      async.sleep(SETTLED_MS)
      assert.are.same({}, d:findings())
      n:eval([[
        fl_sup:break(),
        exit(element(2, lists:keyfind(flaky, 1, supervisor:which_children(sick_sup))), kill),
        exit(element(2, lists:keyfind(c, 1, supervisor:which_children(steady_sup))), kill),
        ok = supervisor:terminate_child(well_sup, a).]])
      support.wait_until(function()
        return detect.firing(d) ~= ""
      end, 300000, "the missing child")
      assert.are.equal("child_missing sick_sup: flaky", detect.firing(d))
      n:eval("fl_sup:heal().")
      support.wait_until(function()
        return #d:findings() == 0
      end, 300000, "its return")
      assert.are.equal("child_missing sick_sup: flaky", detect.alerts(d, "resolved"))
    end, 2700))
end)
