--- The rules of the ets domain: one table that grows, and tables that become more and more.

local groups = require("domains.node.groups")
local trends = require("runtime.trends")
local units = require("runtime.units")

local LONG_S, SHORT_S = 30 * 60, 5 * 60
local SHORT_ETA_S, HOUR_S, DAY_S = 10 * 60, 3600, 24 * 3600
local FLOOR_KB = 20 * 1024
local COUNT_FLOOR = 500
local LOADS = { "port_count", "process_count" }

local function newest(history)
  local sample = history:latest()
  local pass = sample and sample.sweep
  return pass and pass.tables, sample and sample.data
end

-- Growth of one table that ends at the memory limit: within 24 h, or within ten minutes where only
-- five minutes of it are known. A table that load makes grow is left to those who watch load.
local function growth_of(history, id, data)
  for _, window_s in ipairs({ LONG_S, SHORT_S }) do
    local growth = trends.steady(history:track("tables", id, "memory_kb", window_s), window_s,
      FLOOR_KB)
    local samples = growth and history:since(window_s)
    if growth and not trends.is_explained(growth, samples[1].data, data, LOADS) then
      growth.eta_s = trends.memory_eta(data, growth.per_s / 1024)
      if growth.eta_s and growth.eta_s < (window_s == LONG_S and DAY_S or SHORT_ETA_S) then
        return growth
      end
    end
  end
  return nil
end

local function size(kb)
  return units.format_size(kb * 1024)
end

local function growth(history, node)
  local found, data = newest(history)
  if not found or trends.is_quiet(history, node) then
    return nil
  end
  local findings = {}
  for _, id in ipairs(found.top.memory) do
    local row = found.rows[id]
    local seen = row.memory_kb >= FLOOR_KB and growth_of(history, id, data)
    if seen then
      findings[#findings + 1] = {
        subject = row.subject, severity = seen.eta_s < HOUR_S and "critical" or "warning",
        value = seen.now, threshold = data.memory_limit_mb * 1024, unit = "KiB",
        per_s = seen.per_s, eta_s = seen.eta_s,
        summary = ("%s (%s objects, owner %s %s): %s, %s %s before; memory limit in %s"):format(
          row.subject, units.format_count(row.size), row.owner_name, row.owner, size(seen.now),
          size(seen.before), units.format_duration(seen.seconds * 1000),
          trends.format_eta(seen.eta_s)),
        figures = {
          trends.figure("memory_kb", seen.now, "KiB", seen.before),
          trends.figure("size", row.size, "objects"),
          trends.figure("memory_kb_per_s", seen.per_s, "KiB/s"),
        },
      }
    end
  end
  return findings
end

local function count_of(found, name)
  for _, group in ipairs(found.groups) do
    if group.name == name then
      return group.count
    end
  end
end

local function count_finding(seen, found, data, name)
  local count = count_of(found, name)
  return {
    subject = name, severity = "warning", value = seen.now, unit = "tables",
    threshold = seen.before, per_s = seen.per_s,
    summary = ("%s tables, %s %s before%s"):format(units.format_count(seen.now),
      units.format_count(seen.before), units.format_duration(seen.seconds * 1000),
      count and ("; %s of them are called %s"):format(units.format_count(count), name) or ""),
    figures = {
      trends.figure("table_count", seen.now, "tables", seen.before),
      trends.figure("total_memory_mb", data.total_memory_mb, "MiB", seen.first.total_memory_mb),
    },
  }
end

-- A finding per name of which there are more and more.
local function table_count(history, node, held)
  local found, data = newest(history)
  local seen = found and not trends.is_quiet(history, node)
    and trends.steady_metric(history, "table_count", LONG_S, COUNT_FLOOR)
  if not seen or trends.is_explained(seen, seen.first, data, LOADS) then
    return nil
  end
  local findings = {}
  for i, name in ipairs(groups.growing(history, "tables", held)) do
    findings[i] = count_finding(seen, found, data, name)
  end
  return findings
end

local INVESTIGATE_GROWTH = [[
local rows = {}
for i, t in ipairs(ets_top_tables(5, "memory")) do
  rows[i] = { name = t.name, id = t.id, size = t.size, memory_kb = t.memory_kb, owner = t.owner,
    owner_name = t.owner_name, protection = t.protection }
end
return { largest = rows }
]]

local INVESTIGATE_COUNT = [[
local groups, order = {}, {}
local rows, meta = ets_list_tables()
for _, t in ipairs(rows) do
  local key = t.name .. " of " .. t.owner_name
  if not groups[key] then
    groups[key] = { name = t.name, owner_name = t.owner_name, tables = 0, memory_kb = 0 }
    order[#order + 1] = groups[key]
  end
  groups[key].tables = groups[key].tables + 1
  groups[key].memory_kb = groups[key].memory_kb + t.memory_kb
end
table.sort(order, function(a, b) return a.tables > b.tables end)
local first = {}
for i = 1, math.min(8, #order) do first[i] = order[i] end
return { tables = meta.total, groups_of_the_largest = first }
]]

---@type rule_set.Rule[]
return {
  {
    type = "ets_growth", severity = "warning", hold = "60s", clear_hold = "5m",
    looks_back = "30m",
    title = "A table grows towards the memory limit",
    when = growth, investigate = INVESTIGATE_GROWTH,
  },
  {
    type = "ets_table_count", severity = "warning", hold = "60s", clear_hold = "5m",
    looks_back = "30m",
    title = "Tables become more and more",
    when = table_count, investigate = INVESTIGATE_COUNT,
  },
}
