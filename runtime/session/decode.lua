--- Values out of a recording: the reverse of runtime/session/values.lua, for what may be damaged.

local dist = require("host.dist")
local native = require("host.json")

local M = {}

local DIGITS = {}
for i = 0, 63 do
  DIGITS[("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"):byte(i + 1)] = i
end

-- The bytes of base64 for URLs; nil when it is none.
local function from_base64(text)
  local bytes, bits, count = {}, 0, 0
  for i = 1, #text do
    local digit = DIGITS[text:byte(i)]
    if not digit then
      return nil
    end
    bits, count = bits % 4096 * 64 + digit, count + 6
    if count >= 8 then
      count = count - 8
      bytes[#bytes + 1] = string.char(math.floor(bits / 2 ^ count) % 256)
    end
  end
  return table.concat(bytes)
end

local decode

local NUMBERS = { nan = 0 / 0, inf = math.huge, ["-inf"] = -math.huge, ["-0"] = -0.0 }

local function decode_list(list, from, mark)
  local copy = {}
  for i = from, #list do
    copy[#copy + 1] = decode(list[i])
  end
  return setmetatable(copy, mark)
end

local function decode_object(t, mark)
  local copy = {}
  for key, item in next, t do
    copy[key] = decode(item)
  end
  return setmetatable(copy, mark)
end

local function must(condition)
  return condition or error("a value that no recording has", 0)
end

local DECODERS = {
  ["$0"] = function()
    return nil
  end,
  ["$b"] = function(list)
    return must(from_base64(must(type(list[2]) == "string" and list[2])))
  end,
  ["$n"] = function(list)
    return must(NUMBERS[list[2]])
  end,
  ["$t"] = function(list)
    return decode_list(list, 2, dist.tuple_mt)
  end,
  ["$a"] = function(list)
    return decode_list(list, 2, native.array_mt)
  end,
  ["$l"] = function(list)
    return decode_list(list, 2)
  end,
  ["$o"] = function(list)
    return decode_object(must(type(list[2]) == "table" and list[2]), native.object_mt)
  end,
  ["$p"] = function(list)
    local copy = {}
    for i = 2, #list, 2 do
      local key = decode(list[i])
      must(key ~= nil and key == key)
      copy[key] = decode(list[i + 1])
    end
    return copy
  end,
  ["$r"] = function(list)
    local bytes = must(type(list[2]) == "string" and from_base64(list[2]))
    must(list[3] == nil or type(list[3]) == "string")
    local term = dist.decode(bytes, list[3])
    return must(term ~= nil) and term
  end,
}

function decode(value)
  if type(value) ~= "table" then
    return must(value ~= math.huge and value ~= -math.huge) and value
  end
  local tag = value[1]
  if DECODERS[tag] then
    return DECODERS[tag](value)
  elseif tag ~= nil then
    return decode_list(value, 1)
  end
  return decode_object(value)
end

--- One value. Raises what is wrong with it.
---@param value any Of JSON.
---@return any
M.value = decode

return M
