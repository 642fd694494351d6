--- JSON, and the null of the whole runtime.
---
--- Encoding is the host's own: numbers keep every digit, object keys are sorted (so that equal
--- values are equal bytes), text is always valid UTF-8. Decoding is lua-cjson's.

local cjson = require("cjson.safe").new()
local native = require("host.json")

local M = {}

local MAX_DEPTH = 128
cjson.decode_max_depth(MAX_DEPTH)
cjson.decode_invalid_numbers(false)

--- The null of JSON, of Erlang's `nil` and `null`, and of missing figures: one light userdata,
--- `cjson.null`. It is true in conditions: compare with `== json.null`.
M.null = native.null

--- Encodes any value; never fails. Keys are sorted, after those that the field `__order` of the
--- table's metatable lists. Holes in arrays are null; what has no JSON form is named in
--- brackets (`"<function>"`, `"<cycle>"`, `"<too deep>"` below 128 levels); NaN and infinities are
--- text; each bad byte of a string is U+FFFD; of two keys that print alike one is kept.
---@param value any An unmarked empty table is `[]`.
---@return string text
function M.encode(value)
  return (native.encode(value))
end

-- Texts of tables that do not change any more.
local once = setmetatable({}, { __mode = "k" })

--- Encodes a table that does not change any more; the text is remembered as long as it lives.
---@param value table
---@return string text
function M.encode_once(value)
  local text = once[value]
  if not text then
    text = M.encode(value)
    once[value] = text
  end
  return text
end

-- A list of which `encode_once` remembers a part; nil for other values.
local function spliced(list)
  if type(list) ~= "table" or getmetatable(list) then
    return nil
  end
  local texts, count, is_known = {}, 0, false
  for key in pairs(list) do
    count = count + 1
    if type(key) ~= "number" then
      return nil
    end
  end
  for i = 1, count do
    local text = once[list[i]]
    is_known = is_known or text ~= nil
    texts[i] = text or list[i] ~= nil and M.encode(list[i]) or nil
  end
  return is_known and #texts == count and "[" .. table.concat(texts, ",") .. "]" or nil
end

--- Encodes an object like `encode`, in pieces: the texts that `encode_once` remembers of its
--- values, and of the items of those that are lists, are taken as they are.
---@param object table Without a metatable.
---@return string[] pieces
function M.pieces(object)
  local keys = {}
  for key in pairs(object) do
    if type(key) ~= "string" then
      return { M.encode(object) }
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  local pieces, before = {}, "{"
  for i, key in ipairs(keys) do
    local value = object[key]
    pieces[2 * i - 1] = before .. M.encode(key) .. ":"
    pieces[2 * i] = once[value] or spliced(value) or M.encode(value)
    before = ","
  end
  pieces[#pieces + 1] = before == "," and "}" or "{}"
  return pieces
end

--- Encodes a value that must survive: functions, userdata, cycles, keys that are tables and more
--- than 128 levels are errors. Text and numbers are treated as by `encode`.
---@param value any
---@return string? text
---@return string? err
---@return string? code `"EJSON"`
function M.encode_strict(value)
  return native.encode_strict(value)
end

--- Decodes a JSON text; never raises.
---@param text string
---@return any value Null is `json.null`; nil with an error.
---@return string? err
---@return string? code `"EJSON"`: not JSON, or more than 128 levels.
function M.decode(text)
  if type(text) ~= "string" then
    return nil, ("EJSON: expected text, got a %s"):format(type(text)), "EJSON"
  end
  local value, err = cjson.decode(text)
  if value == nil then
    return nil, "EJSON: " .. tostring(err), "EJSON"
  end
  return value
end

--- Marks a table as a list: it prints as `[]` even when empty (as unmarked ones do).
---@generic T: table
---@param t T
---@return T t The same table.
function M.array(t)
  return setmetatable(t, native.array_mt)
end

--- Marks a table as an object: it prints as `{}` when empty, and its numbers as text keys.
---@generic T: table
---@param t T
---@return T t The same table.
function M.object(t)
  return setmetatable(t, native.object_mt)
end

return M
