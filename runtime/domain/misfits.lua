--- Whether results are what a domain says of them: the author of a domain is told what is not.

local json = require("runtime.json")
local suggest = require("runtime.suggest")

local M = {}

local MAX_TOLD = 10

local KINDS = {
  string = "string", integer = "number", number = "number", boolean = "boolean", list = "table",
  table = "table",
}

local function kind_of(value)
  return value == json.null and "null" or type(value)
end

local check_table

local function check_value(field, value, path, found)
  if value == nil then
    if not field.optional then
      found[#found + 1] = ("%s is missing; say optional = true if it may be"):format(path)
    end
  elseif value == json.null then
    if not field.nullable then
      found[#found + 1] = ("%s is null; say nullable = true if it may be"):format(path)
    end
  elseif type(value) ~= KINDS[field.type] or (field.type == "integer" and value % 1 ~= 0) then
    found[#found + 1] = ("%s is a %s (%s), but its type is %q"):format(path, kind_of(value),
      tostring(value):sub(1, 40), field.type)
  elseif field.type == "list" and field.fields then
    for i, row in ipairs(value) do
      check_table(field.fields, row, ("%s[%d]"):format(path, i), found)
    end
  elseif field.type == "table" and field.fields then
    check_table(field.fields, value, path, found)
  end
end

function check_table(fields, value, path, found)
  if type(value) ~= "table" then
    found[#found + 1] = ("%s is a %s, not a table"):format(path, kind_of(value))
    return
  elseif type(value.error) == "string" then
    return -- it says itself what it is not
  end
  local known = {}
  for _, field in ipairs(fields) do
    known[field.name] = true
    check_value(field, value[field.name], ("%s.%s"):format(path, field.name), found)
  end
  for _, key in ipairs(suggest.keys(value)) do
    if not known[key] then
      found[#found + 1] = ("%s has %s, of which the domain says nothing%s"):format(path, key,
        suggest.hint(key, suggest.keys(known)))
    end
  end
end

local function told(found)
  if #found > MAX_TOLD then
    found[MAX_TOLD + 1] = ("and %d more"):format(#found - MAX_TOLD)
    for i = #found, MAX_TOLD + 2, -1 do
      found[i] = nil
    end
  end
  return found
end

--- What of a snapshot is not as its metrics say; nothing of a domain that names none.
---@param metrics domain.Field[]
---@param data table
---@return string[]
function M.of_snapshot(metrics, data)
  local found = {}
  if metrics[1] then
    check_table(metrics, data, "snapshot", found)
  end
  return told(found)
end

--- What of a callback's result is not as its `returns` say.
---@param callback domain.Callback
---@param value any
---@return string[]
function M.of_result(callback, value)
  local found = {}
  if not callback.returns.list then
    check_table(callback.returns, value, callback.name, found)
  elseif type(value) ~= "table" then
    found[1] = ("%s is a %s, but its returns say list = true"):format(callback.name, kind_of(value))
  else
    for i, row in ipairs(value) do
      check_table(callback.returns, row, ("%s[%d]"):format(callback.name, i), found)
    end
  end
  return told(found)
end

return M
