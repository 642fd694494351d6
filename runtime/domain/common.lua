--- The callbacks that every domain has. Those that need a node are not among the docs of a domain
--- that watches none, and say so when they are called there.

local async = require("runtime.async")
local names = require("runtime.names")
local units = require("runtime.units")

local M = {}

local MAX_SLEEP_MS = 60000

local NODE_INFO = [[
{atom_to_binary(node(), utf8),
 erlang:convert_time_unit(erlang:monotonic_time() - erlang:system_info(start_time), native,
   millisecond),
 case os:type() of
   {Family, Name} -> {atom_to_binary(Family, utf8), atom_to_binary(Name, utf8)};
   Family -> {atom_to_binary(Family, utf8), atom_to_binary(Family, utf8)}
 end}.
]]

local function get_current_time(target)
  local now_ms = target.clock.wall_ms()
  return { timestamp = units.format_time(now_ms), unix_ms = now_ms }
end

local function get_node_info(target)
  local answer, err, code = target:eval(NODE_INFO, {}, { timeout_ms = 5000 })
  if not answer then
    return nil, err, code
  end
  return {
    node = names.clean(answer[1]),
    uptime_seconds = math.floor(answer[2] / 1000),
    os_type = answer[3][1],
    os_name = answer[3][2],
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
