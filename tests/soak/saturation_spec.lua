local beam = require("support.beam")
local detect = require("support.detect")
local node = require("support.node")
local support = require("support")

describe("scheduler_saturation on a real node", function()
  it("is found with who is busiest, no burst is, and it ends", support.async(function()
    local n = node.start({ name = "saturated1" })
    n:eval("fl:idle(5000).")
    local ctx = beam.attach(n, { min_interval_ms = 2000 })
    ctx.sweep:start()
    local d = detect.start(ctx, "beam",
      { scheduler_saturation = { hold_ms = 5000, clear_hold_ms = 5000 } })
    local function samples(count)
      local last = d.history:latest()
      local from = last and last.mono_ms or -math.huge
      support.wait_until(function()
        local now = d.history:latest()
        return now and now.mono_ms - from >= count * 1000
      end, 120000, "samples")
    end
    samples(2)
    n:eval("fl:spins(40).")
    samples(20)
    n:eval("fl:stop().")
    samples(5)
    assert.are.same({}, d:findings())

    n:eval("[fl:spin(list_to_atom(\"spin_\" ++ integer_to_list(N))) || N <- lists:seq(1, 40)].")
    support.wait_until(function()
      return detect.alerts(d, "firing"):find("scheduler_saturation schedulers", 1, true)
    end, 180000, "the saturation")
    -- At first the last sweep may be of before.
    support.wait_until(function()
      for _, alert in ipairs(d.store:firing()) do
        if alert.type == "scheduler_saturation" then
          return alert.summary:find("; the busiest is spin_%d+ <[%d.]+>$")
        end
      end
    end, 60000, "who is busiest")
    n:eval("fl:stop().")
    support.wait_until(function()
      return #d:findings() == 0
    end, 60000, "the finding to end")
    assert.are.equal("scheduler_saturation schedulers", detect.alerts(d, "resolved"))
  end, 420))
end)
