--- When a server says that it can be asked again: the forms of times and durations in headers.

local M = {}

local MONTHS = {
  Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6,
  Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11, Dec = 12,
}
local UNITS_MS = { h = 3600000, m = 60000, s = 1000, ms = 1, us = 1e-3, ["µs"] = 1e-3, ns = 1e-6 }
local TOO_MANY_REQUESTS = 429

-- Days since 1970-01-01 of a date of the Gregorian calendar.
local function days(year, month, day)
  local y = month <= 2 and year - 1 or year
  local m = (month + 9) % 12
  return 365 * y + math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400)
    + math.floor((153 * m + 2) / 5) + day - 719469
end

local function unix_ms(year, month, day, h, min, s)
  return (days(tonumber(year), tonumber(month), tonumber(day)) * 86400
    + h * 3600 + min * 60 + s) * 1000
end

-- A year of two digits is the one within 50 years of now.
local function full_year(year, wall_ms)
  local now = 1970 + math.floor(wall_ms / 31556952000)
  local full = now - now % 100 + tonumber(year)
  return full > now + 50 and full - 100 or full
end

-- The three forms of a date in HTTP, as Unix ms:
-- "Fri, 31 Dec 2027 23:59:59 GMT", "Friday, 31-Dec-27 23:59:59 GMT", "Fri Dec 31 23:59:59 2027".
local function http_date_ms(text, wall_ms)
  local day, month, year, h, min, s = text:match("^%a+, (%d+) (%a+) (%d+) (%d+):(%d+):(%d+) GMT$")
  if not day then
    day, month, year, h, min, s = text:match("^%a+, (%d+)%-(%a+)%-(%d%d) (%d+):(%d+):(%d+) GMT$")
    year = year and full_year(year, wall_ms)
  end
  if not day then
    month, day, h, min, s, year = text:match("^%a+ (%a+) +(%d+) (%d+):(%d+):(%d+) (%d+)$")
  end
  return MONTHS[month] and unix_ms(year, MONTHS[month], day, h, min, s)
end

--- "2027-12-31T23:59:59Z", or with an offset such as "+01:00", as Unix ms.
---@param text string
---@return number?
function M.iso_time_ms(text)
  local year, month, day, h, min, s, zone =
    text:match("^(%d%d%d%d)-(%d%d)-(%d%d)[Tt ](%d%d):(%d%d):([%d.]+)(.*)$")
  if not tonumber(s) then
    return nil
  end
  local sign, zone_h, zone_min = zone:match("^([+-])(%d%d):(%d%d)$")
  if not sign and zone ~= "Z" and zone ~= "z" then
    return nil
  end
  local offset_ms = sign and (zone_h * 60 + zone_min) * (sign == "-" and -60000 or 60000) or 0
  return unix_ms(year, month, day, h, min, s) - offset_ms
end

--- A duration as Go prints it, "6m0s" or "174ms", in ms.
---@param text string
---@return number?
function M.duration_ms(text)
  local total_ms, stop = 0, 1
  for at, number, unit, next_at in text:gmatch("()([%d.]+)([%aµ]+)()") do
    if at ~= stop or not tonumber(number) or not UNITS_MS[unit] then
      return nil
    end
    total_ms, stop = total_ms + number * UNITS_MS[unit], next_at
  end
  return stop == #text + 1 and stop > 1 and total_ms or nil
end

-- How long from now, by a number in units of `unit_ms`, a duration or a date. A number that is too
-- large for a time from now is a Unix time in seconds or milliseconds.
local function from_now_ms(text, unit_ms, wall_ms)
  local number = tonumber(text:match("^[%d.]+$"))
  if number and number >= 1e9 then
    return number * (number < 1e12 and 1000 or 1) - wall_ms
  elseif number then
    return number * unit_ms
  end
  local date_ms = M.iso_time_ms(text) or http_date_ms(text, wall_ms)
  return date_ms and date_ms - wall_ms or M.duration_ms(text)
end

local function positive(ms)
  return ms and ms > 0 and ms < math.huge and ms or nil
end

-- When the limits of this request are full again, by the pairs of headers `…-remaining…` and
-- `…-reset…`: the latest of those that are spent.
local function reset_ms(headers, wall_ms)
  local latest_ms
  for name, value in pairs(headers) do
    if name:find("ratelimit%-") and name:find("remaining") and tonumber(value) == 0 then
      local reset = headers[(name:gsub("remaining", "reset"))]
      local ms = positive(reset and from_now_ms(reset, 1000, wall_ms))
      latest_ms = ms and math.max(latest_ms or 0, ms) or latest_ms
    end
  end
  return latest_ms
end

--- How long the server asks to wait: `retry-after-ms`, else `retry-after`, else, where a limit was
--- hit, when it is full again.
---@param status integer
---@param headers table<string, string>
---@param wall_ms number Unix time now.
---@return number? ms Positive.
---@return boolean? is_reset It is the time of a limit; what the error itself says is more exact.
function M.retry_after_ms(status, headers, wall_ms)
  local in_ms, plain = headers["retry-after-ms"], headers["retry-after"]
  local ms = positive(in_ms and from_now_ms(in_ms, 1, wall_ms))
    or positive(plain and from_now_ms(plain, 1000, wall_ms))
  if ms or status ~= TOO_MANY_REQUESTS then
    return ms
  end
  return reset_ms(headers, wall_ms), true
end

return M
