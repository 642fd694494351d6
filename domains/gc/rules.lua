--- The rule of the gc domain: one heap that is large and keeps growing.

local trends = require("runtime.trends")
local units = require("runtime.units")

local WINDOW_S = 30 * 60
local LEAST_SHARE = 0.2 -- of the memory limit
local LEAST_GROWTH = 0.5 -- in the window
local LEAST_STEP = 0.1 -- of that, from one third of it to the next
local CLEAR_SHARE = 0.15
local HOUR_S = 3600

local function size(kb)
  return units.format_size(kb * 1024)
end

local function finding(row, growth, limit_kb, data)
  local eta_s = trends.memory_eta(data, growth.per_s / 1024)
  return {
    subject = row.subject, pid = row.pid,
    severity = eta_s and eta_s < HOUR_S and "critical" or "warning",
    value = row.total_heap_kb, threshold = LEAST_SHARE * limit_kb, unit = "KiB",
    per_s = growth.per_s, eta_s = eta_s,
    summary = ("%s %s: heap %s, %.0f %% of the memory limit, %s %s before%s"):format(row.name,
      row.pid, size(row.total_heap_kb), row.total_heap_kb / limit_kb * 100, size(growth.before),
      units.format_duration(growth.seconds * 1000),
      eta_s and eta_s < 48 * HOUR_S and "; memory limit in " .. trends.format_eta(eta_s) or ""),
    figures = {
      trends.figure("total_heap_size_kb", row.total_heap_kb, "KiB", growth.before),
      trends.figure("message_queue_len", row.message_queue, "messages"),
    },
  }
end

-- A heap grows by half and more at a collection that finds it full, and shrinks by as much. So the
-- greatest of each third of the window counts: a batch that took its heap at once does not grow.
local function growth_of(history, pid)
  local points = history:track("processes", pid, "total_heap_kb", WINDOW_S)
  local first, last = points[1], points[#points]
  if not first or last.mono_ms - first.mono_ms < WINDOW_S * 950 then
    return nil
  end
  local span_ms, most = last.mono_ms - first.mono_ms, { 0, 0, 0 }
  for _, point in ipairs(points) do
    local third = math.min(3, math.floor((point.mono_ms - first.mono_ms) / span_ms * 3) + 1)
    most[third] = math.max(most[third], point.value)
  end
  local rise = last.value - first.value
  if rise < LEAST_GROWTH * first.value or most[2] - most[1] < LEAST_STEP * rise
    or most[3] - most[2] < LEAST_STEP * rise then
    return nil
  end
  local seconds = span_ms / 1000
  return { before = first.value, seconds = seconds, per_s = rise / seconds }
end

-- A process with a fifth of the memory limit as its heap that was a third smaller half an hour ago
-- (S15). It is a finding until its heap is small, or has been the same for half an hour.
local function large_heap(history, node, held)
  local sample = history:latest()
  local pass = sample and sample.sweep
  local found, limit_mb = pass and pass.processes, sample and trends.number(sample.data,
    "memory_limit_mb")
  if not found or not limit_mb or trends.is_quiet(history, node) then
    return nil
  end
  local findings = {}
  for _, pid in ipairs(found.top.heap) do
    local row = found.rows[pid]
    local share = row.total_heap_kb / (limit_mb * 1024)
    if share >= (held[row.subject] and CLEAR_SHARE or LEAST_SHARE) then
      local growth = growth_of(history, pid)
      if growth then
        findings[#findings + 1] = finding(row, growth, limit_mb * 1024, sample.data)
      end
    end
  end
  return findings
end

local INVESTIGATE = [[
local rows = {}
for i, p in ipairs(gc_top_processes(5)) do rows[i] = p end
return { largest_heaps = rows, collections = gc_stats() }
]]

---@type rule_set.Rule[]
return {
  {
    type = "large_heap", severity = "warning", hold = "60s", clear_hold = "5m",
    looks_back = "30m",
    title = "A process has a large heap that grows",
    when = large_heap, investigate = INVESTIGATE,
  },
}
