local beam = require("support.beam")
local detect = require("support.detect")
local node = require("support.node")
local support = require("support")

describe("the rules of beam on a real node", function()
  it("find the sick among the healthy, and let go when they are gone", support.async(function()
    local n = node.start({ name = "rules1" })
    local ctx = beam.attach(n, { min_interval_ms = 2000 })
    ctx.sweep:start()
    local d = detect.start(ctx, "beam", {
      mailbox_growth = { hold_ms = 10000, clear_hold_ms = 3000 },
      mailbox_stuck = { hold_ms = 10000, clear_hold_ms = 3000 },
      runaway_process = { hold_ms = 15000, clear_hold_ms = 3000 },
    })
    n:eval([[
      fl:burst(healthy_burst, 20000, 900), fl:flusher(healthy_flusher, 300, 15000),
      fl:blocked(healthy_caller, 3000), fl:suspended(healthy_suspended, 3000),
      fl:worker(healthy_worker, 1000), fl:procs(300),
      fl:slow_consumer(sick_orders, 500, 10), fl:selective(sick_waiter, 5000),
      fl:spin(sick_spinner).]])
    local sick = "mailbox_growth sick_orders, mailbox_stuck sick_waiter, "
      .. "runaway_process sick_spinner"
    support.wait_until(function()
      return #d:findings() >= 3 and detect.firing(d) == sick
    end, 90000, "the sick to be found")
    for _, finding in ipairs(d:findings()) do
      assert.is_truthy(finding.subject:find("^sick_"), finding.summary)
      if finding.type == "mailbox_growth" then
        assert.is_true(math.abs(finding.per_s - 490) < 100, finding.per_s)
        assert.matches("^sick_orders <0%.%d+%.0>: mailbox .*, in timer:sleep/1", finding.summary)
      end
    end
    n:eval("fl:stop().")
    support.wait_until(function()
      return #d:findings() == 0
    end, 30000, "the findings to end")
    assert.are.equal("", n:log())
  end, 150))

  it("tell of limits before they are reached", support.async(function()
    local n = node.start({ name = "rules1", args = { "+P", "1024", "+Q", "1024", "+t", "20000" } })
    local ctx = beam.attach(n, { min_interval_ms = 2000 })
    ctx.sweep:start()
    local d = detect.start(ctx, "beam", {
      process_limit = { hold_ms = 3000, clear_hold_ms = 3000 },
      port_limit = { hold_ms = 3000, clear_hold_ms = 3000 },
      atom_limit = { hold_ms = 3000, clear_hold_ms = 3000 },
    })
    n:eval("fl:proc_leak(40), fl:port_leak(40), fl:atom_leak(300).")
    support.wait_until(function()
      return detect.firing(d) == "atom_limit atoms, port_limit ports, process_limit processes"
    end, 60000, "all three limits")
    n:eval("fl:stop().")
    support.wait_until(function()
      return detect.firing(d) == "atom_limit atoms"
    end, 30000, "what was freed")
  end, 120))
end)
