-- Watchers of one node that share samples, and the evaluation of rules; on a clock that is moved.

local alerts = require("runtime.alerts")
local async = require("runtime.async")
local clock = require("runtime.clock")
local detection = require("support.detection")
local detector = require("runtime.detector")
local feeds = require("runtime.detector.feeds")
local support = require("support")

local BUSY = { orders = 200 }

-- A node with feeds, and a domain that counts its snapshots and how often its rule is asked.
local function setup(changes)
  local t = detection.bus()
  t.clock, t.target = clock.manual(detection.WALL_MS), detection.target()
  t.alerts, t.feeds = alerts.new({ telemetry = t.bus, clock = t.clock }), feeds.new()
  t.taken, t.asked, t.scripts, t.queues, t.users = 0, 0, 0, {}, {}
  local rule = detection.queue_rule(changes)
  local when = rule.when
  function rule.when(...)
    t.asked = t.asked + 1
    return when(...)
  end
  function t.new_domain()
    local function snapshot()
      t.taken = t.taken + 1
      return { mono_ms = t.clock.now_ms(), queues = t.queues }
    end
    return { name = "beam", rules = { rule }, settings = { { name = "table" } },
      snapshot = snapshot }
  end
  t.domain = t.new_domain()
  local executor = { run = function(_, code)
    t.scripts = t.scripts + 1
    return { id = "e" .. t.scripts, code = code, value = 42, source = "rule", calls = 1 }
  end }
  function t.policy(fields)
    local policy = { sample_ms = 10000, rules = {}, mute = {}, renotify_ms = 3600000 }
    for name, value in pairs(fields or {}) do
      policy[name] = value
    end
    return policy
  end
  --- A started detector of a watcher.
  function t.watch(name, policy, guard, settings)
    local made = detector.new({ meta = { watcher = name, domain = "beam", node = "shop@db1" },
      domain = t.domain, policy = t.policy(policy), guard = guard, feeds = t.feeds,
      ctx = { target = t.target, node = "shop@db1", clock = t.clock, settings = settings },
      executor = executor, alerts = t.alerts, telemetry = t.bus, clock = t.clock })
    t.users[#t.users + 1] = made
    made:start()
    return made
  end
  --- Steps of 10 s; each feed takes a sample in each.
  function t.pass(seconds, queues)
    t.queues = queues or t.queues
    for _ = 1, seconds / 10 do
      t.clock.advance(10000)
      for _, feed in ipairs(t.feeds.order) do
        assert(feed.sampler:sample_now())
      end
    end
  end
  --- "event watcher" of what was told since it was last asked.
  function t.told()
    local list = {}
    for i, e in ipairs(t.events) do
      list[i] = ("%s %s"):format(e.name, e.metadata.watcher)
    end
    t.events = {}
    return table.concat(list, ", ")
  end
  support.on_cleanup(function()
    for _, user in ipairs(t.users) do
      user:stop()
    end
  end)
  return t
end

local function phases(user)
  local list = {}
  for i, finding in ipairs(user:findings()) do
    list[i] = ("%s %s"):format(finding.subject, finding.phase)
  end
  return table.concat(list, ", ")
end

describe("watchers of one node", function()
  it("share samples where domain, settings and cadence are the same", support.async(function()
    local t = setup()
    local one, two = t.watch("one", nil, nil, { table = "a" }), t.watch("two", nil, nil,
      { table = "a" })
    local slow = t.watch("slow", { sample_ms = 20000 }, nil, { table = "a" })
    local other = t.watch("other", nil, nil, { table = "b" })
    assert.equal(one.history, two.history)
    assert.are_not.equal(one.history, slow.history)
    assert.are_not.equal(one.history, other.history)
    assert.equal(3, t.taken)
    local seen = {}
    t.bus:attach("own", "beamlens.sampler.sample", function(_, _, metadata)
      table.insert(seen, { metadata.watcher, metadata.watchers })
    end)
    t.clock.advance(10000)
    one.sampler:take(true)
    other.sampler:take(true)
    assert.same({ { "one", { "one", "two" } }, { "other", nil } }, seen)
    assert.equal(5, t.taken)
  end))

  it("ask rules once that are the same, and each tells of its own", support.async(function()
    local t = setup()
    local heard = {}
    for _, name in ipairs({ "one", "two" }) do
      t.watch(name):on_finding(function(finding, what)
        table.insert(heard, ("%s %s %s"):format(name, what, tostring(finding.alert_id ~= nil)))
      end)
    end
    t.asked = 0
    t.pass(40, BUSY)
    assert.equal(4, t.asked)
    assert.equal(1, t.scripts)
    assert.equal("finding.pending one, finding.pending two, finding.firing one, "
      .. "finding.firing two, alert_fired one, alert_updated one", t.told())
    assert.same({ "one pending false", "two pending false", "one firing false",
      "two firing false" }, heard)
    local alert = t.alerts:firing()[1]
    assert.equal(2, alert.count)
    assert.equal(1, #alert.executions)
    for _, user in ipairs(t.users) do
      assert.equal(alert.id, user:findings()[1].alert_id)
    end
    t.pass(40)
    assert.equal("", t.told())
    assert.equal(t.clock.wall_ms(), t.alerts:get(alert.id).last_seen)
    t.pass(30, {})
    assert.equal("alert_resolved one, finding.cleared one, finding.cleared two", t.told())
  end))

  it("ask their own guards, none of which waits for another", support.async(function()
    local t = setup()
    local go = async.signal()
    local one = t.watch("one", nil, function()
      return nil, "known"
    end)
    local two = t.watch("two", nil, function(request)
      go:wait()
      request.title = "told by two"
      return request
    end)
    local three = t.watch("three", nil, function(request)
      return request
    end)
    t.pass(40, BUSY)
    local alert = t.alerts:firing()[1]
    assert.same({ "three", 1 }, { alert.watcher, alert.count })
    t.pass(20)
    go:fire()
    assert.same({ 2, "told by two" }, { t.alerts:get(alert.id).count,
      t.alerts:get(alert.id).title })
    assert.same({ "known", nil }, { one:findings()[1].refused, one:findings()[1].alert_id })
    assert.same({ nil, alert.id }, { two:findings()[1].refused, two:findings()[1].alert_id })
    assert.equal(alert.id, three:findings()[1].alert_id)
    t.pass(20)
    assert.equal(2, t.alerts:get(alert.id).count)
  end))

  it("end an alert whose guard still waits when its finding is over", support.async(function()
    local t = setup()
    local go = async.signal()
    t.watch("one", nil, function(request)
      go:wait()
      return request
    end)
    t.pass(40, BUSY)
    t.pass(40, {})
    t.told()
    go:fire()
    assert.equal("alert_fired one, alert_resolved one", t.told())
  end))

  for what, policies in pairs({
    ["a threshold"] = { { rules = { mailbox_growth = { hold_ms = 0 } } } },
    ["a detector"] = { { rules = { detection.queue_rule() } },
      { rules = { detection.queue_rule() } } },
    ["a mute"] = { { mute = { { from = "02:00", to = "03:00" } } } },
    ["renotify"] = { { renotify_ms = 60000 } },
    ["the limits of scripts"] = { { execute = { wall_ms = 1 } } },
  }) do
    it("share samples alone where they differ in " .. what, support.async(function()
      local t = setup()
      local one, two = t.watch("one", policies[2]), t.watch("two", policies[1])
      local same = t.watch("same", policies[1])
      assert.equal(one.history, two.history)
      assert.are_not.equal(one.rules, two.rules)
      assert.equal(two.rules, same.rules)
    end))
  end

  it("that come later learn of what there is, and alert", support.async(function()
    local t = setup()
    t.watch("one")
    t.pass(40, BUSY)
    t.told()
    local late = t.watch("late")
    assert.equal("finding.pending late, finding.firing late", t.told())
    t.pass(10)
    assert.equal("alert_updated one", t.told())
    assert.equal(t.alerts:firing()[1].id, late:findings()[1].alert_id)
    assert.equal(1, t.scripts)
  end))
end)

describe("of watchers that share, one", function()
  local HASTY = { rules = { mailbox_growth = { hold_ms = 0, clear_hold_ms = 0 } } }

  it("that is reloaded alone goes on with history, findings and alert", support.async(function()
    local t = setup()
    local one, two = t.watch("one"), t.watch("two")
    t.pass(40, BUSY)
    local id = t.alerts:firing()[1].id
    t.told()
    two:set_policy(t.policy(HASTY))
    assert.equal(one.history, two.history)
    assert.are_not.equal(one.rules, two.rules)
    t.pass(10)
    assert.equal("", t.told())
    assert.equal(id, two:findings()[1].alert_id)
    -- It is one alert: of those that have it, the one that still finds it keeps it up.
    t.pass(20, {})
    assert.same({ "orders clearing", "" }, { phases(one), phases(two) })
    assert.equal("finding.cleared two", t.told())
    t.pass(20, BUSY)
    assert.same({ "orders firing", "orders firing" }, { phases(one), phases(two) })
    assert.equal("firing", t.alerts:get(id).status)
    t.told()
    one:stop("policy")
    assert.equal("finding.cleared one", t.told())
    assert.same({ "firing", "two" }, { t.alerts:get(id).status, t.alerts:get(id).watcher })
    t.pass(20, {})
    assert.equal("alert_resolved two, finding.cleared two", t.told())
  end))

  it("whose cadence changes keeps history, findings and alert, too", support.async(function()
    local t = setup()
    local one, two = t.watch("one"), t.watch("two")
    t.pass(100, BUSY)
    local alert, count = t.alerts:firing()[1], one.history:count()
    t.told()
    two:set_policy(t.policy({ sample_ms = 20000 }))
    assert.are_not.equal(one.history, two.history)
    assert.equal(count + 1, two.history:count()) -- one is taken at once
    assert.equal(count, one.history:count())
    assert.same({ alert.id }, { two:findings()[1].alert_id })
    t.pass(100)
    assert.equal(count + 10, one.history:count())
    assert.equal(count + 11, two.history:count())
    assert.equal("", t.told())
    -- Back again, to what the other one has.
    two:set_policy(t.policy())
    assert.equal(one.rules, two.rules)
    assert.equal(one.history, two.history)
    t.pass(10)
    assert.same({ "", alert.id }, { t.told(), two:findings()[1].alert_id })
    assert.equal(1, #t.feeds.order)
  end))

  it("takes its longer history along to others", support.async(function()
    local t = setup()
    local old = t.watch("old")
    t.pass(100)
    local new = t.watch("new", { sample_ms = 20000 })
    local count = old.history:count()
    old:set_policy(t.policy({ sample_ms = 20000 }))
    assert.equal(new.history, old.history)
    assert.equal(count, new.history:count())
    t.pass(10)
    assert.equal(count + 1, new.history:count())
  end))

  it("that is alone has its new settings in what it says to paste", support.async(function()
    local t = setup()
    local one = t.watch("one", nil, nil, { table = "a" })
    t.pass(20)
    one:set_policy(t.policy(), nil, { table = "b" })
    t.pass(40, BUSY)
    local alert = t.alerts:firing()[1]
    assert.equal("beamlens snapshot beam --node shop@db1 --set 'table=b'", alert.next[2])
    assert.equal("b", one.ctx.settings.table)
  end))

  it("after another goes over to a newer version of the domain", support.async(function()
    local t = setup()
    local one, two = t.watch("one"), t.watch("two")
    t.pass(40, BUSY)
    local id, count = t.alerts:firing()[1].id, one.history:count()
    t.told()
    local newer = t.new_domain()
    one:set_policy(t.policy(), newer)
    assert.are_not.equal(one.history, two.history)
    two:set_policy(t.policy(), newer)
    assert.equal(one.history, two.history)
    assert.equal(one.rules, two.rules)
    assert.equal(1, #t.feeds.order)
    assert.equal(count, one.history:count())
    t.pass(10)
    assert.same({ "", id, id }, { t.told(), one:findings()[1].alert_id,
      two:findings()[1].alert_id })
  end))

  it("that drops a rule does not end the alert of another", support.async(function()
    local t = setup()
    local one, two = t.watch("one"), t.watch("two")
    t.pass(40, BUSY)
    t.told()
    one:set_policy(t.policy({ rules = { mailbox_growth = { enabled = false } } }))
    assert.equal("finding.cleared one", t.told())
    assert.same({ "", "orders firing" }, { phases(one), phases(two) })
    t.pass(10)
    assert.equal("", t.told())
    two:set_policy(t.policy({ rules = { mailbox_growth = { enabled = false } } }))
    assert.equal("alert_resolved two, finding.cleared two", t.told())
  end))

  it("ends, and the others go on with the alert", support.async(function()
    local t = setup()
    local one, two = t.watch("one"), t.watch("two")
    t.pass(40, BUSY)
    t.told()
    one:stop("policy")
    assert.equal("finding.cleared one", t.told())
    t.pass(10)
    assert.same({ "", "orders firing" }, { t.told(), phases(two) })
    assert.equal(1, #t.feeds.order)
    two:stop("policy")
    assert.equal("alert_resolved two, finding.cleared two", t.told())
    assert.equal(0, #t.feeds.order)
    assert.is_nil(next(t.target.listeners))
  end))

  it("ends during an investigation, whose alert is not lost", support.async(function()
    local t = setup()
    local go = async.signal()
    local one, two = t.watch("one"), t.watch("two")
    one.executor.run = function()
      go:wait()
      return { id = "e", value = 1 }
    end
    t.pass(40, BUSY)
    t.told()
    two:stop()
    assert.equal("alert_fired two", t.told())
    go:fire()
    assert.equal("alert_updated two", t.told())
    assert.equal(1, #t.alerts:get(t.alerts:firing()[1].id).executions)
    assert.equal("orders firing", phases(one))
  end))

  it("is slowed only while nobody else needs the samples", support.async(function()
    local t = setup()
    local one, two = t.watch("one"), t.watch("two")
    one:slow(10)
    assert.equal(10000, one.sampler.sample_ms)
    two:stop()
    one:slow(10)
    assert.equal(100000, one.sampler.sample_ms)
    assert.equal(100000, t.watch("three", { sample_ms = 100000 }).sampler.sample_ms)
    one:slow(1)
    assert.equal(10000, one.sampler.sample_ms)
  end))

  it("takes back its alert after a restart of the host, for itself", support.async(function()
    local before = setup()
    before.watch("one")
    before.pass(40, BUSY)
    local alert = before.alerts:get(before.alerts:firing()[1].id)
    local t = setup()
    t.alerts:fire(alert) -- as it was kept
    local again = t.alerts:get(t.alerts:firing()[1].id)
    local one, two = t.watch("one"), t.watch("two")
    t.told()
    assert.is_true(one:adopt(again))
    assert.equal(again.id, one:findings()[1].alert_id)
    assert.is_nil(two:findings()[1].alert_id)
    t.pass(10, BUSY)
    assert.equal(again.id, two:findings()[1].alert_id)
    assert.equal("alert_updated one", t.told())
    t.pass(40, {})
    assert.equal("alert_resolved one, finding.cleared one, finding.cleared two", t.told())
  end))
end)
