--- The state of a watcher: who says it, since when, as of when, and how people are shown it.

local standing = require("runtime.watcher.standing")
local units = require("runtime.units")

local M = {}

-- Why the rules decide, where it is not that the model fails.
local RULES_BECAUSE = { budget = "budget", reserve = "budget kept for findings" }

---@class state.State
---@field name "healthy"|"observing"|"warning"|"critical"
---@field reason string
---@field since_ms number Unix milliseconds, as `as_of_ms`.
---@field as_of_ms number
---@field source "model"|"rule"|"start"

--- A watcher begins as healthy, which nobody has said yet.
---@param watcher watcher.Watcher
function M.begin(watcher)
  local now_ms = watcher.clock.wall_ms()
  watcher.current = { name = "healthy", reason = "", since_ms = now_ms, as_of_ms = now_ms,
    source = "start" }
end

local function hh_mm(unix_ms)
  return units.format_clock(unix_ms):sub(1, 5)
end

--- The state, and how to show it: `healthy (as of 02:58)`, `no contact since 03:01`, `paused`,
--- with `; rules (no model until 04:00)` while no model answers, `(budget until …)` while its
--- budget is spent, or `(budget kept for findings until …)`. Times are UTC.
---@param watcher watcher.Watcher
---@return string name healthy, observing, warning or critical.
---@return { name: string, reason: string, since_ms: number, as_of_ms: number, source: string,
--- text: string, status: string } detail
function M.show(watcher)
  local current = watcher.current
  local text
  if watcher.paused then
    text = "paused"
  elseif not watcher:is_in_contact() then
    local since_ms = watcher.target:status().since_ms
    text = "no contact" .. (since_ms and " since " .. hh_mm(since_ms) or "")
  else
    text = ("%s (as of %s)"):format(current.name, hh_mm(current.as_of_ms))
    if watcher.model.failing_since_ms then
      text = ("%s; rules (%s until %s)"):format(text,
        RULES_BECAUSE[watcher.model.kind] or "no model",
        hh_mm(watcher.clock.wall_ms() + watcher.model:retry_in_ms()))
    end
  end
  return current.name, {
    name = current.name, reason = current.reason, since_ms = current.since_ms,
    as_of_ms = current.as_of_ms, source = current.source, text = text, status = watcher.status,
  }
end

--- Sets the state; an event tells of a change.
---@param watcher watcher.Watcher
---@param name string
---@param reason string
---@param source "model"|"rule"
---@return string from The state before.
function M.change(watcher, name, reason, source)
  local from, now_ms = watcher.current.name, watcher.clock.wall_ms()
  watcher.current = { name = name, reason = reason, source = source, as_of_ms = now_ms,
    since_ms = from == name and watcher.current.since_ms or now_ms }
  watcher:changed(from ~= name)
  if from ~= name then
    watcher:emit("beamlens.watcher.state_change", { from = from, to = name, reason = reason,
      source = source })
    watcher.hooks:notify("on_state", from, name, reason)
  end
  return from
end

--- Says that the state still is as it was: a wait confirms it.
---@param watcher watcher.Watcher
function M.confirm(watcher)
  watcher.current.as_of_ms = watcher.clock.wall_ms()
  watcher:changed()
end

--- Raises the state to the severity of firing alerts that held rules support.
---@param watcher watcher.Watcher
---@param source "model"|"rule"
function M.settle(watcher, source)
  local firing = watcher.alerts:firing({ watcher = watcher.meta.watcher, node = watcher.meta.node })
  local supported = standing.split(firing, standing.held(watcher.detector:findings()))
  local floor = standing.floor(supported)
  if standing.worse(watcher.current.name, floor) == watcher.current.name then
    return
  end
  for _, alert in ipairs(supported) do
    if standing.floor({ alert }) == floor then
      M.change(watcher, floor, alert.summary, source)
      return
    end
  end
end

return M
