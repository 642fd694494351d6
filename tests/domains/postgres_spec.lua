-- The postgres domain on a real server: each figure against what psql says at the same moment.

local clock = require("runtime.clock")
local beamlens = require("runtime.beamlens")
local loader = require("runtime.loader")
local parts = require("runtime.app.parts")
local postgres = require("support.postgres")
local support = require("support")
local telemetry = require("runtime.telemetry")

-- The domain as a watcher has it, with these settings. What does not fit its docs fails the case.
local function open(settings)
  package.loaded["beamlens"] = beamlens.new({ telemetry = telemetry.new(), warn = error })
  local loaded = parts.new({ loader = loader.new({ env = function() end }) })
  local d = assert(loaded:load_domain({ domain = "postgres" }))
  support.on_cleanup(function()
    loaded:close()
  end)
  local ctx = { clock = clock.system(), node = "postgres", on_misfit = error,
    settings = assert(d:read_settings(settings)) }
  return {
    domain = d,
    snapshot = function()
      return d:snapshot(ctx)
    end,
    call = function(name, ...)
      return d:invoke(ctx, name, { ... })
    end,
    ask = function(name, ...)
      return select(2, assert(d:invoke(ctx, name, { ... })))
    end,
  }
end

local function open_shop(server)
  return open({ connection = server:connection(), application_name = "shop" })
end

-- What the server counts of the pool "shop", in psql's words.
local function count(server, condition)
  return tonumber(server:sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shop'"
    .. (condition and " AND " .. condition or "")))
end

local function wait_for(server, number, condition)
  support.wait_until(function()
    return count(server, condition) == number
  end, 20000, condition)
end

-- Six sessions: two idle, one that sleeps, one idle in a transaction, two waiting for its lock.
local function make_pool(server)
  server:sql("CREATE TABLE items (id int PRIMARY KEY, name text);"
    .. "INSERT INTO items VALUES (1, 'a'), (2, 'b')")
  local pool = {}
  for i = 1, 6 do
    pool[i] = server:session("shop")
  end
  server:session("other")
  pool.holder = pool[4]
  pool.holder:run("BEGIN; UPDATE items SET name = 'held' WHERE id = 1")
  pool[3]:begin("SELECT pg_sleep(600)")
  pool[5]:begin("UPDATE items SET name = 'it''s 42' WHERE id = 1")
  wait_for(server, 1, "wait_event_type = 'Lock'") -- so that it is sure who waits longest
  pool[6]:begin("UPDATE items SET name = 'me too' WHERE id = 1")
  wait_for(server, 2, "wait_event_type = 'Lock'")
  wait_for(server, 3, "state = 'active'")
  return pool
end

describe("the postgres domain", function()
  it("counts the sessions of a pool as the server does", support.async(function()
    local server = postgres.start()
    local pool = make_pool(server)
    local shop = open_shop(server)
    local data = assert(shop.snapshot())
    assert.are.same({ 6, 3, 2, 2, 1, 4, 0 }, { data.pool_size, data.active_connections,
      data.query_queue_depth, data.idle_connections, data.idle_in_transaction, data.checked_out,
      data.hidden_connections })
    assert.are.same({
      count(server), count(server, "state = 'active'"),
      count(server, "wait_event_type = 'Lock'"), count(server, "state = 'idle'"),
      count(server, "state = 'idle in transaction'"), count(server, "state <> 'idle'"), 0,
    }, { data.pool_size, data.active_connections, data.query_queue_depth, data.idle_connections,
      data.idle_in_transaction, data.checked_out, data.hidden_connections })
    assert.are.equal("shop", data.pool)
    assert.is_true(data.answers)
    -- All clients of the server: psql's own session stands for ours, which is one of them, too.
    assert.are.equal(tonumber(server:sql("SELECT count(*) FROM pg_stat_activity "
      .. "WHERE backend_type = 'client backend' AND application_name <> 'truth'")),
      data.server_connections)
    assert.are.equal(17, data.server_connection_limit)
    assert.is_near(100 * data.server_connections / 17, data.server_connection_utilization_pct, 0.1)
    local up_s = tonumber(server:sql("SELECT extract(epoch FROM now() - "
      .. "pg_postmaster_start_time())"))
    assert.is_true(data.uptime_s >= 0 and data.uptime_s <= up_s)
    local least_ms = data.longest_lock_wait_ms
    data = assert(shop.snapshot())
    local most_ms = tonumber(server:sql("SELECT max(extract(epoch FROM clock_timestamp() - "
      .. "query_start) * 1000) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
    assert.is_true(least_ms > 0 and least_ms <= data.longest_lock_wait_ms)
    assert.is_true(data.longest_lock_wait_ms <= most_ms)

    local stats = shop.ask("postgres_pool_stats")
    assert.are.same({ 6, 2, 4, 2, "shop" }, { stats.size, stats.available, stats.checked_out,
      stats.waiting, stats.pool })
    pool.holder:run("COMMIT")
    pool[5]:wait()
    pool[6]:wait()
    wait_for(server, 5, "state = 'idle'")
    stats = shop.ask("postgres_pool_stats")
    assert.are.same({ 6, 5, 1, 0 }, { stats.size, stats.available, stats.checked_out,
      stats.waiting })
  end, 60))

  it("takes all sessions of the database where no application is named", support.async(function()
    local server = postgres.start()
    server:sql("CREATE DATABASE elsewhere")
    local a, b = server:session("shop"), server:session("other")
    server:session("beamlens") -- of another host, which is not counted either
    a:run("SELECT 1")
    b:run("\\connect elsewhere")
    local data = assert(open({ connection = server:connection() }).snapshot())
    assert.are.same({ "postgres", 1 }, { data.pool, data.pool_size })
    data = assert(open({ connection = server:connection("dbname=elsewhere") }).snapshot())
    assert.are.same({ "elsewhere", 1 }, { data.pool, data.pool_size })
    local url = ("postgresql://postgres@127.0.0.1:%d/elsewhere"):format(server.port)
    data = assert(open({ connection = url, application_name = "shop" }).snapshot())
    assert.are.same({ "shop", 1 }, { data.pool, data.pool_size })
    data = assert(open({ connection = server:connection(),
      application_name = "o'brien\\' OR true --" }).snapshot())
    assert.are.same({ "o'brien\\' OR true --", 0 }, { data.pool, data.pool_size })
  end, 60))

  it("says what its role may not see, and sees it with pg_monitor", support.async(function()
    local server = postgres.start()
    server:sql("CREATE ROLE watcher LOGIN")
    local session = server:session("shop")
    session:begin("SELECT pg_sleep(600) AS secret_nap")
    wait_for(server, 1, "state = 'active'")
    local shop = open({ connection = server:connection("user=watcher"),
      application_name = "shop" })
    local data = assert(shop.snapshot())
    assert.are.same({ 1, 1, 0, 0 }, { data.pool_size, data.hidden_connections,
      data.active_connections, data.checked_out })
    assert.are.equal(0, #shop.ask("postgres_slow_queries"))
    server:sql("GRANT pg_monitor TO watcher")
    data = assert(shop.snapshot())
    assert.are.same({ 1, 0, 1, 1 }, { data.pool_size, data.hidden_connections,
      data.active_connections, data.checked_out })
    assert.matches("secret_nap", shop.ask("postgres_slow_queries")[1].query)
  end, 60))

  it("names who waits for a lock and who blocks it, without literals", support.async(function()
    local server = postgres.start()
    make_pool(server)
    local waits = open_shop(server).ask("postgres_lock_waits", 5)
    assert.are.equal(2, #waits)
    local first = waits[1]
    assert.are.equal("UPDATE items SET name = ? WHERE id = ?", first.query:gsub(";$", ""))
    assert.are.equal(server:sql("SELECT pid FROM pg_stat_activity "
      .. "WHERE state = 'idle in transaction'"), tostring(first.blocked_by))
    assert.are.equal(server:sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'shop' "
      .. "AND wait_event_type = 'Lock' ORDER BY query_start LIMIT 1"), tostring(first.pid))
    assert.are.same({ "shop", "idle in transaction" },
      { first.blocker_application, first.blocker_state })
    assert.matches("^UPDATE items SET name = %? WHERE id = %?", first.blocker_query)
    assert.is_true(first.waited_ms >= waits[2].waited_ms and first.blocker_transaction_s >= 0)
  end, 60))
end)

describe("postgres_slow_queries", function()
  it("gives what runs now, and with pg_stat_statements the slowest of all", support.async(
    function()
      local server = postgres.start()
      local shop = open_shop(server)
      local session = server:session("shop")
      session:begin("SELECT pg_sleep(600), 'größe 日本' AS \"größe 日本\"")
      wait_for(server, 1, "state = 'active'")
      local running = shop.ask("postgres_slow_queries", 5)
      assert.are.equal(1, #running)
      local slow = running[1]
      assert.are.same({ 'SELECT pg_sleep(?), ? AS "größe 日本"', 1, "pg_stat_activity" },
        { (slow.query:gsub(";$", "")), slow.calls, slow.source })
      assert.is_true(slow.duration_ms > 0 and slow.duration_ms < 60000)

      server:sql("CREATE SCHEMA extensions; "
        .. "CREATE EXTENSION pg_stat_statements SCHEMA extensions")
      for _ = 1, 3 do
        server:sql("SELECT pg_sleep(0.2) AS naps")
      end
      slow = shop.ask("postgres_slow_queries", 1)
      assert.are.equal(1, #slow)
      assert.are.same({ "SELECT pg_sleep($1) AS naps", 3, "pg_stat_statements" },
        { slow[1].query, slow[1].calls, slow[1].source })
      local mean_ms = tonumber(server:sql("SELECT mean_exec_time FROM "
        .. "extensions.pg_stat_statements WHERE query LIKE '%naps'"))
      assert.is_near(mean_ms, slow[1].duration_ms, 0.1)
      for _, row in ipairs(shop.ask("postgres_slow_queries", 50)) do
        assert.is_nil(row.query:find("/* beamlens */", 1, true))
      end
    end, 60))

  it("bounds a statement of a megabyte, in valid UTF-8", support.async(function()
    local server = postgres.start()
    server:sql("CREATE EXTENSION pg_stat_statements")
    local path = server.folder .. "/big.sql"
    support.write_file(path, "SELECT pg_sleep(0.2) AS \"" .. ("ü"):rep(20) .. "\" -- "
      .. ("ö"):rep(512 * 1024) .. "\n;\n")
    local session = server:session("shop")
    session:run("\\i " .. path)
    local slow = open_shop(server).ask("postgres_slow_queries", 1)[1]
    assert.matches("^SELECT pg_sleep", slow.query)
    assert.matches("ö…$", slow.query)
    assert.is_true(#slow.query > 400 and #slow.query <= 503)
    assert.is_truthy(slow.query:find(("ü"):rep(20), 1, true))
  end, 60))

  it("refuses wrong arguments before the server is asked", support.async(function()
    local shop = open({ connection = "host=nowhere.invalid" })
    for given, wanted in pairs({
      [0] = "argument 1 %(limit%) is 0, a number; allowed: a whole number from 1 to 50",
      [51] = "is 51, a number", [1.5] = "is 1.5, a number", many = 'is "many", a string',
    }) do
      for _, name in ipairs({ "postgres_slow_queries", "postgres_lock_waits" }) do
        local ok, err = shop.call(name, given)
        assert.is_nil(ok)
        assert.matches("^" .. name .. ": ", err)
        assert.matches(wanted, err)
      end
    end
    local ok, err = shop.call("postgres_pool_stats", 1)
    assert.is_nil(ok)
    assert.matches("argument 1 is one too many; allowed: none", err)
  end))
end)

describe("a server of the postgres domain", function()
  it("that restarts is connected to again", support.async(function()
    local server = postgres.start()
    local shop = open_shop(server)
    assert.are.equal(0, assert(shop.snapshot()).pool_size)
    server:stop()
    local data = assert(shop.snapshot())
    assert.is_false(data.answers)
    assert.are.equal("shop", data.pool)
    assert.matches("^ECONNREFUSED: .*Connection refused", data.failure)
    local ok, err = shop.call("postgres_pool_stats")
    assert.is_nil(ok)
    assert.matches("^postgres_pool_stats: ECONNREFUSED: ", err)
    server:start()
    server:session("shop")
    assert.are.equal(1, assert(shop.snapshot()).pool_size)
    server:stop()
    server:start()
    assert.are.equal(0, shop.ask("postgres_pool_stats").size)
  end, 60))

  it("that hangs costs the deadline of a call, and is found again", support.async(function()
    local server = postgres.start()
    local shop = open_shop(server)
    assert(shop.snapshot())
    local own = tonumber(server:sql("SELECT pid FROM pg_stat_activity "
      .. "WHERE application_name = 'beamlens'"))
    local uv = require("luv")
    server:signal("sigstop")
    uv.kill(own, "sigstop")
    local ok, err = shop.call("postgres_pool_stats")
    assert.is_nil(ok)
    assert.matches("ETIMEDOUT: postgres.db.counts took longer than 6000 ms", err)
    ok, err = shop.call("postgres_pool_stats")
    assert.is_nil(ok)
    assert.matches("ETIMEDOUT: .*timeout expired", err)
    uv.kill(own, "sigcont")
    server:signal("sigcont")
    assert.are.equal(0, shop.ask("postgres_pool_stats").size)
  end, 60))

  it("that refuses is told with what it says, by a code of its own", support.async(function()
    local server = postgres.start()
    for code, connection in pairs({
      ENODATABASE = server:connection("dbname=nothing_here"),
      EAUTH = server:connection("user=nobody_here"),
      ECONNREFUSED = "host=127.0.0.1 port=1",
      EHOST = "host=no..where",
      EPOSTGRES = "hots=db1",
      EPASSWORD = "host=127.0.0.1 password = s3cret",
    }) do
      local data, err, got = open({ connection = connection }).snapshot()
      assert.is_nil(data)
      assert.are.equal(code, got, err)
      assert.are.equal(code .. ": ", err:sub(1, #code + 2))
      assert.is_nil(err:find("s3cret", 1, true))
      assert.is_nil(err:find("\n", 1, true))
    end
    for _, url in ipairs({ "postgresql://me:s3cret@db1/shop", "postgres://me:s3/cr@et@db1/shop",
      "postgresql://me:s3?cret@db1", "postgresql://db1/shop?password=s3cret" }) do
      local err = select(2, open({ connection = url }).snapshot())
      assert.matches("^EPASSWORD: a password does not belong into `connection`", err)
      assert.is_nil(err:find("s3", 1, true))
    end
  end, 60))

  it("is not waited for where its own tables are locked", support.async(function()
    local server = postgres.start()
    local shop = open_shop(server)
    local blocker = server:session("other")
    blocker:run("BEGIN; LOCK TABLE pg_catalog.pg_extension IN ACCESS EXCLUSIVE MODE")
    local ok, err = shop.call("postgres_slow_queries")
    assert.is_nil(ok)
    assert.matches("^postgres_slow_queries: EPOSTGRES: .*lock timeout", err)
    blocker:run("ROLLBACK")
    assert.are.equal(0, #shop.ask("postgres_slow_queries"))
  end, 60))

  it("is out of reach without the driver, which is named", support.async(function()
    local cpath = package.cpath
    package.cpath = "/nowhere/?.so"
    local shop = open({})
    package.cpath = cpath
    local data, err, code = shop.snapshot()
    assert.is_nil(data)
    assert.are.equal("ENODRIVER", code)
    assert.are.equal("ENODRIVER: Lua cannot reach PostgreSQL: install Debian's package "
      .. "lua-sql-postgres", err)
  end))
end)

describe("a statement's text without literals", function()
  local literals = require("domains.postgres.literals")

  it("has ? for strings and numbers, and keeps names", function()
    for given, wanted in pairs({
      ["SELECT * FROM t1 WHERE a = 1 AND b2 = 'x''y'"] = "SELECT * FROM t1 WHERE a = ? AND b2 = ?",
      ["f(1.5e10, -2, $1, $23)"] = "f(?, -?, $1, $23)",
      ["SELECT E'it\\'s' || e'\\\\', name'x'"] = "SELECT E? || e?, name?",
      ["SELECT $$a 'b' 1$$, $tag$c $$ d$tag$ + 1"] = "SELECT ?, ? + ?",
      ['SELECT "it\'s 1" FROM "2"'] = 'SELECT "it\'s 1" FROM "2"',
      ["SELECT 'cut short"] = "SELECT ?", ["SELECT $$cut"] = "SELECT ?", [""] = "",
      ["SELECT 1 -- it's 2\n, 'b'"] = "SELECT ? -- it's 2 , ?",
      ["SELECT /* 'a */ 'b'"] = "SELECT /* 'a */ ?", ["a\n\t b"] = "a b",
    }) do
      assert.are.equal(wanted, literals.remove(given, 500))
    end
    assert.is_nil(literals.remove(nil, 500))
  end)

  it("is cut at a character", function()
    assert.are.equal("aüü…", literals.remove("aüüü", 6))
    assert.are.equal("aüü…", literals.remove("aüüü", 5))
    assert.are.equal("aüüü", literals.remove("aüüü", 7))
  end)

  it("is found in time, whatever the text", function()
    for _, piece in ipairs({ "'", '"', "$", "$a", "/*", "--\n", "1", "\\", "e'", "$1", "a1" }) do
      assert.is_string(literals.remove(piece:rep(2000), 500))
    end
  end)
end)
