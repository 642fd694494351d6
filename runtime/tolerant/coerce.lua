--- Nodes of runtime/tolerant/reader.lua as values of a schema. Each repair has a price; of several
--- readings the cheapest one counts, of equal ones the first.
---
--- Understood of JSON Schema: type, properties, required, items, enum, const, anyOf,
--- additionalProperties, $ref into $defs; `x-alias` names a property as the text does.

local json = require("runtime.json")
local objects = require("runtime.tolerant.objects")
local reader = require("runtime.tolerant.reader")
local scalars = require("runtime.tolerant.scalars")

local M = {}

local MAX_DEPTH = 100
local COST = {
  other_type = 1, wrapped = 1, found_in_text = 2, shown = 2, encoded = 2, dropped = 1, lost = 110,
}

---@class coerce.Context
---@field defs? table
---@field partial? boolean The text may still grow.
---@field careful? boolean Nothing may be dropped, guessed from prose, or cut.

local coerce

-- What a node looks like in a text that was to be a text.
local function shown(node)
  if node.kind == "object" then
    local parts = {}
    for i, entry in ipairs(node.entries) do
      parts[i] = ("%s: %s"):format(entry[1], shown(entry[2]))
    end
    return "{" .. table.concat(parts, ", ") .. "}"
  elseif node.kind == "list" then
    local parts = {}
    for i, item in ipairs(node.items) do
      parts[i] = shown(item)
    end
    return "[" .. table.concat(parts, ", ") .. "]"
  end
  return node.source or tostring(node.value)
end

local function only_item(node)
  if node.kind == "list" and #node.items == 1 then
    return node.items[1]
  end
end

-- A list or object that stands as JSON in a text.
local function decoded(node)
  if node.kind == "text" and node.value:find("^%s*[{%[]") then
    local inner = reader.find(node.value)
    return #inner == 1 and inner[1] or nil
  end
end

local AS = {}

function AS.string(node, _, ctx)
  if node.kind == "text" then
    return not (ctx.careful and not node.complete) and 0 or nil, node.value
  elseif node.kind == "null" or (ctx.careful and (node.items or node.entries)) then
    return nil
  end
  return COST.shown, shown(node)
end

local function number_of(node, ctx)
  if node.kind == "number" then
    if (ctx.partial or ctx.careful) and not node.complete then
      return nil
    end
    return 0, node.value
  elseif node.kind ~= "text" or (ctx.partial and not node.complete) then
    return nil
  end
  local value = scalars.exact_number(node.value)
  if value then
    return COST.other_type, value
  end
  value = not ctx.careful and scalars.only_number(node.value)
  return value and COST.found_in_text, value
end

function AS.number(node, _, ctx)
  return number_of(node, ctx)
end

function AS.integer(node, _, ctx)
  local cost, value = number_of(node, ctx)
  if not cost or value % 1 == 0 then
    return cost, value
  elseif ctx.careful then
    return nil
  end
  return cost + COST.other_type, scalars.round(value)
end

function AS.boolean(node, _, ctx)
  if node.kind == "boolean" then
    return 0, node.value
  elseif node.kind ~= "text" or (ctx.partial and not node.complete) then
    return nil
  end
  local value = scalars.boolean(node.value)
  if ctx.careful and not node.value:lower():find("^%s*%a+%s*$") then
    return nil
  end
  return value ~= nil and COST.other_type or nil, value
end

AS["null"] = function(node, _, ctx)
  if node.kind == "null" then
    return 0, json.null
  elseif ctx.careful then
    return nil
  end
  return COST.lost, json.null
end

local function coerce_items(node, schema, ctx, depth)
  local total, list = 0, json.array({})
  for i, item in ipairs(node.items) do
    local cost, value = coerce(item, schema.items or {}, ctx, depth + 1)
    if cost then
      total = total + cost
      list[#list + 1] = value
    elseif ctx.careful then
      return nil
    else
      total = total + COST.dropped + i
    end
  end
  if ctx.careful and not node.complete then
    return nil
  end
  return total, list
end

function AS.array(node, schema, ctx, depth)
  if node.kind == "list" then
    return coerce_items(node, schema, ctx, depth)
  elseif node.kind == "null" then
    return nil
  end
  local inner = decoded(node)
  if inner and inner.kind == "list" then
    local cost, list = coerce_items(inner, schema, ctx, depth)
    return cost and cost + COST.encoded, list
  end
  local cost, value = coerce(node, schema.items or {}, ctx, depth + 1)
  return cost and cost + COST.wrapped, json.array({ value })
end

function AS.object(node, schema, ctx, depth)
  if node.kind == "object" then
    if ctx.careful and not node.complete then
      return nil
    end
    return (schema.properties and objects.properties or objects.map)(node, schema, ctx, depth,
      coerce)
  end
  local inner = only_item(node) or decoded(node)
  if not inner then
    return nil
  end
  local cost, object = AS.object(inner, schema, ctx, depth + 1)
  return cost and cost + (node.kind == "list" and COST.wrapped or COST.encoded), object
end

-- Whatever it is, when the schema says nothing of it.
local function any(node, ctx, depth)
  if node.kind == "list" then
    return coerce_items(node, {}, ctx, depth)
  elseif node.kind == "object" then
    return objects.map(node, {}, ctx, depth, coerce)
  elseif node.kind == "null" then
    return 0, json.null
  end
  return 0, node.value
end

local function as_choice(node, values, ctx, depth)
  if ctx.partial and not node.complete and node.kind ~= "list" then
    return nil
  end
  local names, by_name = {}, {}
  for i, value in ipairs(values) do
    if value == node.value and node.kind ~= "list" and node.kind ~= "object" then
      return 0, value
    end
    names[i] = tostring(value)
    by_name[names[i]] = value
  end
  local inner = only_item(node) or (node.kind == "object" and #node.entries == 1
    and not ctx.careful and node.entries[1][2])
  if inner and inner.kind ~= "object" then
    local cost, value = as_choice(inner, values, ctx, depth + 1)
    return cost and cost + COST.wrapped, value
  end
  if node.kind ~= "text" or (ctx.careful and not node.complete) then
    return nil
  end
  local name, penalty = scalars.name(node.value, names, ctx.careful)
  if name then
    return penalty, by_name[name]
  end
end

-- The values of a schema that lists them, also as a union of constants.
local function choices_of(schema)
  if schema.enum then
    return schema.enum
  elseif schema.const ~= nil then
    return { schema.const }
  end
  local values = {}
  for i, option in ipairs(schema.anyOf or {}) do
    if option.const == nil then
      return nil
    end
    values[i] = option.const
  end
  return schema.anyOf and values or nil
end

local function as_union(node, options, ctx, depth)
  local best, best_value
  for _, option in ipairs(options) do
    local cost, value = coerce(node, option, ctx, depth + 1)
    if cost and (not best or cost < best) then
      best, best_value = cost, value
    end
  end
  return best, best_value
end

function coerce(node, schema, ctx, depth)
  if depth > MAX_DEPTH then
    return nil
  end
  schema = objects.resolve(schema, ctx)
  local values = choices_of(schema)
  if values then
    return as_choice(node, values, ctx, depth)
  elseif schema.anyOf then
    return as_union(node, schema.anyOf, ctx, depth)
  elseif not schema.type then
    return any(node, ctx, depth)
  end
  local inner = schema.type ~= "array" and schema.type ~= "object" and schema.type ~= "null"
    and only_item(node)
  if inner then
    local cost, value = coerce(inner, schema, ctx, depth + 1)
    return cost and cost + COST.wrapped, value
  end
  return AS[schema.type](node, schema, ctx, depth)
end

--- Reads a node as a value of the schema.
---@param node table
---@param schema table
---@param ctx coerce.Context
---@return number? cost nil: it is none.
---@return any value
function M.coerce(node, schema, ctx)
  return coerce(node, schema, ctx, 1)
end

return M
