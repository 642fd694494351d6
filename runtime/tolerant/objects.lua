--- Objects of runtime/tolerant/coerce.lua: their properties by the names that a model gives them,
--- and what stands for those that are missing.

local json = require("runtime.json")

local M = {}

local COST = { extra_key = 1, dropped = 1, defaulted = 100, lost = 110 }

--- The schema that a `$ref` means, else the schema itself.
---@param schema table
---@param ctx coerce.Context
---@return table
function M.resolve(schema, ctx)
  local name = schema["$ref"] and schema["$ref"]:match("^#/%$defs/(.+)$")
  return name and (ctx.defs or {})[name] or schema
end

local function allows_null(schema, ctx)
  schema = M.resolve(schema, ctx)
  if schema.type == "null" then
    return true
  end
  for _, option in ipairs(schema.anyOf or {}) do
    if allows_null(option, ctx) then
      return true
    end
  end
  return false
end

local function normal_key(text)
  return text:match("^%s*(.-)%s*$"):lower()
end

--- The property that a key means: exactly, by its alias, or in another case.
---@param schema table Of an object.
---@param key string
---@return string? name
function M.property_of(schema, key)
  local properties, aliases = schema.properties or {}, schema["x-alias"] or {}
  if properties[key] then
    return key
  end
  local by_case
  for name in pairs(properties) do
    local alias = aliases[name]
    if alias == key then
      return name
    elseif normal_key(name) == normal_key(key) or (alias and normal_key(alias) == normal_key(key))
    then
      by_case = name
    end
  end
  return by_case
end

local function is_required(schema, name)
  for _, each in ipairs(schema.required or {}) do
    if each == name then
      return true
    end
  end
  return false
end

-- A property that is not there, or whose value is of no use.
local function without(schema, name, ctx, is_lost)
  local property = M.resolve(schema.properties[name], ctx)
  if ctx.partial then
    return is_lost and COST.lost or is_required(schema, name) and COST.defaulted or 1,
      property.type == "array" and json.array({}) or json.null
  elseif not is_required(schema, name) or allows_null(property, ctx) then
    if ctx.careful then
      return not is_lost and 0 or nil, nil
    end
    return is_lost and COST.lost or 0, json.null
  elseif property.type == "array" and not ctx.careful then
    return COST.defaulted, json.array({})
  end
end

local function sorted_names(properties)
  local names = {}
  for name in pairs(properties) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- Reads an object as one with known properties.
---@param coerce fun(node: table, schema: table, ctx: table, depth: integer): number?, any
---@return number? cost
---@return table? object
function M.properties(node, schema, ctx, depth, coerce)
  local given, total = {}, 0
  for _, entry in ipairs(node.entries) do
    local name = M.property_of(schema, entry[1])
    if name and not (given[name] and entry[1] ~= name) then
      given[name] = entry[2]
    elseif not name then
      total = total + COST.extra_key
    end
  end
  local object = json.object({})
  for _, name in ipairs(sorted_names(schema.properties)) do
    local cost, value
    if given[name] then
      cost, value = coerce(given[name], schema.properties[name], ctx, depth + 1)
    end
    if not cost then
      cost, value = without(schema, name, ctx, given[name] ~= nil)
    end
    if not cost then
      return nil
    end
    object[name] = value
    total = total + cost
  end
  return total, object
end

--- Reads an object as a map of any names.
---@param coerce fun(node: table, schema: table, ctx: table, depth: integer): number?, any
---@return number? cost
---@return table? object
function M.map(node, schema, ctx, depth, coerce)
  local total, object = 0, json.object({})
  local values = type(schema.additionalProperties) == "table" and schema.additionalProperties or {}
  for i, entry in ipairs(node.entries) do
    local cost, value = coerce(entry[2], values, ctx, depth + 1)
    if cost then
      object[entry[1]] = value
      total = total + cost
    elseif ctx.careful then
      return nil
    else
      total = total + COST.dropped + i
    end
  end
  return total, object
end

return M
