--- What stands: which alerts a held rule supports, and how low a watcher's state may be.

local M = {}

local RANK = { healthy = 0, observing = 1, warning = 2, critical = 3 }
local SEVERITY = { info = 1, warning = 2, critical = 3 }
-- An info alert holds no state up: an event that needs nobody is compatible with health.
local STATE_OF = { info = "healthy", warning = "warning", critical = "critical" }

M.STATES = { "healthy", "observing", "warning", "critical" }
M.SEVERITIES = { "info", "warning", "critical" }

--- The worse of two states.
---@param a string
---@param b string
---@return string
function M.worse(a, b)
  return RANK[b] > RANK[a] and b or a
end

--- The lower of two severities.
---@param a string
---@param b string
---@return string
function M.milder(a, b)
  return SEVERITY[b] < SEVERITY[a] and b or a
end

--- The findings that held for their time: firing, or clearing and not yet cleared.
---@param findings table[]
---@return table[]
function M.held(findings)
  local held = {}
  for _, finding in ipairs(findings) do
    if finding.phase ~= "pending" then
      held[#held + 1] = finding
    end
  end
  return held
end

--- The held finding that supports an alert: its own, or one of the same type and subject.
---@param alert { id: string?, type: string, subject: string }
---@param held table[]
---@return table?
function M.support(alert, held)
  for _, finding in ipairs(held) do
    if (alert.id and finding.alert_id == alert.id)
      or (finding.type == alert.type and finding.subject == alert.subject) then
      return finding
    end
  end
end

--- Splits firing alerts into those that a held finding supports and the others.
---@param alerts table[]
---@param held table[]
---@return table[] supported
---@return table[] unsupported
function M.split(alerts, held)
  local supported, unsupported = {}, {}
  for _, alert in ipairs(alerts) do
    table.insert(M.support(alert, held) and supported or unsupported, alert)
  end
  return supported, unsupported
end

--- The lowest state that these firing alerts of held rules allow.
---@param supported table[]
---@return string
function M.floor(supported)
  local floor = "healthy"
  for _, alert in ipairs(supported) do
    floor = M.worse(floor, STATE_OF[alert.severity] or "healthy")
  end
  return floor
end

return M
