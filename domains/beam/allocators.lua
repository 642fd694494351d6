--- The rule of the beam domain about fragmentation: an allocator keeps carriers of which little is
--- in use (S30). After a peak that is normal, and only half an hour of it is told; it matters when
--- the memory is nearly full.

local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local WINDOW_S = 30 * 60
local USED, USED_HELD = 0.5, 0.6
local OF_RSS, OF_RSS_HELD = 0.25, 0.2
local FLOOR_KB = 64 * 1024
local FULL_PCT = 80

-- The least use of its carriers by one allocator, and the least of them; nil while they were not
-- seen for the whole window.
local function worst_of(history, name)
  local carriers = history:track("allocators", name, "carriers_kb", WINDOW_S)
  local used = history:track("allocators", name, "used_kb", WINDOW_S)
  local count = #carriers
  if count < 9 or carriers[count].mono_ms - carriers[1].mono_ms < WINDOW_S * 950 then
    return nil
  end
  local most_used, least_kb = 0, math.huge
  for i, point in ipairs(carriers) do
    most_used = math.max(most_used, used[i].value / math.max(1, point.value))
    least_kb = math.min(least_kb, point.value)
  end
  return most_used, least_kb
end

--- Allocators of which half and less is in use all the time, and which are much of the node.
function M.fragmentation(history, _, held)
  local sample = history:latest()
  local pass = sample and sample.sweep
  local rss_mb = sample and trends.number(sample.data, "memory_rss_mb")
  if not rss_mb or not pass or not pass.allocators then
    return nil
  end
  local pct = trends.number(sample.data, "memory_utilization_pct") or 0
  local list = {}
  for name, row in pairs(pass.allocators.rows) do
    local bound = (held[name] and OF_RSS_HELD or OF_RSS) * rss_mb * 1024
    local most_used, least_kb = worst_of(history, name)
    if most_used and most_used < (held[name] and USED_HELD or USED)
      and least_kb > math.max(bound, FLOOR_KB) then
      local used = row.used_kb / math.max(1, row.carriers_kb) * 100
      list[#list + 1] = {
        subject = name, severity = pct >= FULL_PCT and "warning" or "info",
        value = used, threshold = USED * 100, unit = "%",
        summary = ("%s keeps %s for blocks of %s (%.0f %%), for half an hour and more; resident "
          .. "memory %s"):format(name, units.format_size(row.carriers_kb * 1024),
          units.format_size(row.used_kb * 1024), used, units.format_size(rss_mb * 1024 * 1024)),
        figures = {
          trends.figure("carriers_kb", row.carriers_kb, "KiB"),
          trends.figure("used_kb", row.used_kb, "KiB"),
        },
      }
    end
  end
  return list
end

return M
