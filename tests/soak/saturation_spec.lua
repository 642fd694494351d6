local beam = require("support.beam")
local beamlens = require("support.beamlens")
local detect = require("support.detect")
local node = require("support.node")
local support = require("support")
local watch = require("support.watch")

local HOLD_S = 15

local WATCHER = [[
  name = "beam", domain = "beam", sample = "5s", node = "%s",
  rules = {
    scheduler_saturation = { hold = "15s", clear_hold = "5s" },
    runaway_process = { hold = "20s", clear_hold = "5s" },
  },
]]

local function of_type(name)
  return function(event)
    local what = event.metadata.alert or event.metadata.finding
    return what and what.type == name
  end
end

describe("forty processes that spin on a node of 100 000", function()
  it("are named within 30 s of the rule's hold, and let go when they end", support.async(function()
    local n = node.start({ name = "saturated1", args = { "+P", "400000" } })
    n.eval_timeout_ms = 60000
    n:eval("bench:idle(100000).")
    local path = watch.file({ WATCHER:format(n.name) })
    local run = beamlens.start({ "run", path, "--log", "json" }, { env = {
      "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. n.cookie } })
    run:wait_for("sampler.sample", nil, 30000)
    -- Half of them registered, half without a name.
    n:eval([=[
      [fl:spin(list_to_atom("job_" ++ integer_to_list(I))) || I <- lists:seq(1, 20)],
      fl:spins(20).]=])
    run:wait_for("finding.pending", of_type("scheduler_saturation"), 120000)
    local fired = run:wait_for("watcher.alert_fired", of_type("scheduler_saturation"),
      (HOLD_S + 30) * 1000)
    local alert = fired.metadata.alert
    assert.equal("schedulers", alert.subject)
    assert.matches("40 processes in fl:loop/0, %d+ %% of the work: ", alert.summary)
    assert.equal(40, alert.figures[2].value)
    assert.matches("^erlang:process_info%(c:pid%(0,%d+,%d+%)", alert.next[1])
    -- What the script saw that ran when the finding fired: who they are, ten by name.
    local busiest = alert.executions[1].value.busiest[1]
    assert.equal("fl:loop/0", busiest.in_function)
    assert.equal(40, busiest.count)
    assert.equal(10, #busiest.processes)
    -- None of forty is a runaway of its own.
    assert.equal(0, #run:all("beamlens.watcher.alert_fired", of_type("runaway_process")))

    n:eval("fl:stop().")
    run:wait_for("watcher.alert_resolved", of_type("scheduler_saturation"), 120000)
    assert.equal(1, #run:all("beamlens.watcher.alert_fired"))
    assert.equal("", n:log())
    run:kill("sigterm")
    assert.equal(0, run:wait_exit())
  end, 420))
end)

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
          return alert.summary:find("%d+ processes in fl:loop/0, %d+ %% of the work")
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
