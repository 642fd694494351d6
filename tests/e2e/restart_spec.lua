-- A host that is restarted, or killed, goes on where it was.

local kills = require("support.kills")
local mounts = require("support.mounts")
local node = require("support.node")
local store = require("runtime.store")
local support = require("support")
local tap = require("support.tap")
local tree = require("support.tree")
local watch = require("support.watch")

local WAIT_MS = 60000

local function query(path, sql, ...)
  local opened = assert(store.read(path))
  local rows = assert(opened:query(sql, ...))
  opened:close()
  return rows
end

-- Waits until the store has a row for this.
local function wait_row(path, sql, ...)
  local arguments = { ... }
  return support.wait_until(function()
    return query(path, sql, unpack(arguments))[1]
  end, WAIT_MS, sql)
end

local function wait_firing(b, type_name)
  return b:wait_for("watcher.alert_fired", function(event)
    return event.metadata.alert.type == type_name
  end, WAIT_MS).metadata.alert
end

local function wait_resolved(b, id)
  return b:wait_for("watcher.alert_resolved", function(event)
    return event.metadata.alert.id == id
  end, WAIT_MS).metadata.alert
end

-- The text of a request's last message.
local function last_text(request)
  local messages = request.body.messages
  local content = messages[#messages].content
  if type(content) == "string" then
    return content
  end
  local text = {}
  for i, block in ipairs(content) do
    local inner = block.text or block.content
    text[i] = type(inner) == "table" and inner[1].text or tostring(inner)
  end
  return table.concat(text, "\n")
end

-- Calls a model's script step by step; after its end the model waits.
local function scripted(steps, answers)
  local at = 0
  return function(request)
    at = at + 1
    answers[at] = last_text(request)
    local step = steps[at]
    return step and step(answers[at]) or { tool = "wait", input = { reason = "done", ms = 1000 } }
  end
end

describe("a host that is restarted", function()
  it("goes on with states, notes, snapshots and alerts, and tells none anew",
    support.async(function()
      local answers, snapshot_id = {}, nil
      local t = tap.setup({ replies = scripted({
        function()
          return { tool = "take_snapshot", input = { reason = "look" } }
        end,
        function(result)
          snapshot_id = assert(result:match('"id":%s*"(%x+)"'), result)
          return { tool = "set_state", input = { state = "observing", reason = "it drips" } }
        end,
        function()
          return { tool = "fire_alert", input = { reason = "tell", type = "other", subject = "seal",
            severity = "warning", summary = "the seal is old", snapshot_ids = { snapshot_id } } }
        end,
        function()
          return { tool = "wait", input = { reason = "later", ms = 1000, note = "ask for a seal" } }
        end,
      }, answers) })
      local b = t.start()
      local seal = wait_firing(b, "other")
      t.level(20)
      local overflow = wait_firing(b, "overflow")
      wait_row(t.store, "SELECT 1 FROM watchers WHERE body LIKE '%ask for a seal%'")
      wait_row(t.store, "SELECT 1 FROM alerts WHERE id = ?1", overflow.id)
      wait_row(t.store, "SELECT 1 FROM snapshots WHERE id = ?1", snapshot_id)
      b:kill("sigkill")
      b:wait_exit()

      local asked = #t.server.requests
      b = t.start()
      b:wait_for("watcher.wait", nil, WAIT_MS)
      local opening = last_text(t.server.requests[asked + 1])
      for _, part in ipairs({ "State: warning for ", "ask for a seal", "beamlens was restarted",
        seal.id, overflow.id }) do
        assert.is_truthy(opening:find(part, 1, true), part .. " in " .. opening)
      end
      -- It is seen again, and clears: no alert was lost, and none was told twice.
      support.wait_until(function()
        return #b:all("beamlens.sampler.sample") >= 3
      end, WAIT_MS, "three samples")
      t.level(1)
      local ended = wait_resolved(b, overflow.id)
      assert.are.equal("rule", ended.resolved_by)
      assert.are.equal(overflow.detected_at, ended.detected_at)
      assert.is_true(ended.last_seen >= overflow.last_seen)
      assert.are.equal(overflow.snapshots[1].id, ended.snapshots[1].id)
      assert.are.equal(0, #b:all("beamlens.watcher.alert_fired"))
      tap.stop(b)
      assert.are.same({ { "firing" } }, query(t.store, "SELECT status FROM alerts WHERE id = ?1",
        seal.id))

      -- The snapshot is still there for the model, after a third start.
      local found
      local again = tap.setup({ replies = function(request)
        found = found or last_text(request):match("captured_at") and last_text(request)
        return { tool = "get_snapshot", input = { reason = "again", id = snapshot_id } }
      end })
      again.store = t.store
      b = again.start()
      local read = b:wait_for("watcher.get_snapshot", nil, WAIT_MS)
      assert.is_true(read.metadata.found)
      tap.stop(b)
    end, 120))

  it("ends the alerts whose finding is gone, or whose watcher is not defined any more",
    support.async(function()
      local t = tap.setup({ watchers = { "stays", "goes" } })
      local b = t.start()
      t.level(20)
      local fired = wait_firing(b, "overflow")
      local owner = fired.watcher
      wait_row(t.store, "SELECT 1 FROM alerts WHERE id = ?1", fired.id)
      tap.stop(b)
      t.level(1)
      b = t.start()
      assert.are.equal("rule", wait_resolved(b, fired.id).resolved_by)
      t.level(20)
      fired = wait_firing(b, "overflow")
      assert.are.equal(1, fired.flaps)
      wait_row(t.store, "SELECT 1 FROM alerts WHERE id = ?1 AND status = 'firing'", fired.id)
      tap.stop(b)
      t.watchers({ owner == "stays" and "goes" or "stays" })
      b = t.start()
      assert.are.equal("policy", wait_resolved(b, fired.id).resolved_by)
      support.wait_until(function()
        return query(t.store, "SELECT count(*) FROM watchers")[1][1] == 1
      end, WAIT_MS, "what was kept of the other watcher to go")
      tap.stop(b)
    end, 120))

  it("begins anew without a store", support.async(function()
    local t = tap.setup({})
    t.level(20)
    local b = t.start("none")
    local first = wait_firing(b, "overflow")
    tap.stop(b)
    b = t.start("none")
    assert.are_not.equal(first.id, wait_firing(b, "overflow").id)
    tap.stop(b)
  end, 120))

  it("sets aside what it cannot read, and begins that anew", support.async(function()
    local t = tap.setup({})
    t.level(20)
    local b = t.start()
    local first = wait_firing(b, "overflow")
    wait_row(t.store, "SELECT 1 FROM watchers")
    tap.stop(b)
    local opened = assert(store.open({ path = t.store }))
    assert(opened:query("UPDATE watchers SET body = '{\"state\":7}'; "
      .. "UPDATE alerts SET body = 'no JSON'"))
    opened:close()
    b = t.start()
    b:wait_for("store.row_failed", function(event)
      return event.metadata.table == "alerts" and event.metadata.key == first.id
    end, WAIT_MS)
    b:wait_for("store.row_failed", function(event)
      return event.metadata.table == "watchers" and event.metadata.error == "its state is none"
    end, WAIT_MS)
    assert.are_not.equal(first.id, wait_firing(b, "overflow").id)
    wait_row(t.store, "SELECT 1 FROM set_aside WHERE kind = 'alerts' AND content LIKE '%no JSON%'")
    assert.are.same({}, query(t.store, "SELECT 1 FROM alerts WHERE id = ?1", first.id))
    tap.stop(b)
    b = t.start()
    b:wait_for("watcher.wait", nil, WAIT_MS)
    assert.are.equal(0, #b:all("beamlens.store.row_failed"))
    tap.stop(b)
  end, 120))

  it("keeps nothing up that was of a node's last life: a restart meanwhile is told",
    support.async(function()
      local n = node.start({ name = "lives1" })
      local path = tree.make({}) .. "/s.db"
      local detector = [[name = "beam", domain = "beam", sample = "1s", rules = {
        { type = "always", hold = "1s", when = function() return { subject = "all" } end } } ]]
      local b = watch.start({ node = n, watchers = { detector }, args = { "--store", path } })
      local alert = wait_firing(b, "always")
      wait_row(path, "SELECT 1 FROM nodes")
      wait_row(path, "SELECT 1 FROM alerts WHERE id = ?1", alert.id)
      b:kill("sigkill")
      b:wait_exit()
      n:stop()
      n = node.start({ name = "lives1" })
      b = watch.start({ node = n, watchers = { detector }, args = { "--store", path } })
      assert.are.equal("restart", wait_resolved(b, alert.id).resolved_by)
      assert.are.equal("lives1@localhost", b:wait_for("node.restarted", nil,
        WAIT_MS).metadata.node)
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit(WAIT_MS))
    end, 120))

  it("knows that a node was down, and says once that it is back", support.async(function()
    local n = node.start({ name = "lives2" })
    local path = tree.make({}) .. "/s.db"
    local watcher = [[name = "beam", domain = "beam", sample = "1s",
      rules = { node_down = { hold = "1s" } }]]
    local args = { "--store", path }
    local b = watch.start({ node = n, watchers = { watcher }, args = args })
    b:wait_for("sampler.sample", nil, WAIT_MS)
    n:stop()
    local down = wait_firing(b, "node_down")
    wait_row(path, "SELECT 1 FROM alerts WHERE id = ?1", down.id)
    b:kill("sigkill")
    b:wait_exit()
    b = watch.start({ node = n, watchers = { watcher }, args = args })
    b:wait_for("node.down", nil, WAIT_MS)
    node.start({ name = "lives2" })
    local ended = wait_resolved(b, down.id)
    assert.are.equal("rule", ended.resolved_by)
    assert.are.equal(down.snapshots[1].id, ended.snapshots[1].id)
    assert.are.equal(0, #b:all("beamlens.watcher.alert_fired", function(event)
      return event.metadata.alert.type == "node_down"
    end))
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit(WAIT_MS))
  end, 120))
end)

describe("a host whose disk is full", function()
  it("watches and alerts on, and keeps what it knows when there is room", mounts.case(function()
    local t, disk = tap.setup({}), mounts.small(1024)
    t.store = disk.path .. "/s.db"
    local b = t.start()
    b:wait_for("watcher.wait", nil, WAIT_MS)
    disk:fill()
    t.level(20)
    local alert = wait_firing(b, "overflow")
    assert.are.equal("ENOSPC", b:wait_for("store.failed", nil, WAIT_MS).metadata.code)
    disk:free()
    b:wait_for("store.recovered", nil, WAIT_MS)
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit(WAIT_MS))
    local told = b:stderr()
    assert.are.equal(2, select(2, told:gsub("\n", "")), told)
    assert.is_truthy(told:find("database or disk is full (make room)", 1, true), told)
    b = t.start()
    t.level(1)
    assert.are.equal("rule", wait_resolved(b, alert.id).resolved_by)
    tap.stop(b)
  end, 180))
end)

describe("a busy host that is killed at five random points", function()
  it("loses no watcher, no alert that was told, and no store", support.async(function()
    kills.run({ rounds = 5, longest_ms = 1500 })
  end, 300))
end)
