--- The callbacks that every domain has. Those that need a node are not among the docs of a domain
--- that watches none, and say so when they are called there.

local async = require("runtime.async")
local counters = require("runtime.domain.counters")
local names = require("runtime.names")
local units = require("runtime.units")

local M = {}

local MAX_SLEEP_MS = 60000
local OS_TIMEOUT_MS = 5000

local read_uptime = counters.reader({ "uptime_ms" })

local function get_current_time(target)
  local now_ms = target.clock.wall_ms()
  return { timestamp = units.format_time(now_ms), unix_ms = now_ms }
end

local function get_node_info(target)
  local now, err, code = read_uptime(target)
  local os_type
  if now then
    os_type, err, code = target:call("os", "type", {}, { timeout_ms = OS_TIMEOUT_MS })
  end
  if not os_type then
    return nil, err, code
  end
  -- {unix, linux}; on some systems the family alone.
  local family, name = os_type, os_type
  if type(os_type) == "table" then
    family, name = unpack(os_type)
  end
  return {
    node = names.clean(target.node),
    uptime_seconds = math.floor(now.uptime_ms / 1000),
    os_type = family,
    os_name = name,
  }
end

local function sleep(_, ms)
  async.sleep(ms)
  return { slept_ms = ms }
end

---@type domain.Callback[]
M.callbacks = {
  {
    name = "get_current_time",
    params = {},
    returns = {
      { name = "timestamp", type = "string", doc = "ISO 8601, UTC" },
      { name = "unix_ms", type = "integer" },
    },
    doc = "The time by the clock of this host.",
    run = get_current_time,
  },
  {
    name = "get_node_info",
    params = {},
    returns = {
      { name = "node", type = "string" },
      { name = "uptime_seconds", type = "integer" },
      { name = "os_type", type = "string" },
      { name = "os_name", type = "string" },
    },
    doc = "The node: its name, for how long it runs, its operating system.",
    needs_node = true,
    run = get_node_info,
  },
  {
    name = "sleep",
    params = {
      { name = "ms", type = "integer", min = 0, max = MAX_SLEEP_MS, doc = "counts as wall time" },
    },
    returns = { { name = "slept_ms", type = "integer" } },
    doc = "Waits, for instance between two readings of one figure.",
    run = sleep,
  },
}

return M
