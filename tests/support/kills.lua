-- Kills a busy host at random points, and starts it again each time: nothing of what it keeps may
-- be lost or become unreadable.
--
--   kills.run({ rounds = 5, longest_ms = 2000 })

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local node = require("support.node")
local schema = require("runtime.store.schema")
local store = require("runtime.store")
local support = require("support")
local tree = require("support.tree")
local watch = require("support.watch")

local M = {}

local WAIT_MS = 60000
-- What was told so long before a kill has to be in the store, however loaded the machine is.
local KEPT_WITHIN_MS = 5000

-- Something begins and ends all the time: each of seven subjects is found for 2 s.
local WATCHER = [[name = "%s", domain = "%s", sample = "1s", wait = { min = "1s", max = "2s" },
  history = { snapshots = 20, alerts = 10000 },
  rules = { { type = "comes_and_goes", hold = "0s", clear_hold = "0s", looks_back = "1s",
    when = function(history)
      return { subject = "s" .. math.floor(history:latest().at_ms / 2000) %% 7 }
    end } }]]
local DOMAINS = { "beam", "ets", "gc", "ports", "sup" }

-- A model that looks, judges, alerts and waits, in no order.
local function model()
  local last
  return anthropic_server.start({ on_request = function(request)
    local id = request.text:match('Snapshot (%x+)') or last
    last = id
    local calls = {
      { tool = "take_snapshot", input = { reason = "look" } },
      { tool = "set_state", input = { state = "observing", reason = "who knows" } },
      { tool = "wait", input = { reason = "later", ms = 1000, note = "note " .. math.random(99) } },
      { tool = "fire_alert", input = { reason = "tell", type = "other", severity = "warning",
        subject = "m" .. math.random(5), summary = "odd", snapshot_ids = { id or "none" } } },
    }
    local call = calls[math.random(#calls)]
    call.delay_ms = 200
    return call
  end })
end

local function read(path, sql)
  local opened = assert(store.read(path))
  assert(schema.check(opened))
  local rows = assert(opened:query(sql))
  opened:close()
  return rows
end

-- What was told of each alert last, if that was early enough.
local function told(b, before_ms)
  local status = {}
  for _, event in ipairs(b.events) do
    local what = event.event:match("^beamlens%.watcher%.alert_(%l+)$")
    if what and event.metadata.alert then
      local is_early = event.measurements.system_time <= before_ms
      local alert, before = event.metadata.alert, status[event.metadata.alert.id] or {}
      status[alert.id] = { status = is_early and alert.status or nil,
        at_ms = alert.resolved_at or alert.last_seen, is_kept = is_early or before.is_kept }
    end
  end
  return status
end

local function check_store(path, b, killed_ms, known, seen)
  local now = {}
  for _, row in ipairs(read(path, "SELECT id, status, coalesce(resolved_at, last_seen) "
    .. "FROM alerts")) do
    now[row[1]] = { status = row[2], at_ms = row[3] }
    known[row[1]] = true
  end
  for id in pairs(known) do
    assert(now[id], "alert " .. id .. " was in the store, and is no more")
  end
  for id, what in pairs(told(b, killed_ms - KEPT_WITHIN_MS)) do
    assert(now[id] or not what.is_kept, "alert " .. id .. " was told, and is not in the store")
    -- What happened last may be in the store, but not be told any more.
    assert(not what.status or now[id].status == what.status or now[id].at_ms > what.at_ms,
      ("alert %s is %s, but was told as %s"):format(id, now[id] and now[id].status,
        tostring(what.status)))
    seen.told = seen.told + (what.is_kept and 1 or 0)
  end
  local twice = read(path, "SELECT json_extract(body, '$.fingerprint') AS f FROM alerts "
    .. "WHERE status = 'firing' GROUP BY f HAVING count(*) > 1")
  assert(#twice == 0, "an alert fires under two ids")
end

local function await_watchers(b)
  for _, domain in ipairs(DOMAINS) do
    b:wait_for("watcher.started", function(event)
      return event.metadata.watcher == "w-" .. domain
    end, WAIT_MS)
  end
end

--- Runs, kills and checks.
---@async
---@param opts { rounds: integer, longest_ms: integer } How often, and how long a host may run.
---@return integer told How often an alert that was told before a kill was looked for, and found.
function M.run(opts)
  local n, server = node.start({ name = "kills1" }), model()
  support.on_cleanup(function()
    server:stop()
  end)
  local path = tree.make({}) .. "/s.db"
  local watchers, known, seen = {}, {}, { told = 0 }
  for i, domain in ipairs(DOMAINS) do
    watchers[i] = WATCHER:format("w-" .. domain, domain)
  end
  local function start()
    return watch.start({ node = n, watchers = watchers, args = { "--store", path }, env = {
      "ANTHROPIC_API_KEY=sk-spec", "ANTHROPIC_BASE_URL=" .. server.url } })
  end
  for round = 1, opts.rounds do
    local b = start()
    if round % 10 ~= 0 then -- some are killed before they have begun
      await_watchers(b)
    end
    async.sleep(math.random() * opts.longest_ms)
    local killed_ms = os.time() * 1000
    b:kill("sigkill")
    b:wait_exit(WAIT_MS)
    assert(b:stderr() == "", b:stderr())
    check_store(path, b, killed_ms, known, seen)
  end
  assert(next(known), "no alert came into the store")
  local b = start()
  await_watchers(b)
  b:wait_for("watcher.wait", nil, WAIT_MS)
  local stopped_ms = os.time() * 1000
  b:kill("sigterm")
  assert(b:wait_exit(WAIT_MS) == 0, b:stderr())
  assert(b:stderr() == "", b:stderr())
  check_store(path, b, stopped_ms, known, seen)
  assert(#read(path, "SELECT name FROM watchers") == #DOMAINS, "a watcher was lost")
  return seen.told
end

return M
