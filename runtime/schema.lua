--- Checks values against the part of JSON Schema that tools use: type, properties, required,
--- enum, minLength, maxLength, minimum, maximum, items, minItems, additionalProperties = false.
---
--- A mistake reads `PATH: got WHAT, allowed: WHAT`, so that a model can correct itself; all
--- mistakes of a value are told at once.

local json_null = require("cjson").null

local M = {}

local MAX_SHOWN = 40

--- Builds the schema of an object whose properties have an order. The order is kept in the
--- metatable field `__order` of `properties`, where an encoder may find it.
---@param fields { [1]: string, [2]: table, optional: boolean? }[]
---@return table
function M.object(fields)
  local properties, order, required = {}, {}, {}
  for i, field in ipairs(fields) do
    properties[field[1]], order[i] = field[2], field[1]
    if not field.optional then
      required[#required + 1] = field[1]
    end
  end
  return {
    type = "object",
    properties = setmetatable(properties, { __order = order }),
    required = #required > 0 and required or nil,
    additionalProperties = false,
  }
end

--- The names of an object schema's properties, in their order if they have one, else sorted.
---@return string[]
function M.property_names(schema)
  local meta = getmetatable(schema.properties or {})
  if meta and meta.__order then
    return meta.__order
  end
  local names = {}
  for name in pairs(schema.properties or {}) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local function is_list(value)
  return type(value) == "table" and (next(value) == nil or value[1] ~= nil)
end

local function is_object(value)
  return type(value) == "table" and value[1] == nil
end

local function is_finite(value)
  return type(value) == "number" and value == value and math.abs(value) < math.huge
end

local IS = {
  string = function(value)
    return type(value) == "string"
  end,
  number = is_finite,
  integer = function(value)
    return is_finite(value) and value == math.floor(value)
  end,
  boolean = function(value)
    return type(value) == "boolean"
  end,
  array = is_list,
  object = is_object,
}

-- What came, short.
local function describe(value)
  if value == json_null or value == nil then
    return "null"
  elseif type(value) == "string" then
    if #value > MAX_SHOWN then
      return ("%q… (%d bytes)"):format(value:sub(1, MAX_SHOWN):gsub("[\128-\255]+$", ""), #value)
    end
    return ("%q"):format(value)
  elseif type(value) == "number" then
    return ("%.14g"):format(value)
  elseif type(value) == "boolean" then
    return tostring(value)
  end
  return value[1] ~= nil and "a list" or next(value) == nil and "an empty object" or "an object"
end

local function bounds(low, high, unit)
  unit = unit or ""
  if low and high then
    return (" from %.14g to %.14g%s"):format(low, high, unit)
  elseif low then
    return (" of at least %.14g%s"):format(low, unit)
  elseif high then
    return (" of at most %.14g%s"):format(high, unit)
  end
  return ""
end

--- What a schema allows, in words: `a whole number from 1 to 50`.
---@return string
function M.allowed(schema)
  if schema.enum then
    return table.concat(schema.enum, ", ")
  elseif schema.type == "string" then
    return "text" .. bounds(schema.minLength, schema.maxLength, " characters")
  elseif schema.type == "integer" then
    return "a whole number" .. bounds(schema.minimum, schema.maximum)
  elseif schema.type == "number" then
    return "a number" .. bounds(schema.minimum, schema.maximum)
  elseif schema.type == "boolean" then
    return "true or false"
  elseif schema.type == "array" then
    return (schema.minItems and ("a list of %d or more: "):format(schema.minItems) or "a list of ")
      .. (schema.items and M.allowed(schema.items) or "anything")
  end
  return "an object"
end

local function characters(text)
  return select(2, text:gsub("[^\128-\191]", ""))
end

local function contains(list, value)
  for _, each in ipairs(list) do
    if each == value then
      return true
    end
  end
  return false
end

-- True when the value itself (not what it contains) is one that the schema allows.
local function fits(schema, value)
  if schema.type and not IS[schema.type](value) then
    return false
  end
  if schema.enum and not contains(schema.enum, value) then
    return false
  end
  local size = schema.type == "string" and characters(value) or value
  local low, high = schema.minLength or schema.minimum, schema.maxLength or schema.maximum
  if schema.type == "array" then
    size, low, high = #value, schema.minItems, schema.maxItems
  end
  return not (low and size < low) and not (high and size > high)
end

local check

local function check_object(schema, value, path, mistakes)
  local cleaned = {}
  local prefix = path and path .. "." or ""
  for _, name in ipairs(schema.required or {}) do
    if value[name] == nil or value[name] == json_null then
      mistakes[#mistakes + 1] = ("%s%s: required, allowed: %s"):format(prefix, name,
        M.allowed(schema.properties[name]))
    end
  end
  local names = {}
  for name in pairs(value) do
    names[#names + 1] = tostring(name)
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local property = (schema.properties or {})[name]
    if property then
      -- A model that must fill every property says null for those that it leaves out.
      if value[name] ~= json_null then
        cleaned[name] = check(property, value[name], prefix .. name, mistakes)
      end
    elseif schema.additionalProperties == false then
      mistakes[#mistakes + 1] = ("%s%s: unknown, allowed: %s"):format(prefix,
        name:sub(1, MAX_SHOWN), table.concat(M.property_names(schema), ", "))
    else
      cleaned[name] = value[name]
    end
  end
  return cleaned
end

function check(schema, value, path, mistakes)
  if not fits(schema, value) then
    mistakes[#mistakes + 1] = ("%s: got %s, allowed: %s"):format(path or "arguments",
      describe(value), M.allowed(schema))
    return nil
  end
  if schema.type == "object" then
    return check_object(schema, value, path, mistakes)
  elseif schema.type == "array" and schema.items then
    local cleaned = {}
    for i, item in ipairs(value) do
      cleaned[i] = check(schema.items, item, ("%s[%d]"):format(path or "", i), mistakes)
    end
    return cleaned
  end
  return value
end

--- Checks a value.
---@param schema table
---@param value any As decoded from JSON.
---@return any? cleaned A copy; properties that are null are left out.
---@return string[]? mistakes All of them, `PATH: got …, allowed: …`.
function M.check(schema, value)
  local mistakes = {}
  local cleaned = check(schema, value, nil, mistakes)
  if #mistakes > 0 then
    return nil, mistakes
  end
  return cleaned
end

return M
