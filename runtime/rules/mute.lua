--- Mute windows of a policy: times of day in which alerts of some types are not fired.

local M = {}

local DAY_MIN = 24 * 60

local function minutes(text)
  local h, m = text:match("^(%d%d?):(%d%d)$")
  return tonumber(h) * 60 + tonumber(m)
end

local function concerns(window, type_name)
  if not window.types then
    return true
  end
  for _, muted in ipairs(window.types) do
    if muted == type_name then
      return true
    end
  end
  return false
end

--- Whether alerts of this type are muted at this time. A window whose `to` is not after its `from`
--- ends the next day, so that equal ends mean the whole day; `to` itself is outside.
---@param windows { from: string, to: string, types?: string[], zone?: timezone.Zone }[] Times as
--- `02:30`, of the zone (default: UTC).
---@param type_name string
---@param wall_ms number Unix time.
---@return boolean
function M.is_muted(windows, type_name, wall_ms)
  for _, window in ipairs(windows or {}) do
    local offset_s = window.zone and window.zone:offset_s(wall_ms / 1000) or 0
    local now = math.floor((wall_ms / 1000 + offset_s) / 60) % DAY_MIN
    local from = minutes(window.from)
    local length = (minutes(window.to) - from - 1) % DAY_MIN + 1
    if (now - from) % DAY_MIN < length and concerns(window, type_name) then
      return true
    end
  end
  return false
end

return M
