local async = require("runtime.async")
local detection = require("support.detection")
local record = require("runtime.alerts.record")
local support = require("support")

local setup, queue_rule = detection.setup, detection.queue_rule

local function queues(a, b)
  return { queues = { orders = a, mail = b } }
end

describe("a detector", function()
  it("takes a growing queue from pending to its alert after the hold", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.step(0, queues(5))
    assert.equal("", t.names())
    t.step(10, queues(200))
    assert.equal("finding.pending", t.names())
    assert.equal("mailbox_growth orders pending", t.findings())
    t.pass(20, queues(250))
    assert.equal("", t.names())
    t.step(10, queues(300))
    assert.equal("finding.firing, alert_fired new", t.names())
    assert.equal("mailbox_growth orders firing", t.findings())
    assert.equal(200 + 100, t.last[1].measurements.value)
  end))

  it("fires an alert that says what, since when, and what to do", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    local first = t.step(0, queues(200))
    t.pass(20, queues(250))
    local last = t.step(10, queues(300))
    local alert = t.alerts:get(t.alerts:firing()[1].id)
    assert.equal("warning", alert.severity)
    assert.equal("orders", alert.subject)
    assert.equal("Mailbox grows: orders", alert.title)
    assert.equal("orders <0.5.0>: mailbox growth 300 messages (bound 100 messages), +2.5/s, "
      .. "for 30 s, limit in about 6 m", alert.summary)
    assert.same({ { name = "mailbox_growth", value = 300, unit = "messages" } }, alert.figures)
    assert.same({ per_s = 2.5, eta_s = 360 }, alert.trend)
    assert.equal("rule", alert.source)
    assert.is_true(alert.corroborated)
    assert.same({ first.id, last.id }, { alert.snapshots[1].id, alert.snapshots[2].id })
    assert.equal(200, alert.snapshots[1].data.queues.orders)
    assert.equal(first.at_ms, alert.snapshots[1].captured_at)
    assert.same({ "beamlens exec beam --node shop@db1 -e 'return beam_top_processes(5)'",
      "beamlens snapshot beam --node shop@db1" }, alert.next)
    assert.equal(42, alert.executions[1].value)
    local finding = t.detector:findings()[1]
    assert.equal(alert.id, finding.alert_id)
    assert.equal(finding.id, alert.findings[1].id)
    assert.equal(1, #t.scripts)
    assert.equal("rule", t.scripts[1].how.source)
    assert.equal("orders", t.scripts[1].how.args.subject)
    assert.equal(32, #alert.trace_id)
    assert.equal(alert.trace_id, t.scripts[1].how.trace_id)
  end))

  it("forgets what is pending when it ends before its hold", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.pass(30, queues(200))
    t.step(10, queues(5))
    assert.equal("finding.pending, finding.cleared", t.names())
    assert.equal("", t.findings())
    t.pass(30, queues(200))
    assert.equal("finding.pending", t.names())
  end))

  it("keeps pending what stays over the raising bound only", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.pass(20, queues(200))
    t.step(10, queues(70))
    assert.equal("", t.findings())
  end))

  it("clears under the lower bound, after the clear hold, its own alert", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.pass(40, queues(200))
    t.names()
    t.pass(60, queues(70))
    assert.equal("mailbox_growth orders firing", t.findings())
    t.pass(20, queues(5))
    assert.equal("mailbox_growth orders clearing", t.findings())
    t.step(10, queues(200))
    assert.equal("mailbox_growth orders firing", t.findings())
    t.pass(20, queues(5))
    assert.equal("", t.names())
    t.step(10)
    assert.equal("alert_resolved, finding.cleared", t.names())
    assert.equal("rule", t.last[1].metadata.alert.resolved_by)
    assert.equal("", t.findings())
  end))

  it("refreshes a firing alert at each sample without an event", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.pass(40, queues(200))
    t.names()
    t.step(10, queues(230))
    assert.equal("", t.names())
    local alert = t.alerts:firing()[1]
    assert.equal(230, alert.figures[1].value)
    assert.equal(1, alert.count)
    assert.equal(t.clock.wall_ms(), alert.last_seen)
  end))

  it("says again what doubled, and raises what became critical", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    local told = {}
    t.detector:on_finding(function(finding, what)
      told[#told + 1] = what .. " " .. finding.value
    end)
    t.pass(40, queues(200))
    t.step(10, queues(399))
    t.names()
    t.step(10, queues(400))
    assert.equal("alert_updated", t.names())
    t.step(10, queues(799))
    assert.equal("", t.names())
    t.step(10, queues(200000))
    assert.equal("alert_fired raised", t.names())
    t.step(10, queues(799))
    t.step(10, queues(200000))
    assert.equal("", t.names())
    assert.equal("critical", t.alerts:firing()[1].severity)
    assert.same({ "pending 200", "firing 200", "worsened 400", "worsened 200000" }, told)
    assert.equal(1, #t.scripts)
  end))

  it("keeps two subjects apart: two alerts, and one clears alone", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.pass(20, queues(200))
    t.pass(30, queues(200, 300))
    assert.equal("mailbox_growth orders firing, mailbox_growth mail pending", t.findings())
    t.step(10)
    assert.equal(2, #t.alerts:firing())
    t.pass(30, queues(200, 5))
    assert.equal("mailbox_growth orders firing", t.findings())
    local firing = t.alerts:firing()
    assert.equal(1, #firing)
    assert.equal("orders", firing[1].subject)
    assert.equal("mail", t.alerts:list({ status = "resolved" })[1].subject)
  end))

  it("reopens an alert whose trouble comes back", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.pass(40, queues(200))
    local id = t.alerts:firing()[1].id
    t.pass(30, queues(5))
    t.names()
    t.pass(40, queues(200))
    assert.equal("finding.pending, finding.firing, alert_fired reopened", t.names())
    local alert = t.alerts:firing()[1]
    assert.equal(id, alert.id)
    assert.equal(1, alert.flaps)
    assert.equal(2, #t.scripts)
  end))

  it("notifies again while it lasts", support.async(function()
    local t = setup({ rules = { queue_rule() }, policy = { renotify_ms = 600000 } })
    t.pass(40, queues(200))
    t.names()
    t.pass(590, queues(200))
    assert.equal("", t.names())
    t.step(10)
    assert.equal("alert_fired renotified", t.names())
  end))

  it("fires no alert for an info finding", support.async(function()
    local t = setup({ rules = { queue_rule({ severity = "info" }) } })
    t.pass(60, queues(200))
    assert.equal("finding.pending, finding.firing", t.names())
    t.step(10, queues(200000))
    assert.equal("alert_fired new", t.names())
  end))

  it("does not let time without samples advance a hold", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.detector:start()
    t.pass(20, queues(200))
    t.target:emit("down")
    t.clock.advance(600000)
    t.node_ms = t.node_ms + 600000
    local sample, err, code = t.detector:sample_now()
    assert.is_nil(sample)
    assert.is_truthy(err:find("out of reach", 1, true))
    assert.equal("EDOWN", code)
    t.target:emit("up")
    assert.is_true(t.detector.history:latest().after_gap)
    assert.equal("mailbox_growth orders pending", t.findings())
    t.step(10)
    assert.equal("mailbox_growth orders pending", t.findings())
    t.step(10)
    assert.equal("mailbox_growth orders firing", t.findings())
    assert.equal("finding.pending, finding.firing, alert_fired new", t.names())
    t.detector:stop()
  end))

  it("counts a gap between samples as no more than two of them", support.async(function()
    local t = setup({ rules = { queue_rule({ hold = "60s" }) } })
    t.step(0, queues(200))
    t.step(300)
    t.step(300)
    assert.equal("mailbox_growth orders pending", t.findings())
    t.step(300)
    assert.equal("mailbox_growth orders firing", t.findings())
  end))

  it("clears what it found of a node that restarted", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.pass(40, queues(200))
    t.pass(20, queues(200, 200))
    t.names()
    t.node_ms = -5e8
    t.step(0, queues(200))
    assert.equal("restart", t.alerts:list()[1].resolved_by)
    assert.equal("mailbox_growth orders pending", t.findings())
    assert.equal(1, #t.detector.history:samples())
    assert.equal(1, #t.detector:last_snapshots())
    t.pass(30, queues(200))
    assert.equal(1, t.alerts:firing()[1].flaps)
  end))

  it("keeps the last snapshots of a life that the target says has ended", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.detector:start()
    t.pass(50, queues(200))
    t.target:emit("restarted")
    assert.equal("", t.findings())
    assert.equal(0, #t.detector.history:samples())
    local last = t.detector:last_snapshots()
    assert.equal(3, #last)
    assert.is_true(last[3].data.uptime_s > last[1].data.uptime_s)
    assert.equal("restart", t.alerts:list()[1].resolved_by)
    t.detector:stop()
  end))
end)

describe("a mute", function()
  local NIGHT = { mute = { { from = "00:00", to = "00:05", types = { "mailbox_growth" } } } }

  it("holds an alert back and says so, until it ends", support.async(function()
    local t = setup({ rules = { queue_rule() }, policy = NIGHT })
    t.pass(290, queues(200))
    assert.equal("finding.pending, finding.firing", t.names())
    assert.is_true(t.last[2].metadata.finding.muted)
    assert.is_true(t.detector:findings()[1].muted)
    t.step(10)
    assert.equal("alert_fired new", t.names())
    assert.is_nil(t.detector:findings()[1].muted)
    assert.equal(1, #t.scripts)
  end))

  it("is for the types that it names", support.async(function()
    local t = setup({ rules = { queue_rule({ type = "other" }) }, policy = NIGHT })
    t.pass(40, queues(200))
    assert.equal(1, #t.alerts:firing())
  end))

  it("keeps a firing alert quiet but lets it end", support.async(function()
    local t = setup({ rules = { queue_rule() }, policy = { renotify_ms = 60000 } })
    t.pass(40, queues(200))
    t.policy.mute = { { from = "00:00", to = "00:00" } }
    t.names()
    t.pass(120, queues(200000))
    assert.equal("", t.names())
    t.pass(30, queues(5))
    assert.equal("alert_resolved, finding.cleared", t.names())
  end))
end)

describe("a rule that fails", function()
  it("is told of once per distinct error, and the others go on", support.async(function()
    local text = "first"
    local bad = { type = "bad", severity = "warning", when = function()
      error(text, 0)
    end }
    local t = setup({ rules = { bad, queue_rule() } })
    t.pass(20, queues(200))
    assert.equal("rule.failed, finding.pending", t.names())
    assert.equal("bad", t.last[1].metadata.type)
    assert.is_truthy(t.last[1].metadata.error:find("first", 1, true))
    text = "second"
    t.pass(20, queues(200))
    assert.equal("rule.failed, finding.firing, alert_fired new", t.names())
  end))

  it("leaves a finding as it was", support.async(function()
    local fails = false
    local rule = queue_rule()
    local when = rule.when
    rule.when = function(...)
      return fails and error("no", 0) or when(...)
    end
    local t = setup({ rules = { rule } })
    t.pass(40, queues(200))
    fails = true
    t.pass(100, queues(5))
    assert.equal("mailbox_growth orders firing", t.findings())
  end))

  for what, result in pairs({
    ["no finding"] = 7, ["a list of none"] = { 7 }, ["a severity of its own"] = { severity = "x" },
  }) do
    it("may also return " .. what, support.async(function()
      local t = setup({ rules = { { type = "odd", when = function()
        return result
      end } } })
      t.pass(20)
      assert.equal("rule.failed", t.names())
    end))
  end

  it("is bounded in the subjects that it finds", support.async(function()
    local many = {}
    for i = 1, 60 do
      many["q" .. i] = 200
    end
    local t = setup({ rules = { queue_rule() } })
    t.step(0, { queues = many })
    assert.equal(50, #t.detector:findings())
    assert.equal("rule.failed", t.events[#t.events].name)
  end))
end)

describe("an investigation", function()
  it("that fails does not lose the alert", support.async(function()
    for _, run in ipairs({
      function() error("the sandbox is gone", 0) end,
      function() return nil, "the sandbox is gone" end,
    }) do
      local t = setup({ rules = { queue_rule() }, run = run })
      t.pass(40, queues(200))
      local execution = t.alerts:firing()[1].executions[1]
      assert.equal("host", execution.error.kind)
      assert.is_truthy(execution.error.message:find("the sandbox is gone", 1, true))
      assert.equal("return beam_top_processes(5)", execution.code)
      assert.equal("finding.pending, finding.firing, alert_fired new", t.names())
    end
  end))

  it("that does not end is ended, and the alert says so", support.async(function()
    local t = setup({ rules = { queue_rule() }, investigate_ms = 20, run = function()
      async.sleep(60000)
    end })
    t.pass(40, queues(200))
    assert.equal(0, #t.alerts:firing())
    local alert = support.wait_until(function()
      return t.alerts:firing()[1]
    end)
    assert.equal("timeout", alert.executions[1].error.kind)
    t.pass(20, queues(200))
    assert.equal(1, alert.count)
  end))

  it("that outlasts its finding still fires the alert, which ends at once", support.async(function()
    local go = async.signal()
    local t = setup({ rules = { queue_rule() }, run = function()
      go:wait()
      return { id = "e", value = 1 }
    end })
    t.pass(40, queues(200))
    t.pass(30, queues(5))
    t.names()
    go:fire()
    assert.equal("alert_fired new, alert_resolved", t.names())
    assert.equal("rule", t.last[2].metadata.alert.resolved_by)
  end))

  it("is cut short by a stop, and its alert fired", support.async(function()
    local t = setup({ rules = { queue_rule() }, run = function()
      async.sleep(60000)
    end })
    t.pass(40, queues(200))
    t.detector:stop()
    assert.equal("finding.pending, finding.firing, alert_fired new", t.names())
  end))

  it("is made for four findings at a time, the others alert without", support.async(function()
    local many, runs = {}, 0
    for i = 1, 6 do
      many["q" .. i] = 200
    end
    local t = setup({ rules = { queue_rule() }, run = function()
      runs = runs + 1
      async.sleep(60000)
    end })
    t.pass(40, { queues = many })
    assert.equal(4, runs)
    assert.equal(2, #t.alerts:firing())
    t.detector:stop()
    assert.equal(6, #t.alerts:firing())
  end))
end)

describe("a policy", function()
  it("changes the holds and the severity of a rule", support.async(function()
    local t = setup({ rules = { queue_rule() }, policy = {
      rules = { mailbox_growth = { hold_ms = 0, clear_hold_ms = 0, severity = "critical" } },
    } })
    t.step(0, queues(200))
    assert.equal("finding.pending, finding.firing, alert_fired new", t.names())
    assert.equal("critical", t.alerts:firing()[1].severity)
    t.step(10, queues(5))
    assert.equal("alert_resolved, finding.cleared", t.names())
  end))

  it("switches a rule off, and adds detectors", support.async(function()
    local t = setup({ rules = { queue_rule() }, policy = { rules = {
      queue_rule({ type = "mine", hold = "0s" }), mailbox_growth = { enabled = false },
    } } })
    t.step(0, queues(200))
    assert.equal("mine orders firing", t.findings())
  end))

  it("leaves a rule to the domain that has it, too, while that is watched", support.async(function()
    local watched = {}
    local t = setup({ rules = { queue_rule({ left_to = "ports" }), queue_rule({ type = "own" }) },
      is_watched = function(domain)
        return watched[domain]
      end })
    t.pass(40, queues(200))
    assert.equal("mailbox_growth orders firing, own orders firing", t.findings())
    watched.ports = true
    t.step(10)
    assert.equal("own orders firing", t.findings())
    local ended = t.alerts:list({ status = "resolved" })
    assert.same({ 1, "mailbox_growth", "policy" }, { #ended, ended[1].type, ended[1].resolved_by })
    watched.ports = nil
    t.step(10)
    assert.equal("own orders firing, mailbox_growth orders pending", t.findings())
  end))

  it("that is reloaded keeps findings, and ends those of rules it drops", support.async(function()
    local t = setup({ rules = { queue_rule(), queue_rule({ type = "other" }) } })
    t.pass(30, queues(200))
    local policy = { sample_ms = 10000, renotify_ms = 1, mute = {}, rules = {
      mailbox_growth = { hold_ms = 25000 } } }
    t.detector:set_policy(policy)
    t.step(10)
    assert.equal(2, #t.alerts:firing())
    t.detector:set_policy({ sample_ms = 10000, renotify_ms = 3600000, mute = {}, rules = {
      other = { enabled = false } } })
    assert.equal("mailbox_growth orders firing", t.findings())
    assert.equal("policy", t.alerts:list({ status = "resolved" })[1].resolved_by)
  end))

  it("goes on under a domain that was changed", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.pass(40, queues(200))
    -- A rule that moves from the domain into the policy meanwhile keeps its finding.
    t.detector:set_policy({ sample_ms = 10000, renotify_ms = 3600000, mute = {},
      rules = { queue_rule({ clear_hold = "0s" }) } }, { rules = {}, snapshot = function()
        return { mono_ms = t.node_ms, queues = {} }
      end })
    assert.equal(1, #t.alerts:firing())
    t.step(10)
    assert.equal(0, #t.alerts:firing())
  end))

  it("ends everything when its watcher is gone for good", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.pass(40, queues(200))
    t.detector:stop("policy")
    assert.equal("policy", t.alerts:list()[1].resolved_by)
    assert.equal("", t.findings())
  end))

  it("may refuse an alert by its guard, until it worsens", support.async(function()
    local asked = 0
    local t = setup({ rules = { queue_rule() }, guard = function(request)
      asked = asked + 1
      if request.severity == "critical" then
        return request
      end
      return nil, "known"
    end })
    t.pass(60, queues(200))
    assert.equal(1, asked)
    assert.equal("known", t.detector:findings()[1].refused)
    assert.equal(0, #t.alerts:list())
    t.step(10, queues(200000))
    assert.equal(1, #t.alerts:firing())
  end))

  it("does not lose an alert by a guard that fails", support.async(function()
    local t = setup({ rules = { queue_rule() }, guard = function()
      error("oops", 0)
    end })
    t.pass(40, queues(200))
    assert.equal(1, #t.alerts:firing())
    assert.equal("finding.pending, finding.firing, rule.failed, alert_fired new", t.names())
  end))
end)

describe("a firing finding", function()
  it("opens its alert again when somebody else ended it", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    t.pass(40, queues(200))
    t.alerts:resolve(t.alerts:firing()[1].id, "model")
    t.names()
    t.step(10)
    assert.equal("alert_fired reopened", t.names())
  end))

  it("joins the alert that the model fired, and its end ends it", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    local own = t.alerts:fire({ watcher = "shop", domain = "beam", node = "shop@db1",
      type = "mailbox_growth", subject = "orders", severity = "critical", source = "model" })
    local other = t.alerts:fire({ watcher = "shop", domain = "beam", node = "shop@db1",
      type = "other", severity = "warning", source = "model" })
    t.pass(40, queues(200))
    assert.equal(own.id, t.detector:findings()[1].alert_id)
    assert.is_true(t.alerts:get(own.id).corroborated)
    t.pass(30, queues(5))
    assert.equal("resolved", t.alerts:get(own.id).status)
    assert.equal("firing", t.alerts:get(other.id).status)
  end))

  it("goes on when one who listens fails", support.async(function()
    local t = setup({ rules = { queue_rule() } })
    local heard = 0
    local stop = t.detector:on_finding(function()
      error("no", 0)
    end)
    t.detector:on_finding(function()
      heard = heard + 1
    end)
    t.pass(40, queues(200))
    assert.equal(2, heard)
    assert.equal(1, #t.alerts:firing())
    stop()
    t.names()
    t.pass(30, queues(5))
    assert.equal("alert_resolved, finding.cleared", t.names())
  end))
end)

describe("whatever a node does, a detector", function()
  -- What must hold after each sample: each finding that held has its firing alert, and no alert
  -- fires without its finding.
  local function check(t, step)
    local held, count = {}, 0
    for _, finding in ipairs(t.detector:findings()) do
      if finding.phase ~= "pending" then
        assert.is_string(finding.alert_id, "no alert at step " .. step)
        held[finding.alert_id] = finding
        count = count + 1
      end
    end
    local firing = t.alerts:firing()
    assert.equal(count, #firing, "alerts and findings differ at step " .. step)
    for _, alert in ipairs(firing) do
      assert.equal(alert.subject, held[alert.id].subject)
      assert.equal(t.clock.wall_ms(), held[alert.id].phase == "firing" and alert.last_seen
        or t.clock.wall_ms())
    end
    return count
  end

  it("has one firing alert for each finding that held", support.async(function()
    local t = setup({ rules = { queue_rule(), queue_rule({ type = "other", hold = "70s" }) } })
    math.randomseed(20261123)
    t.detector:start()
    local lengths, most, told = { orders = 0, mail = 0, logs = 0 }, 0, { pending = 0, cleared = 0 }
    t.detector:on_finding(function(_, what)
      told[what] = (told[what] or 0) + 1
    end)
    for step = 1, 3000 do
      local event = math.random(200)
      if event == 1 then
        t.node_ms = -5e8 -- restarted
      elseif event == 2 then
        t.target:emit("down")
        t.step(math.random(300))
        t.target:emit("up")
      end
      for _, subject in ipairs({ "orders", "mail", "logs" }) do
        if math.random(12) == 1 then
          lengths[subject] = ({ 0, 60, 120, 500, 200000 })[math.random(5)]
        end
      end
      assert(t.step(10, { queues = record.copy(lengths) }))
      most = math.max(most, check(t, step))
    end
    assert.equal(6, most)
    assert.equal(told.pending - told.cleared, #t.detector:findings())
    assert.is_true(told.worsened > 10)
    t.detector:stop("left")
    assert.equal(0, #t.alerts:firing())
    assert.equal(told.pending, told.cleared)
    for _, e in ipairs(t.events) do
      assert.not_equal("rule.failed", e.name)
    end
  end))
end)
