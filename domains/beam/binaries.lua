--- The rule of the beam domain about large binaries, which live outside the heaps of those who
--- refer to them: they grow towards the memory limit, or are what fills it (S03, S04).
---
--- Who holds them is what the collector says of each process (`binary_kb` of the sweep), and never
--- a list of binaries. A share of the memory alone says nothing: brokers live in binaries.

local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local GROWTH = {
  key = "memory_binary_mb", limit_key = "memory_limit_mb", used_key = "memory_rss_mb", floor = 50,
  loads = { "port_count", "process_count" },
}
local FULL_PCT, CLEAR_PCT = 85, 80
local CRITICAL_PCT = 90
local CULPRIT_SHARE = 0.2 -- of what the binaries grew by, or are
local OTHERS = { "memory_processes_mb", "memory_ets_mb", "memory_code_mb" }
local TWO_DAYS_S = 48 * 3600

local function size(kb)
  return units.format_size(kb * 1024)
end

local function holders(history)
  local pass = history:latest().sweep
  local found = pass and pass.processes
  local rows = {}
  for i, pid in ipairs(found and found.top.binary or {}) do
    rows[i] = found.rows[pid]
  end
  return rows
end

-- Those who hold ever more, by a fifth of the whole growth at least.
local function growing_holders(history, growth)
  local rise_kb = (growth.now - growth.before) * 1024
  local list = {}
  for _, row in ipairs(holders(history)) do
    local own = trends.steady(history:track("processes", row.pid, "binary_kb", growth.seconds),
      growth.seconds, CULPRIT_SHARE * rise_kb)
    if own then
      list[#list + 1] = { row = row, own = own }
    end
  end
  return list
end

local function node_figure(now_mb, before_mb)
  return trends.figure("memory_binary_mb", now_mb, "MiB", before_mb)
end

local function holder_finding(growth, row, own)
  return {
    subject = row.subject, pid = row.pid, severity = growth.severity,
    value = row.binary_kb, threshold = growth.limit * 1024, unit = "KiB",
    per_s = own.per_s, eta_s = growth.eta_s,
    summary = ("%s %s holds %s of binaries, %s %s before; memory limit in %s"):format(row.name,
      row.pid, size(row.binary_kb), size(own.before), units.format_duration(own.seconds * 1000),
      trends.format_eta(growth.eta_s)),
    figures = {
      trends.figure("binary_kb", row.binary_kb, "KiB", own.before),
      node_figure(growth.now, growth.before),
    },
  }
end

local function node_finding(history, growth)
  local first = holders(history)[1]
  return {
    subject = "binaries", severity = growth.severity, value = growth.now,
    threshold = growth.limit, unit = "MiB", per_s = growth.per_s, eta_s = growth.eta_s,
    summary = ("binaries grow: %s, %s %s before, and no single process holds the new ones%s; "
      .. "memory limit in %s"):format(size(growth.now * 1024), size(growth.before * 1024),
      units.format_duration(growth.seconds * 1000),
      first and (" (most: %s, %s)"):format(first.name, size(first.binary_kb)) or "",
      trends.format_eta(growth.eta_s)),
    figures = { node_figure(growth.now, growth.before) },
  }
end

-- The memory is nearly full, and of all that is in it binaries are most.
local function filled(history, held)
  local data = history:latest().data
  local pct = trends.number(data, "memory_utilization_pct")
  local binary_mb = trends.number(data, "memory_binary_mb")
  if not pct or not binary_mb or pct < (next(held) and CLEAR_PCT or FULL_PCT) then
    return nil
  end
  for _, key in ipairs(OTHERS) do
    if (trends.number(data, key) or 0) >= binary_mb then
      return nil
    end
  end
  local row = holders(history)[1]
  local is_culprit = row ~= nil and row.binary_kb >= CULPRIT_SHARE * binary_mb * 1024
  local per_s = history:rate("memory_binary_mb", 60)
  local eta_s = trends.memory_eta(data, per_s)
  return {
    subject = is_culprit and row.subject or "binaries", pid = is_culprit and row.pid or nil,
    severity = pct >= CRITICAL_PCT and "critical" or "warning",
    value = pct, threshold = FULL_PCT, unit = "%", per_s = per_s, eta_s = eta_s,
    summary = ("memory at %.0f %% of the limit, most of it binaries: %s%s%s"):format(pct,
      size(binary_mb * 1024),
      row and (", of which %s %s holds %s"):format(row.name, row.pid, size(row.binary_kb)) or "",
      eta_s and eta_s < TWO_DAYS_S and "; full in " .. trends.format_eta(eta_s) or ""),
    figures = { node_figure(binary_mb, history:value_ago("memory_binary_mb", 60)) },
  }
end

--- Binaries that grow towards the memory limit, each of their holders by itself; or fill it.
function M.growth(history, node, held)
  local growth = trends.growth(history, node, GROWTH)
  if not growth then
    return filled(history, held)
  end
  local list = {}
  for _, holder in ipairs(growing_holders(history, growth)) do
    list[#list + 1] = holder_finding(growth, holder.row, holder.own)
  end
  return list[1] and list or node_finding(history, growth)
end

return M
