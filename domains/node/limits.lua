--- Rules that several domains of nodes make: a share of a limit, and slow growth towards one.

local trends = require("runtime.trends")
local units = require("runtime.units")

local M = {}

local WARNING_PCT, CRITICAL_PCT, CLEAR_PCT = 80, 90, 75

local function show(value, unit)
  if unit == "MiB" then
    return units.format_size(value * 1024 * 1024)
  end
  return units.format_count(value)
end

--- A rule that compares a share with its limit: warning at 80 %, critical at 90 %, over below 75 %.
--- What is held stays while the share is not known.
---@param opts { subject: string, pct: string, value: string, limit: string, unit: string }
--- Keys of the snapshot; `value` and `limit` are what the share is of.
---@return fun(history, node, held): table?
function M.limit(opts)
  return function(history, _, held)
    local sample = history:latest()
    local data = sample and sample.data or {}
    local pct = trends.number(data, opts.pct)
    local value, limit = trends.number(data, opts.value), trends.number(data, opts.limit)
    local before = held[opts.subject]
    if not pct or pct < (before and CLEAR_PCT or WARNING_PCT) then
      return not pct and before or nil
    end
    local per_s = history:rate(opts.value, 60)
    local eta_s = per_s and per_s > 0 and value and limit
      and math.max(0, limit - value) / per_s or nil
    local summary = ("%s at %.0f %% of the limit"):format(opts.subject, pct)
    if value and limit then
      summary = ("%s: %s of %s"):format(summary, show(value, opts.unit), show(limit, opts.unit))
    end
    if eta_s and eta_s < 48 * 3600 then
      summary = ("%s; full in %s"):format(summary, trends.format_eta(eta_s))
    end
    return {
      subject = opts.subject, severity = pct >= CRITICAL_PCT and "critical" or "warning",
      value = pct, threshold = WARNING_PCT, unit = "%", per_s = per_s, eta_s = eta_s,
      summary = summary,
      figures = { trends.figure(opts.value, value or pct, value and opts.unit or "%",
        history:value_ago(opts.value, 60)) },
    }
  end
end

--- A rule that finds growth which ends at a limit (see `trends.growth`).
---@param opts { subject: string, key: string, limit: string, unit: string, floor: number,
--- loads?: string[], verb?: string } `verb`: "grows" of a subject that is one (default "grow").
---@return fun(history, node, held): table?
function M.growth(opts)
  return function(history, node)
    local growth = trends.growth(history, node, {
      key = opts.key, limit_key = opts.limit, floor = opts.floor, loads = opts.loads,
    })
    if not growth then
      return nil
    end
    return {
      subject = opts.subject, severity = growth.severity,
      value = growth.now, threshold = growth.limit, unit = opts.unit,
      per_s = growth.per_s, eta_s = growth.eta_s,
      summary = ("%s %s: %s, %s %s before; the limit of %s in %s"):format(opts.subject,
        opts.verb or "grow", show(growth.now, opts.unit), show(growth.before, opts.unit),
        units.format_duration(growth.seconds * 1000), show(growth.limit, opts.unit),
        trends.format_eta(growth.eta_s)),
      figures = { trends.figure(opts.key, growth.now, opts.unit, growth.before) },
    }
  end
end

return M
