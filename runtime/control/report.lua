--- What `beamlens status` tells of a running host, as plain tables. Nothing in it is a secret: the
--- texts that others wrote (reasons, errors) go through the redaction.

local async = require("runtime.async")
local core = require("host.core")
local guardian = require("runtime.guardian")
local json = require("runtime.json")
local redact = require("runtime.redact")
local uv = require("luv")

local M = {}

local MAX_TEXT = 500
-- So many watchers are looked at in one turn of the loop.
local AT_ONCE = 200

-- A text of somebody else: short, and without secrets.
local function told(text, node)
  return text and redact.text(tostring(text), { node = node }):sub(1, MAX_TEXT) or nil
end

local function spending_of(account)
  if not account then
    return nil
  end
  local limits = {}
  for i, limit in ipairs(account:limits()) do
    limits[i] = { unit = limit.unit, limit = limit.limit, used = limit.used,
      left = math.max(0, limit.limit - limit.used), left_ms = limit.left_ms }
  end
  return { tokens = account.total.tokens, usd = account.total.usd, limits = json.array(limits),
    left = account:left_text() }
end

local function pause_of(paused)
  return paused and { by = paused.by, reason = paused.reason, since_ms = paused.since_ms,
    until_ms = paused.until_ms } or nil
end

-- When the last sample was taken; nil before the first one.
local function last_sample_ms(detector)
  local latest = detector.history and detector.history:latest()
  return latest and latest.at_ms
end

--- One watcher.
---@param unit unit.Unit
---@return table
function M.watcher(unit)
  local watcher = unit.watcher
  local name, state = watcher:state()
  return {
    watcher = unit.meta.watcher, domain = unit.meta.domain, node = unit.meta.node,
    status = state.status,
    state = { name = name, text = state.text, source = state.source,
      reason = told(state.reason, unit.meta.node), since_ms = state.since_ms,
      as_of_ms = state.as_of_ms },
    paused = pause_of(watcher.paused),
    client = watcher.policy.client or watcher.registry.primary,
    iteration = watcher.iteration, cycles = watcher.cycles,
    restarts = watcher.supervisor.restarts,
    last_decision = watcher.last_decision,
    findings = #watcher.detector:findings(),
    sampled_at_ms = last_sample_ms(watcher.detector),
    spending = spending_of(watcher.account),
  }
end

--- One node; nil for what is no node.
---@param node node_unit.NodeUnit
---@return table?
function M.node(node)
  if not node.target then
    return nil
  end
  local status = node.target:status()
  local info = status.info or {}
  local is_up = status.status == "up" or status.status == "unresponsive"
  return { node = node.name, status = status.status, since_ms = status.since_ms,
    code = status.code, error = told(status.err, node.name),
    own_name = is_up and info.own_name or nil, otp_release = info.otp_release,
    restarts = node.target.restarts }
end

-- Of a percent of one core, to a tenth.
local function percent(cpu_ms, of_ms)
  return of_ms > 0 and math.floor(1000 * cpu_ms / of_ms + 0.5) / 10 or 0
end

--- The process itself.
---@param host { clock: clock.Clock, started_ms: number, started_at_ms: integer, args: string[],
--- store_path?: string, guardian?: guardian.Guardian }
---@return table
function M.host(host)
  local uptime_ms = host.clock.now_ms() - host.started_ms
  local used = guardian.measure()
  return {
    pid = uv.os_getpid(), version = core.version, args = json.array(host.args),
    now_ms = host.clock.wall_ms(), started_at_ms = host.started_at_ms,
    uptime_ms = math.floor(uptime_ms), rss_bytes = used.rss_bytes,
    cpu_ms = math.floor(used.cpu_ms), cpu_pct = percent(used.cpu_ms, uptime_ms),
    store = host.store_path, limits = host.guardian and host.guardian:report(),
  }
end

--- All of it. With many watchers the loop goes on meanwhile.
---@async
---@param host table As for `host`, with `app` and perhaps `ledger`.
---@return table
function M.status(host)
  local units, watchers, nodes = {}, {}, {}
  for i, unit in ipairs(host.app.units) do
    units[i] = unit
  end
  for i, unit in ipairs(units) do
    watchers[i] = M.watcher(unit)
    if i % AT_ONCE == 0 then
      async.sleep(0)
    end
  end
  for _, node in ipairs(host.app.order) do
    nodes[#nodes + 1] = M.node(node)
  end
  local report = M.host(host)
  return { host = report, nodes = json.array(nodes), watchers = json.array(watchers),
    spending = host.ledger and spending_of(host.ledger:account("process")) }
end

return M
