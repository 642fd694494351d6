--- Tools for models that have none: their schemas in the prompt, and the call in the answer's text.
---
--- What a call's arguments must be like is checked where every call is checked, by
--- runtime/tools.lua, against the same schemas. Here a text is read with patience for its spelling
--- and none for its meaning: a cut value, two different calls or a guess is no call.

local coerce = require("runtime.tolerant.coerce")
local json = require("runtime.json")
local objects = require("runtime.tolerant.objects")
local schema = require("runtime.schema")
local tolerant = require("runtime.tolerant")

local M = {}

local INTRODUCTION = "Answer with one JSON object and nothing else: no text before or after it. "
  .. "The object chooses one of these tools by its name in \"tool\", and holds the tool's "
  .. "arguments beside it:"

local function type_of(property)
  if property.enum then
    local values = {}
    for i, value in ipairs(property.enum) do
      values[i] = json.encode(value)
    end
    return table.concat(values, " | ")
  elseif property.type == "array" then
    return ("[%s, …]"):format(property.items and type_of(property.items) or "anything")
  end
  return schema.allowed(property)
end

local function describe_tool(tool)
  local lines = { ("// %s"):format(tool.description or tool.name), "{",
    ("  \"tool\": %s,"):format(json.encode(tool.name)) }
  local required = {}
  for _, name in ipairs(tool.schema.required or {}) do
    required[name] = true
  end
  for _, name in ipairs(schema.property_names(tool.schema)) do
    local property = tool.schema.properties[name]
    if property.description then
      lines[#lines + 1] = ("  // %s"):format(property.description)
    end
    lines[#lines + 1] = ("  %s: %s,%s"):format(json.encode(name), type_of(property),
      required[name] and "" or " // may be left out")
  end
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n")
end

--- The text that explains the tools to a model without any.
---@param tools { name: string, description: string, schema: table }[]
---@param force? string Only this one may be chosen.
---@return string
function M.explain(tools, force)
  local parts = { INTRODUCTION }
  for _, tool in ipairs(tools) do
    if not force or tool.name == force then
      parts[#parts + 1] = describe_tool(tool)
    end
  end
  return table.concat(parts, "\n\n")
end

-- A call as the model is asked to write it.
local function written(call)
  local object = { tool = call.name }
  for name, value in pairs(call.args or {}) do
    object[name] = value
  end
  return json.encode(setmetatable(object, { __order = { "tool" } }))
end

local function message_of(message)
  if message.role == "tool" then
    return { role = "user", text = ("%s of %s:\n%s"):format(
      message.is_error and "Error" or "Result", message.name or "the tool", message.text) }
  elseif message.call then
    return { role = "assistant", text = written(message.call) }
  end
  return message
end

--- The request in the form that a client's dialect needs: as it is; with calls accepted in words,
--- where none can be forced for certain; or with the tools in the prompt.
---@param request table As of runtime/clients.lua.
---@param dialect { tools: boolean, tool_choice: string, obeys?: boolean }
---@return table request
function M.prepare(request, dialect)
  local prepared = {}
  for name, value in pairs(request) do
    prepared[name] = value
  end
  if dialect.tools then
    prepared.reads_text = not dialect.obeys or dialect.tool_choice == "auto"
      or dialect.tool_choice == "none"
    return prepared
  end
  prepared.text_tools, prepared.reads_text, prepared.tools = request.tools, true, {}
  prepared.system = ("%s\n\n%s"):format(request.system, M.explain(request.tools, request.force))
  prepared.messages = {}
  for i, message in ipairs(request.messages) do
    prepared.messages[i] = message_of(message)
  end
  return prepared
end

local function entry_of(node, wanted)
  for _, entry in ipairs(node.kind == "object" and node.entries or {}) do
    if entry[1]:lower() == wanted then
      return entry[2]
    end
  end
end

local function text_of(node)
  return node and node.kind == "text" and node.value or nil
end

local NAMES = { "tool", "tool_name", "name" }
local ARGUMENTS = { "arguments", "args", "parameters", "input" }

-- Arguments in an object of their own, by the names that models give it, unless the tool has an
-- argument of that name.
local function inner_args(node, tool)
  for _, name in ipairs(ARGUMENTS) do
    local found = not (tool and objects.property_of(tool.schema, name)) and entry_of(node, name)
    if found and found.kind == "text" then
      found = tolerant.find(found.value)[1]
    end
    if found and found.kind == "object" then
      return found, name
    end
  end
end

local function tool_of(name, tools)
  for _, tool in ipairs(tools) do
    if tool.name == name then
      return tool
    end
  end
end

-- What an object chooses: { name, key, node }, or nil when it is no call.
local function selection_of(node, tools)
  local fn = entry_of(node, "function")
  local only = node.kind == "object" and #node.entries == 1 and node.entries[1]
  if fn and fn.kind == "object" then
    return selection_of(fn, tools)
  elseif only and only[2].kind == "object" and tool_of(only[1], tools) then
    return { name = only[1], node = only[2] }
  end
  for _, key in ipairs(NAMES) do
    local name = text_of(entry_of(node, key))
    if name and (key ~= "name" or inner_args(node)) then
      return { name = name:match("^%s*(.-)%s*$"), key = key, node = node }
    end
  end
end

-- The entries that are arguments: those beside the tool's name, and those in an object of theirs.
local function arguments_of(selection, tool)
  local inner, inner_name = inner_args(selection.node, tool)
  local entries = {}
  for _, entry in ipairs(selection.node.entries) do
    local key = entry[1]:lower()
    if key ~= selection.key and key ~= inner_name then
      entries[#entries + 1] = entry
    end
  end
  for _, entry in ipairs(inner and inner.entries or {}) do
    entries[#entries + 1] = entry
  end
  return entries
end

-- The calls in a text, each with what follows it.
local function selections(text, tools)
  local list = {}
  local nodes, inside = tolerant.find(text)
  for i, node in ipairs(nodes) do
    local rest = inside:sub(node.after, nodes[i + 1] and nodes[i + 1].from - 1 or -1)
    for _, each in ipairs(node.kind == "list" and node.items or { node }) do
      local selection = selection_of(each, tools)
      if selection then
        selection.rest, selection.whole = rest, node
        list[#list + 1] = selection
      end
    end
  end
  return list
end

local function is_whole(node)
  for _, child in ipairs(node.items or {}) do
    if not is_whole(child) then
      return false
    end
  end
  for _, entry in ipairs(node.entries or {}) do
    if not is_whole(entry[2]) then
      return false
    end
  end
  return node.complete
end

-- Every argument as its schema wants it if that loses nothing, else as it stands.
local function args_of(selection, tool)
  local args = json.object({})
  for _, entry in ipairs(arguments_of(selection, tool)) do
    local name = objects.property_of(tool.schema, entry[1]) or entry[1]
    local property = (tool.schema.properties or {})[name] or {}
    local cost, value = coerce.coerce(entry[2], property, { careful = true })
    if not cost then
      _, value = coerce.coerce(entry[2], {}, {})
    end
    args[name] = value
  end
  return args
end

-- Why a call must not be believed: it is none of the tools, was cut, or a quote inside one of its
-- texts was taken for the end of it, so that the true end follows the call.
local function doubt(selection, tools)
  if not tool_of(selection.name, tools) then
    return ("the model chose %q, which is no tool"):format(selection.name:sub(1, 60))
  elseif not is_whole(selection.whole) then
    return ("the call of %s is cut"):format(selection.name)
  elseif selection.rest:find("^[^{%[]-[\"'`]%s*[}%]]") then
    return ("the call of %s cannot be read for sure: escape the quotes in its texts"):format(
      selection.name)
  end
end

--- The one call that a text holds.
---@param text string
---@param tools table[] Of the request.
---@return providers.Call? call
---@return string? kind no_tool_call or bad_tool_call
---@return string? message
function M.call_of(text, tools)
  local call, written_as
  for _, selection in ipairs(selections(text, tools)) do
    local why = doubt(selection, tools)
    if why then
      return nil, "bad_tool_call", why
    end
    local args = args_of(selection, tool_of(selection.name, tools))
    local own = selection.name .. json.encode(args)
    if call and own ~= written_as then
      return nil, "bad_tool_call", ("the model called %s and %s at once; one is allowed"):format(
        call.name, selection.name)
    end
    call, written_as = { name = selection.name, args = args }, own
  end
  if not call then
    return nil, "no_tool_call", "the model called no tool"
  end
  return call
end

return M
