--- The rules of the ports domain: limits, slow growth, and writers that are blocked
--- (domains/ports/writers.lua).

local groups = require("domains.node.groups")
local limits = require("domains.node.limits")
local trends = require("runtime.trends")
local units = require("runtime.units")
local writers = require("domains.ports.writers")

local M = {}

local PORTS = { key = "port_count", limit_key = "port_limit", floor = 200,
  loads = { "process_count" } }
local FILES = { key = "fd_count", limit_key = "fd_limit", floor = 100,
  loads = { "process_count" } }

-- Growth that is no load: what serves a connection is a process, so where processes became more by
-- half as many or more, it is load that grows.
local function growth_of(history, node, opts)
  local growth = trends.growth(history, node, opts)
  local before = growth and trends.number(growth.first, "process_count")
  local now = growth and trends.number(growth.last, "process_count")
  local is_load = before and now and now - before >= (growth.now - growth.before) / 2
  return not is_load and growth or nil
end

-- Sockets and programs are ports and descriptors: the same growth may end at either limit. Ports
-- tell of it, unless descriptors end first by a tenth: where both have the same limit a file more
-- or less must not decide. Gives the growth of ports and that of descriptors that are told of.
local function both(history, node)
  local ports = growth_of(history, node, PORTS)
  local files = growth_of(history, node, FILES)
  if not ports or not files or ports.per_s < files.per_s / 2 then
    return ports, files
  elseif files.eta_s < 0.9 * ports.eta_s then
    return nil, files
  end
  return ports
end

local function grown(growth, subject, what, unit, key)
  return {
    subject = subject, severity = growth.severity,
    value = growth.now, threshold = growth.limit, unit = unit,
    per_s = growth.per_s, eta_s = growth.eta_s,
    summary = ("%s grow: %s, %s %s before; the limit of %s in %s"):format(what,
      units.format_count(growth.now), units.format_count(growth.before),
      units.format_duration(growth.seconds * 1000), units.format_count(growth.limit),
      trends.format_eta(growth.eta_s)),
    figures = { trends.figure(key, growth.now, unit, growth.before) },
  }
end

--- Ports that become more and more while processes do not (S19): a finding per kind of port.
function M.port_growth(history, node, held)
  local ports = both(history, node)
  if not ports then
    return nil
  end
  local list = {}
  for i, group in ipairs(groups.growing(history, "ports", held)) do
    list[i] = grown(ports, group, group == "ports" and "ports" or ("ports, among them %s,")
      :format(group), "ports", "port_count")
  end
  return list
end

--- File descriptors that become more and more while processes do not (S20).
function M.fd_growth(history, node)
  local _, files = both(history, node)
  if not files then
    return nil
  end
  return grown(files, "file descriptors", "file descriptors", "descriptors", "fd_count")
end

local INVESTIGATE_PORTS = [[
local groups, order = {}, {}
local rows, about = ports_list()
for _, row in ipairs(rows) do
  local name = row.name:match("^%S+") or row.name
  if not groups[name] then
    groups[name] = { name = name, count = 0, owners = {}, by = 0 }
    order[#order + 1] = groups[name]
  end
  local group = groups[name]
  group.count = group.count + 1
  local owner = row.connected_pid or "none"
  if not group.owners[owner] then group.by = group.by + 1 end
  group.owners[owner] = (group.owners[owner] or 0) + 1
end
table.sort(order, function(a, b) return a.count > b.count end)
local first = {}
for i = 1, math.min(8, #order) do
  local group, owner, most = order[i], nil, 0
  for pid, count in pairs(group.owners) do
    if count > most then owner, most = pid, count end
  end
  first[i] = { name = group.name, count = group.count, owners = group.by, first_owner = owner,
    of_first_owner = most }
end
return { total = about and about.total, listed = #rows, groups = first }
]]

local INVESTIGATE_QUEUES = [[
local rows = {}
for _, row in ipairs(ports_top(5, "queue")) do
  local now = row.queue_size > 0 and ports_info(row.id)
  if now and not now.error then
    rows[#rows + 1] = { id = row.id, name = row.name, connected_pid = row.connected_pid,
      queue_size = now.queue_size, written_since_the_sweep = now.output_bytes - row.output_bytes }
  end
end
return { longest_queues = rows }
]]

-- Commands for an Erlang shell on the node.
local function look_at_sender(finding)
  local a, b, c = tostring(finding.pid):match("^<(%d+)%.(%d+)%.(%d+)>$")
  return a and { ("erlang:process_info(c:pid(%s,%s,%s), [current_stacktrace, links]).")
    :format(a, b, c) } or nil
end

local function limit_rule(kind, subject, unit)
  return {
    type = kind .. "_limit", severity = "warning", hold = "20s", clear_hold = "60s",
    title = ("%s near their limit"):format(units.capital(subject)),
    when = limits.limit({
      subject = subject, pct = kind .. "_utilization_pct", value = kind .. "_count",
      limit = kind .. "_limit", unit = unit,
    }),
    investigate = INVESTIGATE_PORTS,
  }
end

-- Descriptors near their limit, unless most of them are ports that are as near to theirs: then
-- port_limit tells of it.
local function without_ports(when)
  return function(history, node, held)
    local sample = history:latest()
    local data = sample and sample.data or {}
    local ports, files = trends.number(data, "port_count"), trends.number(data, "fd_count")
    local is_same = not next(held) and ports and files and ports >= files / 2
      and (trends.number(data, "port_utilization_pct") or 0)
        >= 0.95 * (trends.number(data, "fd_utilization_pct") or 0)
    return not is_same and when(history, node, held) or nil
  end
end

local fd_limit = limit_rule("fd", "file descriptors", "descriptors")
fd_limit.when = without_ports(fd_limit.when)

local function growth_rule(kind, subject, when)
  return {
    type = kind .. "_growth", severity = "warning", hold = "60s", clear_hold = "5m",
    looks_back = "30m",
    title = ("%s grow towards their limit"):format(units.capital(subject)), when = when,
    investigate = INVESTIGATE_PORTS,
  }
end

---@type rule_set.Rule[]
M.rules = {
  limit_rule("port", "ports", "ports"),
  growth_rule("port", "ports", M.port_growth),
  fd_limit,
  growth_rule("fd", "file descriptors", M.fd_growth),
  {
    -- The passes of the sweep have seen it for 30 s.
    type = "blocked_writer", severity = "warning", hold = "5s", clear_hold = "30s",
    title = "A writer is blocked by a port",
    when = writers.blocked, investigate = INVESTIGATE_QUEUES, next = look_at_sender,
  },
}

return M
