--- Time zones by name, as the system's zone files (RFC 8536) have them: how far local time is ahead
--- of UTC at a time. Times after a file's last change follow the rule at its end.
---
---   local zone = assert(timezone.load("Europe/Berlin"))
---   zone:offset_s(1782907200)      -- 7200

local uv = require("luv")
local world = require("runtime.world")

local M = {}

local FOLDERS = { "/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo" }
local DAY_S = 86400
local MAX_BYTES = 1024 * 1024

---@class timezone.Zone
---@field name string
local Zone = {}
local zone_mt = { __index = Zone }

-- --- the rule at the end of a file: "CET-1CEST,M3.5.0,M10.5.0/3" ---------------------------------

-- "-5:30" as seconds; `1` when nothing is written where nothing may be.
local function read_time(text)
  local sign, h, m, s = text:match("^([+-]?)(%d+):?(%d*):?(%d*)$")
  if not h then
    return nil
  end
  local seconds = tonumber(h) * 3600 + (tonumber(m) or 0) * 60 + (tonumber(s) or 0)
  return sign == "-" and -seconds or seconds
end

-- Days from 1970 to the first of January of a year.
local function days_to(year)
  local y = year - 1
  return 365 * (year - 1970) + math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400) - 477
end

local function is_leap(year)
  return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
end

local MONTHS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function days_before(month, year)
  local days = 0
  for i = 1, month - 1 do
    days = days + MONTHS[i] + (i == 2 and is_leap(year) and 1 or 0)
  end
  return days
end

-- The day of a year, from 0, of "M3.5.0": the fifth (or last) Sunday of March.
local function nth_weekday(year, month, week, weekday)
  local first = days_before(month, year)
  local first_weekday = (days_to(year) + first + 4) % 7 -- 1970 began on a Thursday
  local day = (weekday - first_weekday) % 7 + 7 * (week - 1)
  local length = days_before(month + 1, year) - first
  while day >= length do
    day = day - 7
  end
  return first + day
end

-- "M3.5.0/2", "J60" or "59" as a function from a year to seconds since 1970 of local time.
local function read_change(text)
  local day, time = text:match("^([^/]+)/?(.*)$")
  local seconds = time == "" and 7200 or read_time(time or "")
  local month, week, weekday = (day or ""):match("^M(%d+)%.(%d)%.(%d)$")
  local julian, zero = (day or ""):match("^J(%d+)$"), (day or ""):match("^(%d+)$")
  if not seconds or not (month or julian or zero) then
    return nil
  end
  return function(year)
    local of_year
    if month then
      of_year = nth_weekday(year, tonumber(month), tonumber(week), tonumber(weekday))
    elseif julian then
      local is_after = is_leap(year) and tonumber(julian) >= 60
      of_year = tonumber(julian) - 1 + (is_after and 1 or 0)
    else
      of_year = tonumber(zero)
    end
    return (days_to(year) + of_year) * DAY_S + seconds
  end
end

local function read_name(text)
  return text:match("^<[^>]*>(.*)$") or text:match("^%a+(.*)$")
end

-- Reads a rule: a function from Unix seconds to the offset, or nil.
local function read_rule(text)
  local rest = read_name(text)
  local west = rest and rest:match("^[+-]?[%d:]+")
  local standard_s = west and read_time(west)
  if not standard_s then
    return nil
  end
  standard_s = -standard_s
  rest = rest:sub(#west + 1)
  if rest == "" then
    return function()
      return standard_s
    end
  end
  local dst, first, last = (read_name(rest) or ""):match("^([^,]*),([^,]+),([^,]+)$")
  local begins, ends = read_change(first or ""), read_change(last or "")
  if not (begins and ends) then
    return nil
  end
  local summer_s = dst == "" and standard_s + 3600 or -(read_time(dst) or 0)
  return function(unix_s)
    local year = 1970 + math.floor((unix_s + standard_s) / (365.2425 * DAY_S))
    local from, to = begins(year) - standard_s, ends(year) - summer_s
    local is_summer
    if from < to then
      is_summer = unix_s >= from and unix_s < to
    else
      is_summer = unix_s >= from or unix_s < to
    end
    return is_summer and summer_s or standard_s
  end
end

-- --- the file ------------------------------------------------------------------------------------

-- Big-endian, two's complement.
local function integer(data, at, bytes)
  local value = 0
  for i = at, at + bytes - 1 do
    value = value * 256 + (data:byte(i) or 0)
  end
  return value >= 2 ^ (8 * bytes - 1) and value - 2 ^ (8 * bytes) or value
end

local HEADER = 44

local function read_counts(data, at)
  local counts = {}
  for i, name in ipairs({ "utc", "standard", "leaps", "times", "types", "chars" }) do
    counts[name] = integer(data, at + 16 + 4 * i, 4)
  end
  return counts
end

local function size_of(counts, bytes)
  return counts.times * (bytes + 1) + counts.types * 6 + counts.chars
    + counts.leaps * (bytes + 4) + counts.standard + counts.utc
end

local function parse(data)
  if data:sub(1, 4) ~= "TZif" or #data < HEADER then
    return nil
  end
  local at, bytes, version = 1, 4, data:byte(5)
  local counts = read_counts(data, at)
  if version >= 0x32 then -- the same again, with longer times
    at = at + HEADER + size_of(counts, 4)
    bytes, counts = 8, read_counts(data, at)
  end
  local body = at + HEADER
  local types = body + counts.times * (bytes + 1)
  local zone = { times = {}, offsets = {} }
  for i = 1, counts.times do
    zone.times[i] = integer(data, body + (i - 1) * bytes, bytes)
    local kind = data:byte(body + counts.times * bytes + i - 1) or 0
    zone.offsets[i] = integer(data, types + kind * 6, 4)
  end
  zone.first = integer(data, types, 4)
  local footer = bytes == 8 and data:sub(body + size_of(counts, 8)):match("^\n([^\n]+)\n")
  zone.rule = footer and read_rule(footer)
  return counts.types > 0 and zone or nil
end

local function read(name)
  for _, folder in ipairs({ world.env("TZDIR") or FOLDERS[1], unpack(FOLDERS) }) do
    local path = folder .. "/" .. name
    local stat = uv.fs_stat(path)
    local file = stat and stat.type == "file" and stat.size <= MAX_BYTES and io.open(path, "rb")
    if file then
      local data = file:read("*a")
      file:close()
      return data
    end
  end
end

--- Finds a zone by its name: `UTC`, or one of the system's, such as `Europe/Berlin`.
---@param name string
---@return timezone.Zone?
---@return string? err
function M.load(name)
  if name == "UTC" then
    return setmetatable({ name = name, times = {}, offsets = {}, first = 0 }, zone_mt)
  end
  local is_name = type(name) == "string" and name:find("^%a[%w_+-]*[%w/_+-]*$")
  local data = is_name and read(name)
  local zone = data and parse(data)
  if not zone then
    return nil, ("%q is no time zone of this machine: write UTC or a name such as Europe/Berlin%s")
      :format(tostring(name), not uv.fs_stat(FOLDERS[1]) and " (which needs tzdata)" or "")
  end
  zone.name = name
  return setmetatable(zone, zone_mt)
end

--- How many seconds local time is ahead of UTC.
---@param unix_s number
---@return integer
function Zone:offset_s(unix_s)
  local times = self.times
  local last = times[#times]
  if self.rule and (not last or unix_s >= last) then
    return self.rule(unix_s)
  end
  local low, high = 0, #times
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if times[middle] <= unix_s then
      low = middle
    else
      high = middle - 1
    end
  end
  return low == 0 and self.first or self.offsets[low]
end

return M
