--- Durations, sizes and times: reading them from policies, printing them for people.

local M = {}

local DURATION_MS = { ms = 1, s = 1000, m = 60000, h = 3600000, d = 86400000 }
local SIZE_BYTES = { B = 1, KiB = 1024, MiB = 1024 ^ 2, GiB = 1024 ^ 3 }

--- Reads a duration: `"10s"`, `"250ms"`, `"1h30m"`, or a number of milliseconds.
---@param text string|number
---@return number? ms
---@return string? err
function M.duration_ms(text)
  if type(text) == "number" then
    if text >= 0 and text < math.huge then
      return text
    end
    return nil, "a duration must not be negative"
  end
  if type(text) ~= "string" then
    return nil, ("a duration is text such as \"10s\", not a %s"):format(type(text))
  end
  local total, position = 0, 1
  while position <= #text do
    local number, unit, after = text:match("^(%d+%.?%d*)(%a+)()", position)
    if not number or not DURATION_MS[unit] then
      return nil, ("%q is not a duration: write 250ms, 10s, 5m, 1h30m or 2d"):format(text)
    end
    total, position = total + tonumber(number) * DURATION_MS[unit], after
  end
  if position == 1 then
    return nil, "a duration is empty: write 250ms, 10s, 5m, 1h30m or 2d"
  end
  return total
end

--- Reads a size: `"64MiB"`, `"8KiB"`, `"100B"`, or a number of bytes.
---@param text string|number
---@return number? bytes
---@return string? err
function M.size_bytes(text)
  if type(text) == "number" then
    if text >= 0 and text < math.huge then
      return text
    end
    return nil, "a size must not be negative"
  end
  local number, unit = tostring(text):match("^(%d+%.?%d*)%s*(%a+)$")
  if not number or not SIZE_BYTES[unit] then
    return nil, ("%q is not a size: write 100B, 8KiB, 64MiB or 1GiB"):format(tostring(text))
  end
  return tonumber(number) * SIZE_BYTES[unit]
end

--- Prints a size: 512 B, 8.0 KiB, 64.0 MiB, 1.5 GiB.
---@param bytes number
---@return string
function M.format_size(bytes)
  for _, unit in ipairs({ "GiB", "MiB", "KiB" }) do
    if math.abs(bytes) >= SIZE_BYTES[unit] then
      return ("%.1f %s"):format(bytes / SIZE_BYTES[unit], unit)
    end
  end
  return ("%d B"):format(bytes)
end

-- The first unit that is in a duration, and the next smaller one where that is in it, too.
local function two_units(first, unit, rest, next_unit)
  if rest > 0 then
    return ("%d %s %d %s"):format(first, unit, rest, next_unit)
  end
  return ("%d %s"):format(first, unit)
end

--- Prints a duration: 250 ms, 8 s, 3 m 20 s, 2 h 5 m, 4 d 3 h.
---@param ms number
---@return string
function M.format_duration(ms)
  if ms < 1000 then
    return ("%d ms"):format(ms)
  end
  local s = math.floor(ms / 1000 + 0.5)
  if s >= 86400 then
    return two_units(math.floor(s / 86400), "d", math.floor(s / 3600) % 24, "h")
  elseif s >= 3600 then
    return two_units(math.floor(s / 3600), "h", math.floor(s / 60) % 60, "m")
  elseif s >= 60 then
    return two_units(math.floor(s / 60), "m", s % 60, "s")
  end
  return ("%d s"):format(s)
end

--- Prints a whole number with thin groups: 39 818.
---@param number number
---@return string
function M.format_count(number)
  local text = ("%.0f"):format(number)
  local sign, digits = text:match("^(%-?)(%d+)$")
  if not digits then
    return text
  end
  local first = (#digits - 1) % 3 + 1
  return sign .. digits:sub(1, first) .. digits:sub(first + 1):gsub("%d%d%d", " %0")
end

-- Many times that are printed one after the other lie in the same second.
local last_s, last_text

--- Prints a wall-clock time as ISO 8601 in UTC with milliseconds.
---@param unix_ms number
---@return string
function M.format_time(unix_ms)
  local s = math.floor(unix_ms / 1000)
  if s ~= last_s then
    last_s, last_text = s, os.date("!%Y-%m-%dT%H:%M:%S", s)
  end
  return ("%s.%03dZ"):format(last_text, unix_ms - s * 1000)
end

--- Prints the time of day in UTC: 20:49:45.
---@param unix_ms number
---@return string
function M.format_clock(unix_ms)
  return os.date("!%H:%M:%S", math.floor(unix_ms / 1000))
end

--- A text with its first letter as a capital one, where that is one of a to z.
---@param text string
---@return string
function M.capital(text)
  return (text:gsub("^%l", string.upper))
end

return M
