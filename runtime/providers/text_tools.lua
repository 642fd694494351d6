--- Tools for models that have none: their schemas in the prompt, and the call in the answer's text.
---
--- What a call's arguments must be like is checked where every call is checked, by
--- runtime/tools.lua, against the same schemas. Here a text is read with patience for its spelling
--- and none for its meaning: a cut value, two different calls or a guess is no call.

local coerce = require("runtime.tolerant.coerce")
local json = require("runtime.json")
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

-- Arguments in an object of their own, by the names that models give it.
local function inner_args(node)
  for _, name in ipairs({ "arguments", "args", "parameters", "input" }) do
    local found = entry_of(node, name)
    if found and found.kind == "text" then
      found = tolerant.find(found.value)[1]
    end
    if found and found.kind == "object" then
      return found
    end
  end
end

local function without_tool(node)
  local entries = {}
  for _, entry in ipairs(node.entries) do
    if entry[1]:lower() ~= "tool" then
      entries[#entries + 1] = entry
    end
  end
  return { kind = "object", entries = entries, complete = node.complete }
end

-- What an object chooses: { name, args = node, complete }, or nil when it is no call.
local function selection_of(node)
  local fn = entry_of(node, "function")
  if fn and fn.kind == "object" then
    return selection_of(fn)
  end
  local args = inner_args(node)
  local name = text_of(entry_of(node, "tool")) or (args and text_of(entry_of(node, "name")))
  if name then
    return {
      name = name:match("^%s*(.-)%s*$"),
      args = args and not entry_of(node, "tool") and args
        or (args and #node.entries == 2 and args) or without_tool(node),
      complete = node.complete,
    }
  end
end

local function selections(text)
  local list = {}
  for _, node in ipairs(tolerant.find(text)) do
    for _, each in ipairs(node.kind == "list" and node.items or { node }) do
      list[#list + 1] = selection_of(each)
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
local function args_of(node, tool)
  local args = json.object({})
  for _, entry in ipairs(node.entries) do
    local name = coerce.property_of(tool.schema, entry[1]) or entry[1]
    local property = (tool.schema.properties or {})[name] or {}
    local cost, value = coerce.coerce(entry[2], property, { careful = true })
    if not cost then
      _, value = coerce.coerce(entry[2], {}, {})
    end
    args[name] = value
  end
  return args
end

local function tool_of(name, tools)
  for _, tool in ipairs(tools) do
    if tool.name == name then
      return tool
    end
  end
end

--- The one call that a text holds.
---@param text string
---@param tools table[] Of the request.
---@return providers.Call? call
---@return string? kind no_tool_call or bad_tool_call
---@return string? message
function M.call_of(text, tools)
  local found, first, first_args = selections(text), nil, nil
  for _, selection in ipairs(found) do
    local tool = tool_of(selection.name, tools)
    if not tool then
      return nil, "bad_tool_call", ("the model chose %q, which is no tool"):format(
        selection.name:sub(1, 60))
    elseif not is_whole(selection.args) or not selection.complete then
      return nil, "bad_tool_call", ("the call of %s is cut"):format(selection.name)
    end
    local args = args_of(selection.args, tool)
    if not first then
      first, first_args = selection, args
    elseif selection.name ~= first.name or json.encode(args) ~= json.encode(first_args) then
      return nil, "bad_tool_call", ("the model called %s and %s at once; one is allowed"):format(
        first.name, selection.name)
    end
  end
  if not first then
    return nil, "no_tool_call", "the model called no tool"
  end
  return { name = first.name, args = first_args }
end

return M
