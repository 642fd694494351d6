--- Finding a value of a schema in what a model wrote: JSON with mistakes, in fences, in prose.
---
---   local value, err = tolerant.parse(text, schema)
---   local nodes = tolerant.find(text)   -- every object and list, for who decides by himself
---
--- This is for answers that ended as their model meant them to end. What may act must ask for
--- `careful`, which neither drops nor guesses, and check the value besides.

local coerce = require("runtime.tolerant.coerce")
local json = require("runtime.json")
local reader = require("runtime.tolerant.reader")

local M = {}

local MAX_BYTES = 256 * 1024

--- The objects and lists in a text.
---@param text string
---@return table[] nodes As of runtime/tolerant/reader.lua.
---@return string text That they are in: another one if it was JSON in JSON.
function M.find(text)
  local whole = reader.scalar(text)
  if whole.complete and whole.kind == "text" then
    -- JSON that was encoded twice.
    text = whole.value
  end
  text = text:sub(1, MAX_BYTES)
  return reader.find(text), text
end

-- The texts in code fences.
local function fenced(text)
  local blocks = {}
  for inner in ("\n" .. text):gmatch("\n[ \t]*```[%w_+-]*[ \t]*\n(.-)\n[ \t]*```") do
    blocks[#blocks + 1] = inner
  end
  return blocks
end

-- Everything that the value may be, the likeliest first.
local function readings(text)
  local list = M.find(text)
  if #list > 1 then
    list[#list + 1] = { kind = "list", items = { unpack(list) }, complete = true }
  end
  for _, inner in ipairs(fenced(text)) do
    list[#list + 1] = reader.scalar(inner)
  end
  -- A text that is nothing but JSON is no prose about it.
  local is_json = #list > 0 and text:find("^%s*[{%[]") and text:find("[}%]]%s*$")
  if text:find("%S") and not is_json then
    list[#list + 1] = reader.scalar(text)
  end
  return list
end

local function is_object(schema)
  for _, option in ipairs(schema.anyOf or {}) do
    if is_object(option) then
      return true
    end
  end
  return schema.type == "object"
end

--- Finds the value of a schema in a text.
---@param text string
---@param schema table
---@param opts? { partial?: boolean, careful?: boolean } `partial`: the text may still grow; what
--- is not there yet is null. `careful`: nothing is dropped, cut or guessed from prose.
---@return any value Null is `json.null`; nil with an error.
---@return string? err
function M.parse(text, schema, opts)
  local ctx = {
    defs = schema["$defs"],
    partial = opts and opts.partial,
    careful = opts and opts.careful,
  }
  local best, best_value
  local list = readings(text:sub(1, MAX_BYTES))
  if ctx.partial and #list == 0 and is_object(schema) then
    list[1] = { kind = "object", entries = {}, complete = false }
  end
  for _, node in ipairs(list) do
    local cost, value = coerce.coerce(node, schema, ctx)
    if cost and (not best or cost < best) then
      best, best_value = cost, value
    end
  end
  if not best then
    return nil, "no value of the schema is in the text"
  end
  return best_value == nil and json.null or best_value
end

return M
