--- What rules of several domains share: reading figures, slow growth, limits, time to exhaustion.
---
--- All of it is pure: it looks at a history (runtime/history.lua) and nothing else.

local units = require("runtime.units")

local M = {}

local QUIET_AFTER_START_S = 15 * 60
local QUIET_AFTER_CODE_S = 10 * 60
local CODE_FLOOR_MB = 0.3 -- more new code than a shell command loads
local LONG_S, SHORT_S = 30 * 60, 5 * 60
local SHORT_ETA_S = 10 * 60
local HOUR_S, DAY_S = 3600, 24 * 3600
local LEAST_SHARE = 0.2 -- of the total rise, in each third
local LEAST_GROWTH = 0.2

--- A metric as a number; nil where it is missing or null.
---@param data table
---@param key string
---@return number?
function M.number(data, key)
  local value = data[key]
  return type(value) == "number" and value or nil
end

--- A figure of a finding.
---@param name string
---@param value number
---@param unit string
---@param before? number
---@return table
function M.figure(name, value, unit, before)
  return { name = name, value = value, unit = unit, before = before }
end

--- A rate for people: `+18 900/s`, `-0.4/s`.
---@param per_s number
---@return string
function M.format_rate(per_s)
  local sign = per_s >= 0 and "+" or "-"
  local size = math.abs(per_s)
  if size >= 10 then
    -- Two or three significant digits: the last ones of a rate say nothing.
    local step = size >= 10000 and 100 or size >= 1000 and 10 or 1
    return sign .. units.format_count(math.floor(size / step + 0.5) * step) .. "/s"
  end
  return ("%s%.1f/s"):format(sign, size)
end

--- A time to come: `about 6 min`, `about 40 s`, `about 3 h`.
---@param seconds number
---@return string
function M.format_eta(seconds)
  if seconds < 90 then
    return ("about %.0f s"):format(seconds)
  elseif seconds < 90 * 60 then
    return ("about %.0f min"):format(seconds / 60)
  elseif seconds < 2 * DAY_S then
    return ("about %.0f h"):format(seconds / HOUR_S)
  end
  return ("about %.0f days"):format(seconds / DAY_S)
end

--- Seconds until the node's memory ends at a rate of growth; nil when it is not known.
---@param data table A snapshot of beam.
---@param mb_per_s? number
---@return number?
function M.memory_eta(data, mb_per_s)
  local limit = M.number(data, "memory_limit_mb")
  local used = M.number(data, "memory_rss_mb") or M.number(data, "memory_total_mb")
  if not limit or not used or not mb_per_s or mb_per_s <= 0 then
    return nil
  end
  return math.max(0, limit - used) / mb_per_s
end

--- Whether slow growth says nothing now: in a node's first 15 min, and for 10 min after code was
--- loaded (`memory_code_mb` of the samples).
---@param history history.History
---@param node { uptime_s?: number }
---@return boolean
function M.is_quiet(history, node)
  if not node.uptime_s or node.uptime_s < QUIET_AFTER_START_S then
    return true
  end
  local least, now
  for _, sample in ipairs(history:since(QUIET_AFTER_CODE_S)) do
    local code_mb = M.number(sample.data, "memory_code_mb")
    least = math.min(least or math.huge, code_mb or math.huge)
    now = code_mb or now
  end
  return now ~= nil and now - least > CODE_FLOOR_MB
end

-- The least value in each third of a series.
local function thirds(points)
  local first, last = points[1].mono_ms, points[#points].mono_ms
  local least, counts = {}, { 0, 0, 0 }
  for _, point in ipairs(points) do
    local third = math.min(3, math.floor((point.mono_ms - first) / (last - first) * 3) + 1)
    least[third] = math.min(least[third] or math.huge, point.value)
    counts[third] = counts[third] + 1
  end
  return math.min(unpack(counts)) >= 3 and least or nil
end

--- Growth that goes on through a whole series: no jump, no plateau, no sawtooth. It rises in each
--- third by a fifth of the whole rise at least, and by a fifth of what was there before.
---@param points { mono_ms: number, value: number }[] Oldest first, as of `history:track`.
---@param window_s number What the series has to span, but for a twentieth.
---@param floor number The least rise.
---@return { before: number, now: number, per_s: number, seconds: number }?
function M.steady(points, window_s, floor)
  local count = #points
  if count < 9 or points[count].mono_ms - points[1].mono_ms < window_s * 950 then
    return nil
  end
  local before, now = points[1].value, points[count].value
  local least = thirds(points)
  if not least then
    return nil
  end
  local rise = now - before
  local steps = { least[2] - least[1], least[3] - least[2], now - least[3] }
  for _, step in ipairs(steps) do
    if step < LEAST_SHARE * rise then
      return nil
    end
  end
  if rise < floor or rise < LEAST_GROWTH * before then
    return nil
  end
  local seconds = (points[count].mono_ms - points[1].mono_ms) / 1000
  return { before = before, now = now, per_s = rise / seconds, seconds = seconds }
end

--- The same of a metric of the samples; `first` and `last` are the data of the window's ends.
---@param history history.History
---@param key string
---@param window_s number
---@param floor number
---@return { before: number, now: number, per_s: number, seconds: number, first: table,
--- last: table }?
function M.steady_metric(history, key, window_s, floor)
  if not history:covers(window_s * 0.95) then
    return nil
  end
  local samples, points = history:since(window_s), {}
  for _, sample in ipairs(samples) do
    local value = M.number(sample.data, key)
    points[#points + 1] = value and { mono_ms = sample.mono_ms, value = value }
  end
  local growth = M.steady(points, window_s, floor)
  if growth then
    growth.first, growth.last = samples[1].data, samples[#samples].data
  end
  return growth
end

--- Whether load grew alike: the share by which another metric rose is at least half of this one's.
---@param growth { before: number, now: number } Of anything.
---@param first table The data of a sample then.
---@param last table The data of a sample now.
---@param loads? string[] Metrics of load.
---@return boolean
function M.is_explained(growth, first, last, loads)
  local own = growth.now / math.max(1, growth.before) - 1
  for _, key in ipairs(loads or {}) do
    local before, now = M.number(first, key), M.number(last, key)
    if before and now and now - before >= 10 and now / math.max(1, before) - 1 >= own / 2 then
      return true
    end
  end
  return false
end

--- Finds growth that ends at a limit: within 24 h (warning) or 1 h (critical). It must have risen
--- in each third of the last 30 min; 5 min are enough when less than 10 min are left.
---@param history history.History
---@param node { uptime_s?: number }
---@param opts { key: string, limit_key: string, floor: number, used_key?: string,
--- loads?: string[] } `floor` is the least rise;
--- `loads` are metrics whose growth explains this one; `used_key` is what the limit bounds, where
--- that is more than `key`.
---@return { before: number, now: number, per_s: number, seconds: number, eta_s: number,
--- limit: number, severity: string }?
function M.growth(history, node, opts)
  if M.is_quiet(history, node) then
    return nil
  end
  for _, window_s in ipairs({ LONG_S, SHORT_S }) do
    local growth = M.steady_metric(history, opts.key, window_s, opts.floor)
    local limit = growth and M.number(growth.last, opts.limit_key)
    if limit and not M.is_explained(growth, growth.first, growth.last, opts.loads) then
      growth.limit = limit
      local used = opts.used_key and M.number(growth.last, opts.used_key) or growth.now
      growth.eta_s = math.max(0, limit - used) / growth.per_s
      growth.severity = growth.eta_s < HOUR_S and "critical" or "warning"
      if growth.eta_s < (window_s == LONG_S and DAY_S or SHORT_ETA_S) then
        return growth
      end
    end
  end
  return nil
end

return M
