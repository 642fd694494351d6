local alert_record = require("runtime.alerts.record")
local alerts = require("runtime.alerts")
local clock = require("runtime.clock")
local telemetry = require("runtime.telemetry")

local MINUTE, HOUR = 60000, 3600000

local function setup(opts)
  local t = { clock = clock.manual(1.7e12), bus = telemetry.new(), events = {} }
  t.bus:attach_many("spec", {
    "beamlens.watcher.alert_fired", "beamlens.watcher.alert_updated",
    "beamlens.watcher.alert_resolved",
  }, function(event, measurements, metadata)
    t.events[#t.events + 1] = {
      event = event:match("[%w_]+$"), cause = metadata.cause, alert = metadata.alert,
      measurements = measurements, metadata = metadata,
    }
  end)
  t.alerts = alerts.new({
    telemetry = t.bus, clock = t.clock, limit = opts and opts.limit,
    renotify_ms = opts and opts.renotify_ms,
  })
  function t.fire(changes)
    local request = {
      watcher = "shop", domain = "beam", node = "shop@db1", type = "mailbox_growth",
      subject = "orders", severity = "warning", summary = "orders: mailbox 39 818",
      source = "rule",
    }
    for key, value in pairs(changes or {}) do
      request[key] = value
    end
    return t.alerts:fire(request)
  end
  function t.names()
    local names = {}
    for i, e in ipairs(t.events) do
      names[i] = e.event .. (e.cause and " " .. e.cause or "")
    end
    return table.concat(names, ", ")
  end
  return t
end

describe("alerts", function()
  it("have the fields that everyone relies on", function()
    local t = setup()
    local alert, cause = t.fire({
      title = "Mailbox grows: orders", trace_id = ("a"):rep(32),
      figures = { { name = "message_queue", value = 39818, unit = "messages", before = 3 } },
      trend = { per_s = 18900, eta_s = 360 },
      snapshots = { { id = "s1", captured_at = 1, data = { n = 1 } } },
      executions = { { id = "e1" } }, findings = { { id = "f1" } },
      next = { "beamlens exec beam -e 'return 1'" },
    })
    assert.equal("new", cause)
    assert.is_truthy(alert.id:match("^%x+$") and #alert.id == 16)
    assert.is_truthy(alert.fingerprint:match("^%x+$") and #alert.fingerprint == 16)
    alert.id, alert.fingerprint = nil, nil
    assert.same({
      watcher = "shop", domain = "beam", node = "shop@db1", type = "mailbox_growth",
      subject = "orders", severity = "warning", title = "Mailbox grows: orders",
      summary = "orders: mailbox 39 818",
      figures = { { name = "message_queue", value = 39818, unit = "messages", before = 3 } },
      trend = { per_s = 18900, eta_s = 360 },
      snapshots = { { id = "s1", captured_at = 1, data = { n = 1 } } },
      executions = { { id = "e1" } }, findings = { { id = "f1" } },
      next = { "beamlens exec beam -e 'return 1'" }, source = "rule", corroborated = true,
      status = "firing", detected_at = 1.7e12, last_seen = 1.7e12, count = 1, flaps = 0,
      trace_id = ("a"):rep(32),
    }, alert)
  end)

  it("carry who and where in the metadata of their events", function()
    local t = setup()
    t.fire({ trace_id = "abc" })
    local e = t.events[1]
    assert.same({ "shop", "beam", "shop@db1", "abc", "new" }, { e.metadata.watcher,
      e.metadata.domain, e.metadata.node, e.metadata.trace_id, e.metadata.cause })
    assert.equal(1.7e12, e.measurements.system_time)
  end)

  it("are counted, not fired again, while they fire", function()
    local t = setup()
    local first = t.fire()
    t.clock.advance(MINUTE)
    local second, cause = t.fire({ summary = "worse" })
    assert.equal("updated", cause)
    assert.equal(first.id, second.id)
    assert.equal(2, second.count)
    assert.equal("worse", second.summary)
    assert.equal(1.7e12 + MINUTE, second.last_seen)
    assert.equal(1.7e12, second.detected_at)
    assert.equal("alert_fired new, alert_updated", t.names())
  end)

  it("are separate for another node, domain, type or subject", function()
    local t = setup()
    t.fire()
    for field, value in pairs({ node = "b@h", domain = "ets", type = "x", subject = "y" }) do
      local _, cause = t.fire({ [field] = value })
      assert.equal("new", cause)
    end
    assert.equal(5, #t.alerts:firing())
  end)

  it("do not mix up a node and a domain whose names run together", function()
    assert.not_equal(alert_record.fingerprint("ab", "c", "d", "e"),
      alert_record.fingerprint("a", "bc", "d", "e"))
    assert.equal(alert_record.fingerprint("a", "b", "c", "d"),
      alert_record.fingerprint("a", "b", "c", "d"))
  end)

  it("are fired as raised when the severity goes up, and keep it when it goes down", function()
    local t = setup()
    t.fire()
    local alert, cause = t.fire({ severity = "critical" })
    assert.equal("raised", cause)
    assert.equal("critical", alert.severity)
    alert, cause = t.fire({ severity = "info" })
    assert.equal("updated", cause)
    assert.equal("critical", alert.severity)
    assert.equal("alert_fired new, alert_fired raised, alert_updated", t.names())
  end)

  it("are at most a warning while no finding supports them", function()
    local t = setup()
    local alert = t.fire({ source = "model", severity = "critical" })
    assert.equal("warning", alert.severity)
    assert.is_false(alert.corroborated)
    assert.is_false(t.alerts:list()[1].corroborated)
    local raised, cause = t.fire({ severity = "critical" })
    assert.equal("raised", cause)
    assert.equal("critical", raised.severity)
    assert.is_true(raised.corroborated)
    assert.equal("model", raised.source)
    local other = t.fire({ subject = "x", source = "model", corroborated = true,
      severity = "critical" })
    assert.equal("critical", other.severity)
  end)

  it("are notified again after the policy's time, however they are seen", function()
    local t = setup({ renotify_ms = HOUR })
    local alert = t.fire()
    t.clock.advance(HOUR - 1)
    assert.equal("updated", select(2, t.fire()))
    assert.is_nil(select(2, t.alerts:refresh(alert.id, {})))
    t.clock.advance(1)
    assert.equal("renotified", select(2, t.alerts:refresh(alert.id, {})))
    assert.equal("updated", select(2, t.fire()))
    t.clock.advance(HOUR)
    assert.equal("renotified", select(2, t.fire()))
    t.clock.advance(10 * MINUTE)
    assert.equal("renotified", select(2, t.fire({ renotify_ms = 10 * MINUTE })))
    t.clock.advance(HOUR)
    assert.is_nil(select(2, t.alerts:refresh(alert.id, { quiet = true })))
  end)

  it("are refreshed without an event", function()
    local t = setup()
    local alert = t.fire({ figures = { { name = "n", value = 1 } } })
    t.clock.advance(10000)
    assert.is_true(t.alerts:refresh(alert.id, { figures = { { name = "n", value = 2 } },
      summary = "now 2", trend = { per_s = 0.1 } }))
    local now = t.alerts:get(alert.id)
    assert.equal(2, now.figures[1].value)
    assert.equal("now 2", now.summary)
    assert.equal(0.1, now.trend.per_s)
    assert.equal(1.7e12 + 10000, now.last_seen)
    assert.equal(1, now.count)
    assert.equal("alert_fired new", t.names())
  end)

  it("keep the model's words when a rule refreshes them", function()
    local t = setup()
    local alert = t.fire()
    t.fire({ source = "model", summary = "the importer floods orders" })
    t.alerts:refresh(alert.id, { summary = "orders: mailbox 50 000" })
    assert.equal("the importer floods orders", t.alerts:get(alert.id).summary)
  end)

  it("are resolved once, by somebody", function()
    local t = setup()
    local alert = t.fire()
    t.clock.advance(2 * MINUTE)
    local resolved = t.alerts:resolve(alert.id, "rule")
    assert.equal("resolved", resolved.status)
    assert.equal("rule", resolved.resolved_by)
    assert.equal(1.7e12 + 2 * MINUTE, resolved.resolved_at)
    assert.equal("alert_resolved", t.events[2].event)
    assert.equal(2 * MINUTE, t.events[2].measurements.duration)
    assert.equal("resolved", t.events[2].alert.status)
    local again, err, code = t.alerts:resolve(alert.id, "model")
    assert.is_nil(again)
    assert.is_truthy(err:find("has ended already", 1, true))
    assert.equal("ERESOLVED", code)
    assert.equal("ENOENT", select(3, t.alerts:resolve("nope", "rule")))
    assert.equal("ERESOLVED", select(3, t.alerts:refresh(alert.id, {})))
    assert.has_error(function()
      t.alerts:resolve(alert.id, "magic")
    end, "an alert is not resolved by \"magic\"")
  end)

  it("are the same alert, reopened, within 30 min of their end", function()
    local t = setup()
    local alert = t.fire({ severity = "critical", trace_id = "first" })
    t.alerts:resolve(alert.id, "rule")
    t.clock.advance(30 * MINUTE - 1)
    local again, cause = t.fire({ trace_id = "second" })
    assert.equal("reopened", cause)
    assert.equal(alert.id, again.id)
    assert.equal(1, again.flaps)
    assert.equal(2, again.count)
    assert.equal("warning", again.severity)
    assert.equal("firing", again.status)
    assert.equal("second", again.trace_id)
    assert.is_nil(again.resolved_at)
    assert.is_nil(again.resolved_by)
    t.alerts:resolve(alert.id, "rule")
    t.clock.advance(30 * MINUTE)
    local new, new_cause = t.fire()
    assert.equal("new", new_cause)
    assert.not_equal(alert.id, new.id)
    assert.equal(0, new.flaps)
    assert.equal(new.id, t.alerts:find(new.fingerprint).id)
  end)

  it("do not change in the hands of those who were told of them", function()
    local t = setup()
    local data = { n = 1 }
    local returned = t.fire({ figures = { { name = "n", value = 1 } },
      snapshots = { { id = "s1", captured_at = 1, data = data } } })
    data.n = 99
    t.fire({ severity = "critical", figures = { { name = "n", value = 2 } } })
    t.alerts:resolve(returned.id, "rule")
    for _, kept in ipairs({ returned, t.events[1].alert }) do
      assert.equal("firing", kept.status)
      assert.equal("warning", kept.severity)
      assert.equal(1, kept.count)
      assert.equal(1, kept.figures[1].value)
      assert.equal(1, kept.snapshots[1].data.n)
    end
    t.events[1].alert.snapshots[1].data.n = 7
    t.alerts:get(returned.id).title = "changed"
    assert.equal(1, t.alerts:get(returned.id).snapshots[1].data.n)
    assert.equal("mailbox_growth: orders", t.alerts:get(returned.id).title)
  end)

  it("forget the one that ended first and never one that fires", function()
    local t = setup({ limit = 3 })
    local made = {}
    for i = 1, 3 do
      made[i] = t.fire({ subject = "s" .. i })
    end
    t.alerts:resolve(made[2].id, "rule")
    t.clock.advance(1)
    t.alerts:resolve(made[1].id, "rule")
    t.fire({ subject = "s4" })
    assert.is_nil(t.alerts:get(made[2].id))
    assert.is_nil(t.alerts:find(made[2].fingerprint))
    assert.is_truthy(t.alerts:get(made[1].id))
    t.fire({ subject = "s5" })
    t.fire({ subject = "s6" })
    t.fire({ subject = "s7" })
    assert.is_nil(t.alerts:get(made[1].id))
    assert.equal(5, #t.alerts:firing())
    t.alerts:resolve(made[3].id, "rule")
    assert.equal(4, #t.alerts:list())
  end)

  it("are listed newest first, without snapshots, by watcher, node and status", function()
    local t = setup()
    t.fire({ subject = "a", snapshots = { { id = "s", captured_at = 1, data = {} } } })
    local b = t.fire({ subject = "b", watcher = "other" })
    t.fire({ subject = "c", node = "n@2" })
    t.alerts:resolve(b.id, "model")
    local function subjects(filter)
      local list = {}
      for i, alert in ipairs(t.alerts:list(filter)) do
        assert.is_nil(alert.snapshots)
        list[i] = alert.subject
      end
      return table.concat(list)
    end
    assert.equal("cba", subjects())
    assert.equal("ca", subjects({ watcher = "shop" }))
    assert.equal("ba", subjects({ node = "shop@db1" }))
    assert.equal("b", subjects({ status = "resolved" }))
    assert.equal("cb", subjects({ limit = 2 }))
    assert.equal("c", t.alerts:firing({ limit = 1 })[1].subject)
    t.fire({ subject = "b" })
    assert.equal("bca", subjects())
  end)

  it("keep the first snapshot and the newest of many", function()
    local t = setup()
    local alert
    for i = 1, 30 do
      alert = t.fire({ snapshots = { { id = "s" .. i, captured_at = i, data = {} } } })
    end
    assert.equal(10, #alert.snapshots)
    assert.equal("s1", alert.snapshots[1].id)
    assert.equal("s22", alert.snapshots[2].id)
    assert.equal("s30", alert.snapshots[10].id)
    alert = t.fire({ snapshots = { { id = "s30", captured_at = 30, data = {} } } })
    assert.equal("s30", alert.snapshots[10].id)
    assert.equal("s29", alert.snapshots[9].id)
  end)

  it("are about the node itself when nobody else is to blame", function()
    local t = setup()
    local request = { watcher = "w", domain = "beam", node = "n@h", type = "atom_limit",
      severity = "warning", source = "rule" }
    assert.equal("n@h", t.alerts:fire(request).subject)
  end)

  it("refuse what is no alert", function()
    local t = setup()
    assert.has_error(function()
      t.fire({ severity = "bad" })
    end, "an alert's severity is info, warning or critical")
    assert.has_error(function()
      t.fire({ source = "me" })
    end, "an alert's source is rule or model")
  end)
end)

describe("the text of an alert", function()
  it("cuts a title at 80 characters, never inside one", function()
    local t = setup()
    local alert = t.fire({ title = ("ö"):rep(81) })
    assert.equal(("ö"):rep(79) .. "…", alert.title)
    assert.equal(("ö"):rep(80), t.fire({ title = ("ö"):rep(80) }).title)
  end)

  it("keeps a title on one line and within UTF-8", function()
    local t = setup()
    assert.equal("a b\239\191\189c", t.fire({ title = "a\n\27b\255c" }).title)
  end)

  it("replaces what is no UTF-8: overlong, surrogate, cut off", function()
    local bad = "\239\191\189"
    assert.equal(bad .. bad, alert_record.cut("\192\128", 10))
    assert.equal(bad:rep(3), alert_record.cut("\237\160\128", 10))
    assert.equal("a" .. bad, alert_record.cut("a\195", 10))
    assert.equal(bad:rep(4), alert_record.cut("\244\144\128\128", 10))
    assert.equal("\240\159\152\128", alert_record.cut("\240\159\152\128", 10))
  end)

  it("bounds a summary and the commands", function()
    local t = setup()
    local alert = t.fire({ summary = ("x"):rep(5000), next = { "a", "b\nrm", "c", "d" } })
    assert.equal(1999 + #"…", #alert.summary)
    assert.same({ "a", "b rm", "c" }, alert.next)
  end)
end)
