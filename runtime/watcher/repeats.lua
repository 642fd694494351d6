--- Notices a model that goes in circles within a cycle.
---
--- A call that comes again with the same arguments and the same result (ids and times aside), or
--- two calls that alternate whatever they answer, get a notice the third time and end the cycle
--- the fifth.

local json = require("runtime.json")

local M = {}

local NOTICE, ENOUGH = 3, 5
-- Figures that differ in every answer and say nothing.
local CLOCKS = { "mono_ms", "uptime_s", "uptime_seconds", "unix_ms", "took_ms", "duration_ms",
  "swept_at", "sampled_at" }

---@class repeats.Repeats
local Repeats = {}
local repeats_mt = { __index = Repeats }

--- Creates the memory of a cycle.
---@return repeats.Repeats
function M.new()
  return setmetatable({ seen = {}, calls = {} }, repeats_mt)
end

-- A result without ids and times.
local function normalised(text)
  text = text:gsub("%f[%x]%x+%f[%X]", function(digits)
    return (#digits == 16 or #digits == 32) and "#" or nil
  end)
  text = text:gsub("%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d[%d.]*Z?", "@")
  for _, name in ipairs(CLOCKS) do
    text = text:gsub(('("%s":)[-%%d.eE+]+'):format(name), "%1@")
  end
  return text
end

-- How many times the last two calls alternate at the end of the list.
local function alternations(calls)
  local last = #calls
  local a, b = calls[last - 1], calls[last]
  if not a or a == b then
    return 0
  end
  local pairs_found = 0
  while last >= 2 and calls[last] == b and calls[last - 1] == a do
    pairs_found, last = pairs_found + 1, last - 2
  end
  return pairs_found
end

--- Takes note of a call and its result.
---@param tool string
---@param args table
---@param text string The result as JSON.
---@return "notice"|"enough"|nil verdict
---@return integer times How often it was seen.
function Repeats:add(tool, args, text)
  local bare = {}
  for key, value in pairs(args) do
    bare[key] = value
  end
  bare.reason = nil
  local call = tool .. json.encode(bare)
  local key = call .. "\0" .. normalised(text)
  self.seen[key] = (self.seen[key] or 0) + 1
  self.calls[#self.calls + 1] = call
  local times = math.max(self.seen[key], alternations(self.calls))
  return times >= ENOUGH and "enough" or times >= NOTICE and "notice" or nil, times
end

--- Forgets all; a wait in between makes asking again sensible.
function Repeats:clear()
  self.seen, self.calls = {}, {}
end

return M
