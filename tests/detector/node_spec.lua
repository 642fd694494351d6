-- Detection against a real node: the target, the sampler, rules, alerts and reachability together.

local alerts = require("runtime.alerts")
local clock = require("runtime.clock")
local detection = require("support.detection")
local detector = require("runtime.detector")
local node = require("support.node")
local reachability = require("runtime.reachability")
local support = require("support")
local targets = require("support.target")

local SNAPSHOT = [[
  Queue = fun(undefined) -> 0; (P) -> element(2, erlang:process_info(P, message_queue_len)) end,
  {Up, _} = erlang:statistics(wall_clock),
  #{mono_ms => erlang:monotonic_time(millisecond), uptime_s => Up / 1000,
    queue => Queue(erlang:whereis(slow))}.
]]

local DOMAIN = {
  name = "beam",
  rules = { { type = "mailbox_growth", severity = "warning", hold = "300ms", clear_hold = "200ms",
    when = function(history)
      local length = history:latest().data.queue
      return length > 100 and { subject = "slow", value = length, threshold = 100 } or nil
    end } },
  snapshot = function(_, ctx)
    return ctx.target:eval(SNAPSHOT)
  end,
}

local function watch(n)
  local t = detection.bus()
  local system = clock.system()
  t.target = targets.attach(n, { backoff_ms = { first = 50, max = 200 }, heartbeat_ms = 100,
    unresponsive_ms = 500 })
  t.alerts = alerts.new({ telemetry = t.bus, clock = system })
  t.detector = detector.new({
    meta = { watcher = "shop", domain = "beam", node = n.name }, domain = DOMAIN,
    ctx = { target = t.target, node = n.name, clock = system },
    policy = { sample_ms = 100, rules = {}, mute = {}, renotify_ms = 3600000 },
    alerts = t.alerts, telemetry = t.bus, clock = system,
  })
  t.reachability = reachability.new({
    target = t.target, alerts = t.alerts, telemetry = t.bus, clock = system,
    rules = { node_down = { hold_ms = 800 }, node_unresponsive = { hold_ms = 500 } },
    last_snapshots = function()
      return t.detector:last_snapshots()
    end,
  })
  t.detector:start()
  t.reachability:start()
  support.on_cleanup(function()
    t.detector:stop()
    t.reachability:stop()
  end)
  --- Waits until the newest alert of a type has a status; returns it whole.
  function t.wait(type_name, status)
    return support.wait_until(function()
      for _, alert in ipairs(t.alerts:list()) do
        if alert.type == type_name and alert.status == status then
          return t.alerts:get(alert.id)
        end
      end
    end, 10000, type_name .. " " .. status)
  end
  return t
end

describe("detection on a real node", function()
  it("follows a mailbox, an outage and the restart after it", support.async(function()
    local n = node.start({ name = "watched" })
    local t = watch(n)
    n:eval("register(slow, spawn(fun() -> receive never -> ok end end)).")
    n:eval("[slow ! I || I <- lists:seq(1, 500)].")
    local mailbox = t.wait("mailbox_growth", "firing")
    assert.equal(500, mailbox.figures[1].value)
    assert.equal(2, #mailbox.snapshots)
    assert.is_true(mailbox.snapshots[2].data.mono_ms - mailbox.snapshots[1].data.mono_ms >= 300)

    n:kill("sigkill")
    local down = t.wait("node_down", "firing")
    assert.equal("critical", down.severity)
    assert.equal(500, down.snapshots[3].data.queue)
    assert.equal("firing", t.alerts:get(mailbox.id).status)

    n:wait_exit()
    node.start({ name = "watched" })
    assert.equal("rule", t.wait("node_down", "resolved").resolved_by)
    local restarted = t.wait("node_restarted", "firing")
    assert.equal("info", restarted.severity)
    assert.equal(500, restarted.snapshots[3].data.queue)
    assert.equal("restart", t.wait("mailbox_growth", "resolved").resolved_by)
    support.wait_until(function()
      local sample = t.detector.history:latest()
      return sample and sample.data.queue == 0 and not sample.after_gap
    end)
    assert.same({}, t.detector:findings())
    for _, e in ipairs(t.events) do
      assert.not_equal("rule.failed", e.name)
    end
  end))

  it("tells a node that stands still, and that it goes on", support.async(function()
    local n = node.start({ name = "watched" })
    local t = watch(n)
    n:kill("sigstop")
    local alert = t.wait("node_unresponsive", "firing")
    n:kill("sigcont")
    assert.equal(alert.id, t.wait("node_unresponsive", "resolved").id)
    assert.equal(1, #t.alerts:list())
  end))
end)
