--- The values that come in, as JSON and back without loss.
---
--- Texts, numbers, true, false, null, plain lists and plain objects stand for themselves. A list
--- that begins with a text of one sign after `$` is something else: `["$0"]` nil, `["$b", BASE64]`
--- bytes that are no UTF-8, `["$n", "inf"]` a number that JSON lacks, `["$t", …]` a tuple of a
--- node, `["$a", …]` and `["$o", {…}]` marked lists and objects, `["$p", KEY, VALUE, …]` any other
--- table, `["$r", BASE64, NODE]` a pid, port or reference in the external term format, and
--- `["$l", …]` a plain list whose first text looks like one of these.

local cjson = require("cjson.safe").new()
local crypto = require("host.crypto")
local decode = require("runtime.session.decode")
local dist = require("host.dist")
local json = require("runtime.json")
local native = require("host.json")

local M = {}

-- A term of a node is at most 64 deep, and some of its levels are two here.
cjson.decode_max_depth(1000)

local TOO_DEEP = 100
local MAX_LABEL = 60

local encode

local function is_utf8(text)
  return not text:find("[\128-\255]") or not select(2, native.encode(text))
end

local function encode_text(text)
  return is_utf8(text) and text or { "$b", crypto.base64url(text) }
end

local function encode_number(number)
  if number ~= number then
    return { "$n", "nan" }
  elseif number == math.huge or number == -math.huge then
    return { "$n", number > 0 and "inf" or "-inf" }
  elseif number == 0 and 1 / number < 0 then
    return { "$n", "-0" }
  end
  return number
end

-- The bytes that hold the length of an atom's name, by its tag in the external term format.
local ATOMS = { [100] = 2, [115] = 1, [118] = 2, [119] = 1 }

-- The name of a node in a term's bytes: its first atom that is one.
local function node_in(bytes)
  for i = 2, #bytes - 2 do
    local width = ATOMS[bytes:byte(i)]
    if width then
      local high, low = bytes:byte(i + 1, i + 2)
      local size = width == 1 and high or high * 256 + low
      local name = bytes:sub(i + 1 + width, i + width + size)
      if #name == size and name:find("^[^@]+@[^@]+$") then
        return name
      end
    end
  end
end

-- A term prints without its node when it is from the one that was asked.
local function encode_term(term)
  local ok, bytes = pcall(dist.encode, term)
  if not ok then
    return { "$r", tostring(term) }
  end
  local is_home = tostring(dist.decode(bytes)) ~= tostring(term)
  return { "$r", crypto.base64url(bytes), is_home and node_in(bytes) or nil }
end

local function encode_list(list, tag, depth)
  local copy = { tag }
  for _, item in ipairs(list) do
    copy[#copy + 1] = encode(item, depth)
  end
  return copy
end

-- Any keys, in a defined order.
local function encode_pairs(t, depth)
  local keys = {}
  for key in next, t do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    local kind_a, kind_b = type(a), type(b)
    if kind_a ~= kind_b then
      return kind_a < kind_b
    elseif kind_a == "number" or kind_a == "string" then
      return a < b
    end
    return tostring(a) < tostring(b)
  end)
  local copy = { "$p" }
  for _, key in ipairs(keys) do
    copy[#copy + 1] = encode(key, depth)
    copy[#copy + 1] = encode(t[key], depth)
  end
  return copy
end

-- "list" (the keys are 1 to n), "object" (they are texts) or "pairs".
local function shape_of(t)
  local count, last, is_list, is_object = 0, 0, true, true
  for key in next, t do
    count = count + 1
    if type(key) == "number" and key >= 1 and key % 1 == 0 then
      last, is_object = math.max(last, key), false
    else
      is_list, is_object = false, is_object and type(key) == "string" and is_utf8(key)
    end
  end
  if is_list and last == count then
    return "list"
  end
  return is_object and "object" or "pairs"
end

local TAGS = { [native.array_mt] = "$a", [dist.tuple_mt] = "$t" }

local function encode_object(t, depth)
  local copy = {}
  for key, item in next, t do
    copy[key] = encode(item, depth)
  end
  return json.object(copy)
end

local function encode_table(t, depth)
  local mark, shape = getmetatable(t), shape_of(t)
  if depth > TOO_DEEP then
    error("a value is too deep to be recorded", 0)
  elseif shape == "pairs" then
    return encode_pairs(t, depth)
  elseif mark == native.object_mt and t[1] == nil then
    return { "$o", encode_object(t, depth) }
  elseif shape == "object" then
    return encode_object(t, depth)
  end
  local first = t[1]
  local tag = TAGS[mark] or (type(first) == "string" and first:find("^%$%w$") and "$l") or nil
  return encode_list(t, tag, depth)
end

function encode(value, depth)
  local kind = type(value)
  if kind == "table" then
    return encode_table(value, depth + 1)
  elseif kind == "string" then
    return encode_text(value)
  elseif kind == "number" then
    return encode_number(value)
  elseif kind == "nil" then
    return { "$0" }
  elseif kind == "boolean" or value == json.null then
    return value
  elseif kind == "userdata" then
    return encode_term(value)
  end
  return "<" .. kind .. ">"
end

--- What JSON can hold of values.
---@param ... any
---@return any[] list For `json.encode`.
function M.encode(...)
  local list = {}
  for i = 1, select("#", ...) do
    list[i] = encode((select(i, ...)), 0)
  end
  return list
end

--- The values again. Raises what is wrong with them.
---@param list any[] As `encode` made it, and JSON has carried it.
---@return any ...
function M.decode(list)
  local values, count = {}, #list
  for i = 1, count do
    values[i] = decode.value(list[i])
  end
  return unpack(values, 1, count)
end

--- One line of JSON for a table that `encode` is part of.
---@param entry table
---@return string? line
---@return string? err
function M.to_line(entry)
  return json.encode_strict(entry)
end

--- The table of a line.
---@param line string
---@return table? entry
---@return string? err
function M.from_line(line)
  local entry, err = cjson.decode(line)
  if type(entry) ~= "table" then
    return nil, err or "not an object"
  end
  return entry
end

-- What was asked for, short enough for each entry: names as they are, anything longer by its
-- digest.
local function label(value)
  if type(value) == "number" then
    return ("%.14g"):format(value)
  elseif type(value) == "string" and #value <= MAX_LABEL and not value:find("[%c\128-\255]") then
    return value
  end
  local ok, list = pcall(M.encode, value)
  return "#" .. crypto.sha256(ok and json.encode(list) or tostring(list)):sub(1, 16)
end

--- A text for each value of what is asked for.
---@param ... any
---@return string[]
function M.labels(...)
  local labels = {}
  for i = 1, select("#", ...) do
    labels[i] = label((select(i, ...)))
  end
  return labels
end

return M
