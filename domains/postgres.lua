--- The postgres domain: the sessions that one application has at a PostgreSQL server.
---
--- It watches no BEAM node. All that blocks is in postgres/db.lua, which runs in a thread of the
--- domain. A pool here is the sessions of one `application_name`; waiting means waiting on a lock.

local beamlens = require("beamlens")

local trends, units = beamlens.trends, beamlens.units

-- More than a connection and a statement may take on the server's side.
local TIMEOUT_S = 6

---@async
local function ask(target, fn_name, ...)
  return beamlens.work("postgres.db", fn_name, { target.settings, ... }, { timeout = TIMEOUT_S })
end

-- Of a server that was there once it is a figure that it does not answer; until then an error.
local function snapshot(target)
  local counts, err, code = ask(target, "counts")
  if counts then
    target.memo.pool = counts.pool
    counts.answers = true
    return counts
  elseif not target.memo.pool then
    return nil, err, code
  end
  return { answers = false, pool = target.memo.pool, failure = err }
end

local function pool_stats(target)
  local counts, err, code = ask(target, "counts")
  if not counts then
    return nil, err, code
  end
  return {
    pool = counts.pool, size = counts.pool_size, available = counts.idle_connections,
    checked_out = counts.checked_out, waiting = counts.query_queue_depth,
    active = counts.active_connections, idle_in_transaction = counts.idle_in_transaction,
    longest_lock_wait_ms = counts.longest_lock_wait_ms,
  }
end

-- Sessions that wait for a lock for a moment are ordinary work. They are no longer when one waits
-- for LONG_WAIT_MS, or when no session of the pool is free meanwhile.
local LONG_WAIT_MS, SHORT_WAIT_MS = 5000, 1000

local FULL_PCT, NOT_FULL_PCT, ALL_BUT_FULL_PCT = 90, 85, 98

local function pool_exhausted(history, _, held)
  local data = history:latest().data
  local waiting, idle = data.query_queue_depth, data.idle_connections
  local long_ms = held[data.pool] and SHORT_WAIT_MS or LONG_WAIT_MS
  if not data.answers or waiting == 0 or (idle > 0 and data.longest_lock_wait_ms < long_ms) then
    return nil
  end
  return {
    subject = data.pool,
    severity = idle == 0 and "critical" or "warning",
    value = waiting, threshold = 0, unit = "sessions",
    summary = ("%s: %d of %d sessions wait for a lock, the longest for %s; %s"):format(data.pool,
      waiting, data.pool_size, units.format_duration(data.longest_lock_wait_ms),
      idle == 0 and "none is free" or ("%d free"):format(idle)),
    figures = {
      trends.figure("waiting", waiting, "sessions"),
      trends.figure("longest lock wait", data.longest_lock_wait_ms, "ms"),
      trends.figure("checked out", data.checked_out, "sessions"),
      trends.figure("pool size", data.pool_size, "sessions"),
    },
  }
end

local function connection_limit(history, node, held)
  local data = history:latest().data
  local pct = data.server_connection_utilization_pct
  if not data.answers or pct < (held[node.name] and NOT_FULL_PCT or FULL_PCT) then
    return nil
  end
  return {
    subject = node.name,
    severity = pct >= ALL_BUT_FULL_PCT and "critical" or "warning",
    value = pct, threshold = FULL_PCT, unit = "%",
    summary = ("%d of %d connections of the server are in use, %d of them by %s"):format(
      data.server_connections, data.server_connection_limit, data.pool_size, data.pool),
    figures = {
      trends.figure("server connections", data.server_connections, "connections"),
      trends.figure("limit", data.server_connection_limit, "connections"),
      trends.figure("pool size", data.pool_size, "sessions"),
    },
  }
end

local function server_down(history, node)
  local data = history:latest().data
  if data.answers then
    return nil
  end
  return { subject = node.name, summary = ("%s does not answer: %s"):format(node.name,
    tostring(data.failure)) }
end

local LIMIT = { name = "limit", type = "integer", default = 10, min = 1, max = 50 }

local function metric(name, unit, doc)
  return { name = name, type = unit and "number" or "integer", unit = unit, doc = doc,
    optional = true }
end

return {
  name = "postgres",
  target = "none",
  title = "PostgreSQL",
  description = "The sessions of an application at a PostgreSQL server: busy, idle, waiting for "
    .. "each other.",
  instructions = [[
The pool is the sessions of one application_name. Checked out are those in use, idle_connections
those that are free. query_queue_depth counts sessions that wait for a lock which another session
holds: some for a moment are normal; the same ones for 30 s, or no idle one left meanwhile, mean
that requests pile up. Ask postgres_lock_waits who blocks them: most often a transaction that is
idle in transaction, or a migration. A slow query alone is no trouble of the pool. Nothing here can
end a session: say which one a person should look at, by its application, state and age.]],
  settings = {
    { name = "connection", type = "string", default = "", max = 1000,
      doc = "libpq's: host=db1 dbname=shop user=beamlens; what it leaves out comes from PGHOST, "
        .. "PGUSER, ~/.pgpass and so on; never with a password" },
    { name = "application_name", type = "string", default = "", max = 63,
      doc = "whose sessions are the pool; empty: all of the database" },
  },
  metrics = {
    metric("active_connections", nil, "sessions of the pool that run a statement"),
    metric("pool_size", nil, "sessions of the pool"),
    metric("query_queue_depth", nil, "sessions of the pool that wait for a lock"),
    metric("idle_connections", nil, "sessions of the pool that are free"),
    metric("checked_out", nil, "sessions of the pool that are in use"),
    metric("longest_lock_wait_ms", "ms", "of those waiting, since the statement began"),
    metric("idle_in_transaction", nil, "in use, but doing nothing"),
    metric("longest_transaction_s", "s"),
    metric("hidden_connections", nil, "of the pool, but our role may not see what they do: "
      .. "grant it pg_monitor"),
    metric("server_connections", nil, "of all clients of the server"),
    metric("server_connection_limit", nil, "max_connections without the reserved ones"),
    metric("server_connection_utilization_pct", "%"),
    metric("uptime_s", "s"),
    { name = "pool", type = "string", doc = "the application or database" },
    { name = "answers", type = "boolean" },
    { name = "failure", type = "string", optional = true, doc = "why it does not answer" },
  },
  snapshot = snapshot,
  callbacks = {
    {
      name = "postgres_pool_stats",
      returns = {
        { name = "pool", type = "string", doc = "the application or database" },
        { name = "size", type = "integer", doc = "sessions" },
        { name = "available", type = "integer", doc = "idle" },
        { name = "checked_out", type = "integer", doc = "in use" },
        { name = "waiting", type = "integer", doc = "on a lock" },
        { name = "active", type = "integer", doc = "running a statement" },
        { name = "idle_in_transaction", type = "integer" },
        { name = "longest_lock_wait_ms", type = "number", unit = "ms" },
      },
      doc = "The pool now.",
      run = pool_stats,
    },
    {
      name = "postgres_slow_queries",
      params = { LIMIT },
      returns = {
        list = true,
        { name = "query", type = "string", doc = "without literals, at most 500 bytes" },
        { name = "duration_ms", type = "number", unit = "ms",
          doc = "the mean; of one that runs, since it began" },
        { name = "calls", type = "integer", doc = "1 of one that runs" },
        { name = "source", type = "string",
          doc = "pg_stat_statements; without that extension pg_stat_activity: what runs now" },
      },
      doc = "Statements in the database, the slowest first.",
      run = function(target, limit)
        return ask(target, "slow_queries", limit)
      end,
    },
    {
      name = "postgres_lock_waits",
      params = { LIMIT },
      returns = {
        list = true,
        { name = "pid", type = "integer", doc = "of the server's process for the session" },
        { name = "waited_ms", type = "number", unit = "ms", doc = "since its statement began" },
        { name = "query", type = "string", optional = true },
        { name = "blocked_by", type = "integer", optional = true,
          doc = "pid of the first blocker" },
        { name = "blocker_application", type = "string", optional = true },
        { name = "blocker_state", type = "string", optional = true },
        { name = "blocker_query", type = "string", optional = true, doc = "its last statement" },
        { name = "blocker_transaction_s", type = "number", unit = "s", optional = true },
      },
      doc = "Sessions of the pool that wait for a lock, the longest first, and who blocks them.",
      run = function(target, limit)
        return ask(target, "lock_waits", limit)
      end,
    },
  },
  rules = {
    {
      type = "pool_exhausted", hold = "30s", clear_hold = "30s",
      title = "Sessions of the pool wait on locks",
      investigate = "return { pool = postgres_pool_stats(), locks = postgres_lock_waits(5) }",
      when = pool_exhausted,
    },
    {
      type = "connection_limit", hold = "60s", clear_hold = "60s",
      title = "The server is running out of connections",
      when = connection_limit,
    },
    {
      type = "server_down", severity = "critical", hold = "60s", clear_hold = "0s",
      title = "PostgreSQL does not answer",
      when = server_down,
    },
  },
}
