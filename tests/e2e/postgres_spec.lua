-- The postgres domain against a real server, as beamlens runs it.

local beamlens = require("support.beamlens")
local json = require("runtime.json")
local postgres = require("support.postgres")
local support = require("support")
local watch = require("support.watch")

local function of_type(name)
  return function(event)
    return (event.metadata.alert or event.metadata.finding).type == name
  end
end

local function start(server, body, env)
  local path = watch.file({ 'name = "pg", domain = "postgres", node = "db1", sample = "1s", '
    .. 'settings = { application_name = "shop" }, ' .. body })
  return beamlens.start({ "run", path, "--log", "json" }, { env = server:env(env) })
end

-- A pool of `size` sessions: one holds a lock in a transaction, `waiting` wait for it.
local function block(server, size, waiting)
  local pool = {}
  for i = 1, size do
    pool[i] = server:session("shop")
  end
  pool[1]:run("BEGIN; UPDATE items SET name = 'held' WHERE id = 1")
  for i = 2, 1 + waiting do
    pool[i]:begin("UPDATE items SET name = 'next' WHERE id = 1")
  end
  return pool
end

describe("pool_exhausted", function()
  it("fires while sessions wait for a lock, names who holds it, and resolves", support.async(
    function()
      local server = postgres.start()
      server:sql("CREATE TABLE items (id int PRIMARY KEY, name text); "
        .. "INSERT INTO items VALUES (1, 'a')")
      local b = start(server, 'rules = { pool_exhausted = { hold = "2s", clear_hold = "1s" } }')
      b:wait_for("sampler.sample", nil, 20000)
      local pool = block(server, 3, 2)
      local alert = b:wait_for("watcher.alert_fired", of_type("pool_exhausted"), 30000)
        .metadata.alert
      assert.are.same({ "shop", "db1", "critical" }, { alert.subject, alert.node,
        alert.severity })
      assert.matches("^shop: 2 of 3 sessions wait for a lock, the longest for .*; none is free",
        alert.summary)
      assert.are.same({ "waiting", 2, "checked out", 3, "pool size", 3 }, {
        alert.figures[1].name, alert.figures[1].value, alert.figures[3].name,
        alert.figures[3].value, alert.figures[4].name, alert.figures[4].value })
      local evidence = alert.executions[1].value
      assert.are.equal(2, #evidence.locks)
      -- One waits for who holds the row, the other behind it.
      local holder = server:sql("SELECT pid FROM pg_stat_activity WHERE state = "
        .. "'idle in transaction'")
      local first, second = evidence.locks[1], evidence.locks[2]
      if tostring(first.blocked_by) ~= holder then
        first, second = second, first
      end
      assert.are.equal(holder, tostring(first.blocked_by))
      assert.are.equal(first.pid, second.blocked_by)
      assert.are.equal("beamlens snapshot postgres --set 'application_name=shop'", alert.next[2])
      pool[1]:run("COMMIT")
      local resolved = b:wait_for("watcher.alert_resolved", nil, 30000)
      assert.are.equal(alert.id, resolved.metadata.alert.id)
      assert.are.equal("rule", resolved.metadata.alert.resolved_by)
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
    end, 90))

  it("is quiet about a slow query, a transaction that is idle, and short waits",
    support.async(function()
      local server = postgres.start()
      server:sql("CREATE TABLE items (id int PRIMARY KEY, name text); "
        .. "INSERT INTO items VALUES (1, 'a')")
      local b = start(server, 'rules = { pool_exhausted = { hold = "0s" } }')
      local pool = block(server, 4, 0)
      pool[2]:begin("SELECT pg_sleep(600)")
      local seen = 0
      while seen < 5 do
        -- A short wait in each sample, while a session is free.
        pool[3]:begin("UPDATE items SET name = 'next' WHERE id = 1")
        local count = #b:all("beamlens.sampler.sample")
        support.wait_until(function()
          return #b:all("beamlens.sampler.sample") > count
        end, 20000, "a sample; " .. b:stderr())
        local sample = b:all("beamlens.sampler.sample")[count + 1].metadata.data
        seen = seen + (sample.query_queue_depth == 1 and 1 or 0)
        pool[1]:run("COMMIT")
        pool[3]:wait()
        pool[1]:run("BEGIN; UPDATE items SET name = 'held' WHERE id = 1")
      end
      -- Not a short one any more where the machine itself stood still.
      local long = b:all("beamlens.sampler.sample", function(event)
        return event.metadata.data.longest_lock_wait_ms >= 5000
      end)
      assert.is_true(#b:all("beamlens.finding.pending") <= #long)
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
    end, 90))
end)

describe("server_down", function()
  it("fires when the server is gone, and ends when it is back", support.async(function()
    local server = postgres.start()
    local b = start(server, 'rules = { server_down = { hold = "2s" } }')
    b:wait_for("sampler.sample", nil, 20000)
    server:stop()
    local alert = b:wait_for("watcher.alert_fired", nil, 30000).metadata.alert
    assert.are.same({ "server_down", "db1", "critical" }, { alert.type, alert.subject,
      alert.severity })
    assert.matches("^db1 does not answer: ECONNREFUSED: ", alert.summary)
    server:start()
    assert.are.equal(alert.id, b:wait_for("watcher.alert_resolved", nil, 30000).metadata.alert.id)
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit())
  end, 90))
end)

describe("the postgres domain of the command line", function()
  it("takes its connection from the environment, and a password shows up nowhere",
    support.async(function()
      local server = postgres.start()
      server:sql("CREATE ROLE with_password LOGIN PASSWORD 'right-s3cret'")
      local function run(password, ...)
        return beamlens.run({ ... }, { env = server:env({ "PGUSER=with_password",
          password and "PGPASSWORD=" .. password or "X=" }) })
      end
      local status, out, err = run("right-s3cret", "snapshot", "postgres")
      assert.are.same({ 0, "" }, { status, err })
      assert.are.equal(0, json.decode(out).pool_size)
      for _, given in ipairs({ "wrong-s3cret", false }) do
        status, out, err = run(given, "snapshot", "postgres")
        assert.are.same({ 1, "" }, { status, out })
        assert.matches("^beamlens: EAUTH: ", err)
        assert.is_nil(err:find("s3cret", 1, true))
      end
      status, out, err = run("right-s3cret", "exec", "postgres", "-e",
        "return postgres_pool_stats().size")
      assert.are.same({ 0, "0", "" }, { status, out, err })
      local b = start(server, "", { "PGUSER=with_password", "PGPASSWORD=wrong-s3cret" })
      local failed = b:wait_for("sampler.failed")
      assert.are.equal("EAUTH", failed.metadata.code)
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
      assert.is_nil((b:stdout() .. b:stderr()):find("s3cret", 1, true))
    end, 60))

  it("runs the example from its folder, and says what is wrong while no server is there",
    support.async(function()
      local path = "docs/examples/watchers/postgres.lua"
      assert.are.equal(0, (beamlens.run({ "check", path })))
      local b = beamlens.start({ "run", path, "--log", "json" },
        { env = { "PGHOST=127.0.0.1", "PGPORT=1" } })
      local failed = b:wait_for("sampler.failed")
      assert.are.same({ "ECONNREFUSED", "db1" }, { failed.metadata.code, failed.metadata.node })
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
    end, 40))
end)
