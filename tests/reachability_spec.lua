local alerts = require("runtime.alerts")
local clock = require("runtime.clock")
local detection = require("support.detection")
local reachability = require("runtime.reachability")
local support = require("support")

local function setup(opts)
  opts = opts or {}
  local t = detection.bus()
  t.clock = clock.manual(1.7e12)
  t.target = detection.target(opts.status)
  t.alerts = alerts.new({ telemetry = t.bus, clock = t.clock })
  t.snapshots = { { id = "s1", captured_at = 1, data = { n = 1 } } }
  t.reachability = reachability.new({
    target = t.target, alerts = t.alerts, telemetry = t.bus, clock = t.clock,
    rules = opts.rules, mute = opts.mute, renotify_ms = opts.renotify_ms,
    last_snapshots = function()
      return t.snapshots
    end,
  })
  function t.pass(seconds)
    for _ = 1, seconds do
      t.clock.advance(1000)
      t.reachability:check()
    end
  end
  function t.firing()
    local list = {}
    for i, alert in ipairs(t.alerts:firing()) do
      list[i] = alert.type .. " " .. alert.severity
    end
    return table.concat(list, ", ")
  end
  return t
end

local function case(opts, body)
  return support.async(function()
    local t = setup(opts)
    t.reachability:start()
    body(t)
    t.reachability:stop()
  end)
end

describe("reachability", function()
  it("raises nothing for a node that is there", case({}, function(t)
    t.pass(120)
    assert.equal("", t.names())
    assert.same({}, t.reachability:findings())
  end))

  -- The clock of these cases stands at 22:13:20 when it begins.
  it("keeps a muted alert back until the window ends", case({
    mute = { { from = "22:00", to = "22:20", types = { "node_down" } } },
  }, function(t)
    t.target:emit("down", { code = "ENODE", err = "ENODE: epmd knows no shop" })
    t.pass(300)
    assert.equal("", t.firing())
    assert.is_true(t.reachability:findings()[1].muted)
    t.pass(99)
    assert.equal("", t.firing())
    t.pass(2)
    assert.equal("node_down critical", t.firing())
    assert.is_nil(t.reachability:findings()[1].muted)
  end))

  it("fires node_down when reconnecting failed for 60 s", case({}, function(t)
    t.target:emit("down", { code = "ENODE", err = "ENODE: epmd knows no shop" })
    assert.equal("finding.pending", t.names())
    t.pass(30)
    t.target:emit("down", { code = "EREFUSED", err = "EREFUSED: nobody listens" })
    t.snapshots = {}
    t.pass(29)
    assert.equal("", t.names())
    t.pass(1)
    assert.equal("finding.firing, alert_fired new", t.names())
    local alert = t.alerts:get(t.alerts:firing()[1].id)
    assert.equal("critical", alert.severity)
    assert.same({ "node", "node", "shop@db1", "shop@db1" },
      { alert.watcher, alert.domain, alert.node, alert.subject })
    assert.equal("Node down: shop@db1", alert.title)
    assert.equal("shop@db1 cannot be reached for 1 m: EREFUSED: nobody listens", alert.summary)
    assert.equal("s1", alert.snapshots[1].id)
    assert.same({ "beamlens doctor --node shop@db1" }, alert.next)
    assert.equal(1.7e12, alert.findings[1].since)
    assert.is_true(alert.corroborated)
    t.pass(60)
    assert.equal("", t.names())
    assert.is_truthy(t.alerts:firing()[1].summary:find("for 2 m:", 1, true))
  end))

  it("resolves node_down when the node is back", case({}, function(t)
    t.target:emit("down")
    t.pass(60)
    t.names()
    t.target:emit("up")
    assert.equal("alert_resolved, finding.cleared", t.names())
    assert.equal("rule", t.last[1].metadata.alert.resolved_by)
    assert.same({}, t.reachability:findings())
  end))

  it("says a node that was never up is down, by the same time", case(
    { status = "connecting" }, function(t)
    t.pass(4)
    assert.equal("", t.names())
    t.pass(55)
    assert.equal("finding.pending", t.names())
    t.pass(1)
    assert.equal("node_down critical", t.firing())
    assert.equal(1.7e12, t.alerts:firing()[1].findings[1].since)
  end))

  it("counts from the start when the first try fails", case({ status = "connecting" }, function(t)
    t.pass(3)
    t.target:emit("down", { code = "ENODE" })
    t.pass(56)
    assert.equal("", t.firing())
    t.pass(1)
    assert.equal("node_down critical", t.firing())
    assert.equal("shop@db1 cannot be reached for 1 m: ENODE", t.alerts:firing()[1].summary)
  end))

  it("is quiet about a first connection that takes a moment", case(
    { status = "connecting" }, function(t)
    t.pass(3)
    t.target:emit("up")
    t.pass(120)
    assert.equal("", t.names())
  end))

  it("counts no time in which the host itself stood still", case({}, function(t)
    t.target:emit("down")
    t.clock.advance(3600000)
    t.reachability:check()
    assert.equal("", t.firing())
    t.pass(50)
    assert.equal("node_down critical", t.firing())
  end))

  it("begins to count when the node is lost, not at the last tick before", case({}, function(t)
    t.clock.advance(9000)
    t.target:emit("down")
    t.pass(59)
    assert.equal("", t.firing())
  end))

  it("warns that a node refuses us, and raises it when it is gone", case({}, function(t)
    t.target:emit("refused", { code = "ECOOKIE", err = "ECOOKIE: another cookie" })
    t.pass(60)
    assert.equal("node_down warning", t.firing())
    assert.equal("Node refuses to be watched: shop@db1", t.alerts:firing()[1].title)
    assert.is_truthy(t.alerts:firing()[1].summary:find("ECOOKIE: another cookie", 1, true))
    t.names()
    t.target:emit("down", { code = "ENODE" })
    assert.equal("alert_fired raised", t.names())
    assert.equal("Node down: shop@db1", t.alerts:firing()[1].title)
  end))

  it("fires node_unresponsive, and resolves it when an answer comes", case({}, function(t)
    t.target:emit("unresponsive", { silent_ms = 15000 })
    assert.equal("finding.pending, finding.firing, alert_fired new", t.names())
    assert.equal("node_unresponsive warning", t.firing())
    assert.equal("shop@db1 answers no call for 15 s although the connection stands",
      t.alerts:firing()[1].summary)
    assert.equal(1.7e12 - 15000, t.reachability:findings()[1].since)
    t.target:emit("responsive")
    assert.equal("alert_resolved, finding.cleared", t.names())
  end))

  it("keeps node_unresponsive until node_down takes over", case({}, function(t)
    t.target:emit("unresponsive")
    t.pass(30)
    t.target:emit("down")
    t.pass(59)
    assert.equal("node_unresponsive warning", t.firing())
    t.pass(1)
    assert.equal("node_down critical", t.firing())
    t.target:emit("up")
    assert.equal("", t.firing())
  end))

  it("waits for a longer hold of the policy", case({ rules = {
    node_unresponsive = { hold_ms = 40000, severity = "critical" }, node_down = { hold_ms = 5000 },
  } }, function(t)
    t.target:emit("unresponsive", { silent_ms = 15000 })
    t.pass(24)
    assert.equal("", t.firing())
    t.target:emit("responsive")
    t.target:emit("unresponsive", { silent_ms = 15000 })
    t.pass(25)
    assert.equal("node_unresponsive critical", t.firing())
    t.target:emit("down")
    t.pass(5)
    assert.equal("node_down critical", t.firing())
  end))

  it("can be switched off by type, also while it fires", case({ rules = {
    node_unresponsive = { enabled = false } } }, function(t)
    t.target:emit("unresponsive")
    t.target:emit("down")
    t.pass(60)
    assert.equal("node_down critical", t.firing())
    t.reachability:set_rules({ node_down = { enabled = false } })
    assert.equal("", t.firing())
    assert.equal("policy", t.alerts:list()[1].resolved_by)
    t.target:emit("restarted")
    assert.equal("node_restarted info", t.firing())
  end))

  it("tells of a restart, and no node_down when it was quick", case({}, function(t)
    t.target:emit("down")
    t.pass(20)
    t.target:emit("up")
    t.target:emit("restarted", { creation = 2, previous_creation = 1 })
    assert.equal("node_restarted info", t.firing())
    assert.equal("s1", t.alerts:get(t.alerts:firing()[1].id).snapshots[1].id)
    t.pass(599)
    assert.equal("node_restarted info", t.firing())
    t.pass(1)
    assert.equal("", t.firing())
    assert.equal("rule", t.alerts:list()[1].resolved_by)
    assert.equal(1, #t.alerts:list())
  end))

  it("warns at the third restart in 10 min", case({}, function(t)
    t.target:emit("restarted")
    t.pass(280)
    t.target:emit("restarted")
    assert.equal("node_restarted info", t.firing())
    t.pass(280)
    t.names()
    t.target:emit("restarted")
    assert.equal("alert_fired raised", t.names())
    assert.equal("node_restarted warning", t.firing())
    assert.equal("shop@db1 restarted 3 times in 10 min", t.alerts:firing()[1].summary)
    assert.equal(3, t.alerts:firing()[1].figures[1].value)
  end))

  it("does not count restarts that are longer ago", case({}, function(t)
    for _ = 1, 4 do
      t.target:emit("restarted")
      t.pass(301)
    end
    assert.equal("node_restarted info", t.firing())
  end))

  it("tells of a node that stays down again and again", case({ renotify_ms = 600000 }, function(t)
    t.target:emit("down")
    t.pass(60)
    t.names()
    t.pass(600)
    assert.equal("alert_fired renotified", t.names())
  end))

  it("opens its alert again when somebody else ended it", case({}, function(t)
    t.target:emit("down")
    t.pass(60)
    t.alerts:resolve(t.alerts:firing()[1].id, "model")
    t.pass(1)
    assert.equal("node_down critical", t.firing())
  end))

  it("wakes who listens, and survives one who fails", case({}, function(t)
    local heard = {}
    t.reachability:on_finding(function()
      error("no", 0)
    end)
    local stop = t.reachability:on_finding(function(finding, what)
      heard[#heard + 1] = finding.type .. " " .. what
    end)
    t.target:emit("down")
    t.pass(60)
    t.target:emit("up")
    stop()
    t.target:emit("restarted")
    assert.same({ "node_down pending", "node_down firing", "node_down cleared" }, heard)
  end))

  it("keeps what fires on a stop, unless the node is not watched any more", support.async(function()
    for by, status in pairs({ [false] = "firing", left = "resolved" }) do
      local t = setup()
      t.reachability:start()
      t.target:emit("down")
      t.pass(60)
      t.reachability:stop(by or nil)
      assert.equal(status, t.alerts:list()[1].status)
      t.target:emit("up")
      assert.equal(status, t.alerts:list()[1].status)
    end
  end))

  it("looks every second by itself", support.async(function()
    local t = setup({ rules = { node_down = { hold_ms = 1 } } })
    t.reachability:start()
    t.target:emit("down")
    t.clock.advance(5)
    support.wait_until(function()
      return t.firing() == "node_down critical"
    end)
    t.reachability:stop()
  end))
end)
