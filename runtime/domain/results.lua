--- What leaves a domain: plain tables, valid UTF-8, finite numbers, lists of at most 500 rows, and
--- no key that Lua reads as a keyword.

local json = require("runtime.json")
local names = require("runtime.names")

local M = {}

local MAX_ROWS = 500
local MAX_DEPTH = 32

--- Lua's own words: no name that a script could write.
M.KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while]]):gmatch("%a+") do
  M.KEYWORDS[word] = true
end

local function scalar(value)
  local kind = type(value)
  if kind == "number" then
    return value == value and math.abs(value) < math.huge and value or json.null
  elseif kind == "string" then
    return names.utf8(value)
  elseif kind == "boolean" or value == json.null then
    return value
  end
  return names.clean(tostring(value))
end

local function key_text(key)
  if type(key) == "number" then
    return key
  end
  local text = names.utf8(tostring(key))
  return M.KEYWORDS[text] and text .. "_" or text
end

local function plain(value, depth)
  if type(value) ~= "table" then
    return scalar(value)
  elseif depth > MAX_DEPTH then
    return "<too deep>"
  end
  local copy, count = {}, #value
  for i = 1, math.min(count, MAX_ROWS) do
    copy[i] = plain(value[i], depth + 1)
  end
  for key, item in pairs(value) do
    if type(key) ~= "number" or key < 1 or key > count or key % 1 ~= 0 then
      copy[key_text(key)] = plain(item, depth + 1)
    end
  end
  return copy
end

--- A copy of any value that is plain. Terms of the node become text.
---@param value any
---@return any
function M.plain(value)
  return plain(value, 1)
end

--- A copy of a snapshot: what is no number, text, boolean or null is its text.
---@param data table
---@return table
function M.flat(data)
  local copy = {}
  for key, value in pairs(data) do
    copy[key_text(key)] = scalar(value)
  end
  return copy
end

return M
