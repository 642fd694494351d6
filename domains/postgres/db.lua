--- The database side of the postgres domain. It runs in the domain's own thread by beamlens.work,
--- where it may block: connections are kept here from call to call, one per `connection` setting.
---
--- Sessions of beamlens read only, name themselves "beamlens" and are left out of what they count.
--- What a server takes too long for ends on the server first (STATEMENT_MS), a server that does not
--- accept a connection after CONNECT_S, and anything else by the deadline of the call.

local literals = require("postgres.literals")

local M = {}

local CONNECT_S = 2 -- per address; the least that libpq takes
local STATEMENT_MS, LOCK_MS = 1500, 500
local QUERY_BYTES = 500 -- of a statement's text, in answers
local QUERY_READ = 2000 -- characters read of it

local connections = {} -- by `connection`

-- nil, err, code
local function fail(code, text, ...)
  return nil, ("%s: %s"):format(code, text:format(...)), code
end

local function driver()
  local ok, found = pcall(require, "luasql.postgres")
  if ok then
    return found
  elseif tostring(found):find("module 'luasql.postgres' not found", 1, true) then
    return fail("ENODRIVER", "Lua cannot reach PostgreSQL: install Debian's package "
      .. "lua-sql-postgres")
  end
  return fail("ENODRIVER", "%s", (tostring(found):match("^[^\n]*")))
end

-- Rather too often than too seldom: a password that is written wrongly may be in libpq's complaint.
local function has_password(connection)
  return connection:lower():find("password%s*=") or connection:find("^%a+://.*:.*@")
end

-- What libpq gets. It fills in the rest from PGHOST, PGUSER, PGPASSFILE and its other variables.
local function connection_string(connection)
  if connection:find("^postgres%a*://") then
    return ("%s%sconnect_timeout=%d&application_name=beamlens&client_encoding=UTF8"):format(
      connection, connection:find("?", 1, true) and "&" or "?", CONNECT_S)
  elseif connection ~= "" and not connection:find("=", 1, true) then
    connection = ("dbname='%s'"):format((connection:gsub("[\\']", "\\%0")))
  end
  return ("connect_timeout=%d tcp_user_timeout=5000 %s application_name=beamlens "
    .. "client_encoding=UTF8"):format(CONNECT_S, connection)
end

-- The driver's words on one line, without its own name.
local function clean(err)
  return (tostring(err):gsub("^LuaSQL: [^.]*%. PostgreSQL: ", ""):gsub("%s+", " "):gsub(" $", ""))
end

local CODES = {
  { "authentication", "EAUTH" }, { "no password", "EAUTH" }, { "pg_hba", "EAUTH" },
  { "role \"", "EAUTH" }, { "database \".*\" does not exist", "ENODATABASE" },
  { "refused", "ECONNREFUSED" }, { "timeout expired", "ETIMEDOUT" },
  { "translate host", "EHOST" },
}

local function connect_failure(err)
  local text = clean(err)
  for _, pair in ipairs(CODES) do
    if text:find(pair[1]) then
      return fail(pair[2], "%s", text)
    end
  end
  return fail("EPOSTGRES", "%s", text)
end

local function connect(connection)
  if has_password(connection) then
    return fail("EPASSWORD", "a password does not belong into `connection`: put it into "
      .. "~/.pgpass (or PGPASSFILE), or into PGPASSWORD")
  end
  local luasql, err, code = driver()
  if not luasql then
    return nil, err, code
  end
  local session
  session, err = luasql.postgres():connect(connection_string(connection))
  if not session then
    return connect_failure(err)
  end
  local ready
  ready, err = session:execute(("SET statement_timeout = %d; SET lock_timeout = %d; "
    .. "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"):format(STATEMENT_MS, LOCK_MS))
  if not ready then
    session:close()
    return connect_failure(err)
  end
  connections[connection] = session
  return session
end

local function fetch_all(cursor)
  local rows = {}
  while true do
    local row = cursor:fetch({}, "a")
    if not row then
      return rows -- the cursor has closed itself
    end
    for key, value in pairs(row) do
      row[key] = not key:find("^text_") and tonumber(value) or value
    end
    rows[#rows + 1] = row
  end
end

-- Sessions of clients; a role without rights does not see what kind of process a row is.
local IS_CLIENT = "(backend_type = 'client backend' OR "
  .. "(backend_type IS NULL AND usesysid IS NOT NULL))"

-- Runs a query on the kept connection, or a new one. A connection that fails is not kept, and one
-- that was old is replaced once: the server may have been restarted since. `$NAME` in the source is
-- the quoted name, `$CLIENT` the condition above.
local function query(settings, source, name)
  local session = connections[settings.connection]
  local is_old = session ~= nil
  while true do
    local err, code
    if not session then
      session, err, code = connect(settings.connection)
    end
    if not session then
      return nil, err, code
    end
    local sql = source:gsub("%$CLIENT", IS_CLIENT):gsub("%$NAME", function()
      return ("'%s'"):format(session:escape(name or ""))
    end)
    local cursor
    cursor, err = session:execute(sql)
    if cursor then
      return fetch_all(cursor)
    end
    session:close()
    session, connections[settings.connection] = nil, nil
    if not is_old then
      return fail("EPOSTGRES", "%s", clean(err))
    end
    is_old = false
  end
end

-- The sessions of clients but ours. Those of the pool: of the application, or, where none is named,
-- of the database.
local SESSIONS = [[
WITH sessions AS (
  SELECT *, CASE WHEN $NAME = '' THEN datname = current_database()
                 ELSE application_name = $NAME END AS in_pool,
    1000 * extract(epoch FROM clock_timestamp() - query_start) AS query_ms,
    extract(epoch FROM clock_timestamp() - xact_start) AS transaction_s
  FROM pg_stat_activity
  WHERE $CLIENT AND pid <> pg_backend_pid()
    AND application_name IS DISTINCT FROM 'beamlens')
]]

local COUNTS = SESSIONS .. [[
SELECT /* beamlens */
  CASE WHEN $NAME = '' THEN current_database()::text ELSE $NAME END AS text_pool,
  count(*) FILTER (WHERE in_pool) AS pool_size,
  count(*) FILTER (WHERE in_pool AND state = 'active') AS active_connections,
  count(*) FILTER (WHERE in_pool AND wait_event_type = 'Lock') AS query_queue_depth,
  count(*) FILTER (WHERE in_pool AND state = 'idle') AS idle_connections,
  count(*) FILTER (WHERE in_pool AND state LIKE 'idle in transaction%')
    AS idle_in_transaction,
  count(*) FILTER (WHERE in_pool AND state IS NULL) AS hidden_connections,
  coalesce(max(query_ms) FILTER (WHERE in_pool AND wait_event_type = 'Lock'), 0)
    AS longest_lock_wait_ms,
  coalesce(max(transaction_s) FILTER (WHERE in_pool), 0) AS longest_transaction_s,
  (SELECT count(*) FROM pg_stat_activity WHERE $CLIENT) AS server_connections,
  current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int AS server_connection_limit,
  floor(extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())) AS uptime_s
FROM sessions]]

local WAITS = SESSIONS .. [[
, waits AS (
  SELECT *, (pg_blocking_pids(pid))[1] AS blocker FROM sessions
  WHERE in_pool AND wait_event_type = 'Lock' ORDER BY query_ms DESC LIMIT $LIMIT)
SELECT /* beamlens */ w.pid, w.query_ms AS waited_ms, left(w.query, $CHARS) AS text_query,
  b.pid AS blocked_by, b.application_name AS text_blocker_application,
  b.state AS text_blocker_state, left(b.query, $CHARS) AS text_blocker_query,
  extract(epoch FROM clock_timestamp() - b.xact_start) AS blocker_transaction_s
FROM waits w LEFT JOIN pg_stat_activity b ON b.pid = w.blocker ORDER BY w.query_ms DESC]]

-- Where pg_stat_statements is there and its library is loaded (else it has no settings): its
-- schema, and the name of its column, which changed with PostgreSQL 13.
local STATEMENTS_AT = [[
SELECT /* beamlens */ quote_ident(n.nspname) AS text_schema,
  CASE WHEN current_setting('server_version_num')::int >= 130000
       THEN 'mean_exec_time' ELSE 'mean_time' END AS text_column
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
  AND EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max')]]

local STATEMENTS = [[
SELECT /* beamlens */ left(query, $CHARS) AS text_query, $COLUMN AS duration_ms, calls
FROM $SCHEMA.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND query NOT LIKE '%/* beamlens */%'
ORDER BY $COLUMN DESC LIMIT $LIMIT]]

local RUNNING = SESSIONS .. [[
SELECT /* beamlens */ left(query, $CHARS) AS text_query, query_ms AS duration_ms, 1 AS calls
FROM sessions WHERE state = 'active' AND datname = current_database()
ORDER BY query_ms DESC LIMIT $LIMIT]]

-- Constants of ours and checked numbers, put into a query.
local function fill(source, values)
  values.CHARS = QUERY_READ
  return (source:gsub("%$(%u+)", values))
end

local function round(number)
  return number and math.floor(number * 10 + 0.5) / 10
end

--- The figures of a snapshot.
---@param settings { connection: string, application_name: string }
function M.counts(settings)
  local rows, err, code = query(settings, COUNTS, settings.application_name)
  if not rows then
    return nil, err, code
  end
  local row = rows[1]
  row.pool, row.text_pool = row.text_pool, nil
  row.checked_out = row.pool_size - row.idle_connections - row.hidden_connections
  row.longest_lock_wait_ms = round(row.longest_lock_wait_ms)
  row.longest_transaction_s = round(row.longest_transaction_s)
  row.server_connection_utilization_pct =
    round(100 * row.server_connections / row.server_connection_limit)
  return row
end

--- Statements by their time, the slowest first.
---@param limit integer
function M.slow_queries(settings, limit)
  local at, err, code = query(settings, STATEMENTS_AT)
  if not at then
    return nil, err, code
  end
  local where = at[1] and "pg_stat_statements" or "pg_stat_activity"
  local rows
  rows, err, code = query(settings, fill(at[1] and STATEMENTS or RUNNING, {
    LIMIT = limit, SCHEMA = at[1] and at[1].text_schema, COLUMN = at[1] and at[1].text_column,
  }), settings.application_name)
  if not rows then
    return nil, err, code
  end
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = { query = literals.remove(row.text_query, QUERY_BYTES), calls = row.calls,
      duration_ms = round(row.duration_ms), source = where }
  end
  return list
end

--- Sessions of the pool that wait for a lock, and who holds it.
---@param limit integer
function M.lock_waits(settings, limit)
  local rows, err, code = query(settings, fill(WAITS, { LIMIT = limit }),
    settings.application_name)
  if not rows then
    return nil, err, code
  end
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = {
      pid = row.pid, waited_ms = round(row.waited_ms),
      query = literals.remove(row.text_query, QUERY_BYTES),
      blocked_by = row.blocked_by, blocker_application = row.text_blocker_application,
      blocker_state = row.text_blocker_state,
      blocker_query = literals.remove(row.text_blocker_query, QUERY_BYTES),
      blocker_transaction_s = round(row.blocker_transaction_s),
    }
  end
  return list
end

return M
