local alerts = require("runtime.alerts")
local alerts_kept = require("runtime.alerts.kept")
local async = require("runtime.async")
local clock = require("runtime.clock")
local detection = require("support.detection")
local journal = require("runtime.watcher.journal")
local keeper = require("runtime.store.keeper")
local snapshots = require("runtime.watcher.snapshots")
local state_store = require("runtime.state_store")
local store = require("runtime.store")
local support = require("support")
local telemetry = require("runtime.telemetry")
local tree = require("support.tree")

local WAIT_MS = 30000

-- A watcher as the state store sees it; what it does is not its matter.
local function unit(name, node, limit)
  local watcher = { cycles = 0, waking = { notes = {} },
    current = { name = "healthy", reason = "", since_ms = 1, as_of_ms = 1, source = "start" },
    snapshots = snapshots.new({ limit = limit or 100 }), journal = journal.new() }
  function watcher:changed(is_urgent)
    self.on_change(is_urgent)
  end
  function watcher.settle() end
  function watcher.happened() end
  return { meta = { watcher = name, domain = "beam", node = node or "a@h" }, watcher = watcher,
    policy = { history = { alerts = limit or 100 } },
    detector = { adopt = function(_, alert)
      return alert.source ~= "rule"
    end } }
end

-- What an app knows of its watchers.
local function app_of(units, policies)
  local app = { nodes = {} }
  for _, one in ipairs(units) do
    local node = app.nodes[one.meta.node] or { units = {} }
    app.nodes[one.meta.node] = node
    table.insert(node.units, one)
    function node:find(name)
      for _, other in ipairs(self.units) do
        if other.meta.watcher == name then
          return other
        end
      end
    end
  end
  function app.policies()
    return policies or {}
  end
  return app
end

-- The state of a host, kept at `path`.
local function host(path, with_clock, awaited_ms)
  local t = { clock = with_clock or clock.system(), warnings = {} }
  local bus = telemetry.new()
  t.bus = bus
  t.alerts = alerts.new({ telemetry = bus, clock = t.clock })
  t.state = state_store.new({ alerts = t.alerts, telemetry = bus, clock = t.clock,
    awaited_ms = awaited_ms })
  t.keeper = keeper.new({ path = path, parts = { t.state }, clock = clock.system(),
    telemetry = bus, retry_ms = { first = 20, max = 100 }, warn = function(text)
      table.insert(t.warnings, text)
    end })
  function t.stop()
    t.keeper:flush(WAIT_MS)
    t.state:close()
    t.keeper:close()
  end
  support.on_cleanup(t.stop)
  assert(t.keeper:open())
  t.keeper:start()
  function t.fire(changes)
    local request = { watcher = "w", domain = "beam", node = "a@h", type = "other",
      subject = "s", severity = "warning", source = "model", summary = "text" }
    for key, value in pairs(changes or {}) do
      request[key] = value
    end
    return t.alerts:fire(request)
  end
  return t
end

local function count(path, table_name)
  local opened = assert(store.read(path))
  local rows = assert(opened:query("SELECT count(*) FROM " .. table_name))
  opened:close()
  return rows[1][1]
end

local function sample(id, at_ms)
  return { id = id, at_ms = at_ms, data = { n = at_ms } }
end

describe("the state of watchers in the store", function()
  it("is written together: changes of 250 watchers are a transaction a second",
    support.async(function()
      local t = host(tree.make({}) .. "/s.db")
      local units = {}
      for i = 1, 250 do
        units[i] = unit("w" .. i)
        t.state:adopt(units[i])
      end
      t.keeper:flush(WAIT_MS)
      local written, query = 0, t.keeper.store.query
      function t.keeper.store.query(...)
        written = written + 1
        return query(...)
      end
      local begun_ms = async.now_ms()
      for round = 1, 2 do
        for i, one in ipairs(units) do
          one.watcher.current.as_of_ms = round
          one.watcher:changed()
          if i % 5 == 0 then
            async.sleep(20)
          end
        end
      end
      t.keeper:flush(WAIT_MS)
      local seconds = (async.now_ms() - begun_ms) / 1000
      assert.is_true(written >= 1 and written <= seconds + 2, written)
      assert.are.equal(250, count(t.keeper.path, "watchers"))
    end, 60))

  it("is bounded: what is dropped from memory is dropped there", support.async(function()
    local path = tree.make({}) .. "/s.db"
    local moved = clock.manual(1.7e12)
    local t = host(path, moved)
    local one = unit("w", "a@h", 3)
    t.state:adopt(one)
    for i = 1, 10 do
      one.watcher.snapshots:add(sample("s" .. i, i))
      t.alerts:resolve(t.fire({ subject = "s" .. i }).id, "model")
      moved.advance(1)
      if i % 4 == 0 then
        t.keeper:flush(WAIT_MS)
      end
    end
    t.stop()
    assert.are.equal(3, count(path, "snapshots"))
    assert.are.equal(3, count(path, "alerts"))
    local next_host, again = host(path), unit("w", "a@h", 3)
    next_host.state:adopt(again)
    assert.are.same({ "s10", "s9", "s8" }, again.watcher.snapshots:ids())
    assert.are.same({ n = 9 }, again.watcher.snapshots:get("s9").data)
    local list = next_host.alerts:list()
    assert.are.same({ "s10", "s9", "s8" },
      { list[1].subject, list[2].subject, list[3].subject })
  end, 60))

  it("keeps an alert whole: its evidence, its age, when it was told", support.async(function()
    local path, moved = tree.make({}) .. "/s.db", clock.manual(1.7e12)
    local t = host(path, moved)
    local fired = t.fire({ snapshots = { { id = "x", captured_at = 5, data = { n = 1.5 } } },
      executions = { { id = "e", code = "return 1", value = { 1, "a\0b" } } },
      figures = { { name = "n", value = 7, unit = "MiB", before = 3 } },
      findings = { { id = "f", type = "mailbox_growth", subject = "q" } },
      trend = { per_s = 2.5 }, next = { "beamlens snapshot beam" }, trace_id = "t" })
    t.stop()
    local later = clock.manual(1.7e12 + 40 * 60000)
    t = host(path, later)
    assert.are.same(fired, t.alerts:get(fired.id))
    assert.are.equal("updated", select(2, t.fire()))
    later.advance(20 * 60000)
    assert.are.equal("renotified", select(2, t.fire()))
    t.alerts:resolve(fired.id, "model")
    t.stop()
    local last = clock.manual(1.7e12 + 89 * 60000)
    t = host(path, last)
    local _, cause = t.fire()
    assert.are.equal("reopened", cause)
  end, 60))

  it("is deleted with a watcher that is gone for good", support.async(function()
    local path = tree.make({}) .. "/s.db"
    local t = host(path)
    local one, other = unit("w"), unit("other")
    for _, each in ipairs({ one, other }) do
      t.state:adopt(each)
      each.watcher.snapshots:add(sample("s1", 1))
    end
    t.keeper:flush(WAIT_MS)
    assert.are.equal(2, count(path, "snapshots"))
    t.state:forget(one)
    one.watcher.snapshots:add(sample("s2", 2)) -- what it still does is not kept any more
    t.stop()
    assert.are.equal(1, count(path, "watchers"))
    assert.are.equal(1, count(path, "snapshots"))
  end, 60))

  it("waits for a member of a cluster, which may not be found at once", support.async(function()
    local path = tree.make({}) .. "/s.db"
    local t = host(path)
    t.state:adopt(unit("w", "member@h"))
    local fired = t.fire({ node = "member@h" })
    t.stop()
    t = host(path)
    local seed = unit("w", "seed@h")
    t.state:adopt(seed)
    t.state:settle(app_of({ seed }, { { name = "w", domain = "beam", follows = true } }))
    assert.are.equal("firing", t.alerts:get(fired.id).status)
    t.state:adopt(unit("w", "member@h"))
    t.stop()
    assert.are.equal(2, count(path, "watchers"))
    t = host(path)
    t.state:adopt(seed)
    t.state:settle(app_of({ seed }, { { name = "w", domain = "beam" } }))
    assert.are.equal("policy", t.alerts:get(fired.id).resolved_by)
    t.stop()
    assert.are.equal(1, count(path, "watchers"))
  end, 60))

  it("gives up a member of a cluster that is not found again", support.async(function()
    local path = tree.make({}) .. "/s.db"
    local t = host(path)
    t.state:adopt(unit("w", "member@h"))
    local fired = t.fire({ node = "member@h" })
    t.bus:execute("beamlens.node.up", {}, { node = "member@h", creation = 7 })
    t.stop()
    assert.are.equal(1, count(path, "nodes"))
    t = host(path, nil, 50)
    local seed = unit("w", "seed@h")
    t.state:adopt(seed)
    t.state:settle(app_of({ seed }, { { name = "w", domain = "beam", follows = true } }))
    support.wait_until(function()
      return t.alerts:get(fired.id).status == "resolved"
    end, WAIT_MS, "the member to be given up")
    assert.are.equal("left", t.alerts:get(fired.id).resolved_by)
    t.stop()
    assert.are.equal(1, count(path, "watchers"))
    assert.are.equal(0, count(path, "nodes"))
  end, 60))

  it("that could not be read at the start comes in later, beside what is new",
    support.async(function()
      local path = tree.make({}) .. "/s.db"
      local t = host(path)
      local one = unit("w")
      t.state:adopt(one)
      local same, other = t.fire({ subject = "same" }), t.fire({ subject = "other" })
      t.stop()
      local lock = assert(store.open({ path = path }))
      support.on_cleanup(function()
        lock:close()
      end)
      assert(lock:query("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE"))
      t = host(path)
      local again = unit("w")
      t.state:adopt(again)
      t.state:settle(app_of({ again }))
      local new = t.fire({ subject = "same" })
      assert.matches("database is locked", t.warnings[1])
      lock:close()
      support.wait_until(function()
        return t.warnings[2]
      end, WAIT_MS, "the store to work")
      assert.are.equal("firing", t.alerts:get(new.id).status)
      assert.are.equal("restart", t.alerts:get(same.id).resolved_by)
      assert.are.equal("firing", t.alerts:get(other.id).status)
      t.keeper:flush(WAIT_MS)
      assert.are.equal(3, count(path, "alerts"))
    end, 60))
end)

describe("a finding of before a restart", function()
  -- The finding of a first host, and a second one whose rules have taken over its alert.
  local function restarted(changes)
    local first = detection.setup({ rules = { detection.queue_rule(changes) } })
    first.pass(60, { queues = { orders = 500 } })
    local alert = first.alerts:get(first.alerts:firing()[1].id)
    local t = detection.setup({ rules = { detection.queue_rule(changes) } })
    alerts_kept.restore(t.alerts, { { alert = alert, told_by = "rule",
      told_at = detection.WALL_MS, begun_at = detection.WALL_MS } })
    assert.is_true(t.detector:adopt(alert))
    return t, alert
  end

  it("goes on: its alert is neither fired nor updated anew", function()
    local t, alert = restarted()
    assert.are.equal("mailbox_growth orders firing", t.findings())
    t.pass(120, { queues = { orders = 600 } })
    assert.are.equal("", t.names())
    assert.are.equal(600, t.alerts:get(alert.id).figures[1].value)
    t.pass(60, { queues = {} })
    assert.are.equal("alert_resolved, finding.cleared", t.names())
    assert.are.equal("rule", t.alerts:get(alert.id).resolved_by)
  end)

  it("stays as long as its rule cannot know, and then clears", function()
    local t, alert = restarted({ looks_back = "10m" })
    t.pass(590, { queues = {} })
    assert.are.equal("", t.names())
    t.pass(60, { queues = {} })
    assert.are.equal("alert_resolved, finding.cleared", t.names())
    assert.are.equal("resolved", t.alerts:get(alert.id).status)
  end)

  it("has no rule any more: it is not taken over", function()
    local _, alert = restarted()
    local t = detection.setup({ rules = {} })
    assert.is_false(t.detector:adopt(alert))
  end)
end)
