--- The eight tools of a watcher: one table of name, description, JSON schema and handler. What a
--- provider is sent, what is checked and what `docs` says come from here.
---
--- Every tool's first property is `reason`: a forced choice of a tool leaves a model no other room
--- to think. Handlers are in runtime/tools/handlers.lua.

local handlers = require("runtime.tools.handlers")
local json = require("runtime.json")
local schema = require("runtime.schema")
local standing = require("runtime.watcher.standing")

local M = {}

M.SHORTEST_WAIT_MS = 1000
-- Text that is cut instead of refused: its length is no reason to lose a call.
local CUT_AT = { reason = 300, note = 500 }

local REASON = {
  "reason",
  { type = "string", maxLength = CUT_AT.reason,
    description = "First: what I saw and what I expect, in one or two sentences." },
  optional = true,
}
local SNAPSHOT_ID = { type = "string", minLength = 1, maxLength = 64,
  description = "A snapshot's id, 16 hex digits." }

local function page_field(name, default, max, what)
  return { name, { type = "integer", minimum = 1, maximum = max,
    description = ("%s; default %d."):format(what, default) }, optional = true }
end

---@class tools.Tool
---@field name string
---@field description string
---@field schema table
---@field handler async fun(watcher: table, args: table, call: table): table, table?

---@type tools.Tool[]
M.list = {
  {
    name = "set_state",
    description = "Say how the node is. healthy also resolves your alerts that no rule finding "
      .. "supports any more; the state never goes below the severity of those that stay.",
    schema = schema.object({
      REASON,
      { "state", { type = "string", enum = standing.STATES,
        description = "observing: something is odd, not yet a problem." } },
      { "resolve", { type = "array", items = { type = "string" },
        description = "Ids of your alerts that are over." }, optional = true },
    }),
    handler = handlers.set_state,
  },
  {
    name = "fire_alert",
    description = "Tell people. Needs at least one snapshot that shows the problem. A critical "
      .. "alert needs a rule finding of that type and subject; without it, it becomes a warning.",
    schema = schema.object({
      REASON,
      { "type", { type = "string", minLength = 1, maxLength = 200,
        description = "One of the domain's rule types, or other." } },
      { "subject", { type = "string", maxLength = 255, description = "The culprit: registered "
        .. "name, label or initial call, table, supervisor or port. Never a pid or a count." },
        optional = true },
      { "severity", { type = "string", enum = standing.SEVERITIES } },
      { "summary", { type = "string", minLength = 1, maxLength = 2000, description = "What, how "
        .. "much, how fast, since when, and what it leads to; with figures." } },
      { "snapshot_ids", { type = "array", items = SNAPSHOT_ID, minItems = 1 } },
    }),
    -- Told by the handler, as a refused alert.
    checked_by_handler = { snapshot_ids = true },
    handler = handlers.fire_alert,
  },
  {
    name = "get_alerts",
    description = "List alerts, newest first.",
    schema = schema.object({
      REASON,
      { "status", { type = "string", enum = { "firing", "resolved" },
        description = "Default: both." }, optional = true },
      { "scope", { type = "string", enum = { "watcher", "node" },
        description = "watcher (default): yours; node: those of all watchers of this node." },
        optional = true },
      page_field("limit", 10, 50, "How many"),
    }),
    handler = handlers.get_alerts,
  },
  {
    name = "take_snapshot",
    description = "Measure the node now. The answer has the snapshot's id for fire_alert.",
    schema = schema.object({ REASON }),
    handler = handlers.take_snapshot,
  },
  {
    name = "get_snapshot",
    description = "Show one earlier snapshot.",
    schema = schema.object({ REASON, { "id", SNAPSHOT_ID } }),
    handler = handlers.get_snapshot,
  },
  {
    name = "get_snapshots",
    description = "List earlier snapshots, newest first, with the total.",
    schema = schema.object({
      REASON,
      page_field("limit", 10, 50, "How many"),
      { "offset", { type = "integer", minimum = 0, description = "How many to skip; default 0." },
        optional = true },
    }),
    handler = handlers.get_snapshots,
  },
  {
    name = "execute",
    description = "Run Lua that reads the node through the callbacks and returns one value of at "
      .. "most 8 KiB of JSON. Nothing is kept between runs.",
    schema = schema.object({
      REASON,
      { "code", { type = "string", minLength = 1, maxLength = 65536,
        description = "Lua 5.1; ends with `return value`." } },
    }),
    handler = handlers.execute,
  },
  {
    name = "wait",
    description = "End this cycle and sleep. A finding of the rules that begins, worsens or clears "
      .. "wakes you earlier. Up to 15000 ms keeps this conversation; after longer waits you see a "
      .. "fresh opening message and only your note.",
    schema = schema.object({
      REASON,
      { "ms", { type = "number", minimum = M.SHORTEST_WAIT_MS,
        description = "Milliseconds: 60000 is a minute." } },
      { "note", { type = "string", maxLength = CUT_AT.note,
        description = "What to remember; kept until you write another." }, optional = true },
    }),
    handler = handlers.wait,
  },
}

local by_name = {}
for _, tool in ipairs(M.list) do
  by_name[tool.name] = tool
end

--- The tool of this name.
---@param name string
---@return tools.Tool?
function M.get(name)
  return by_name[name]
end

--- The names of the tools, in their order.
---@return string[]
function M.names()
  local names = {}
  for i, tool in ipairs(M.list) do
    names[i] = tool.name
  end
  return names
end

local request_list = {}
for i, tool in ipairs(M.list) do
  request_list[i] = { name = tool.name, description = tool.description, schema = tool.schema }
end

--- What a client is sent: name, description and schema of each tool, always the same bytes. All
--- callers get the same list: it is to be read only.
---@return { name: string, description: string, schema: table }[]
function M.for_request()
  return request_list
end

-- The first `max` characters.
local function cut(text, max)
  local count = 0
  for position in text:gmatch("()[^\128-\191]") do
    count = count + 1
    if count > max then
      return text:sub(1, position - 1)
    end
  end
  return text
end

local function prepared(args)
  local copy = {}
  for key, value in pairs(args) do
    local max = CUT_AT[key]
    copy[key] = max and type(value) == "string" and cut(value, max) or value
  end
  return copy
end

-- The schema without what the handler itself checks.
local function lenient(tool)
  if not tool.checked_by_handler then
    return tool.schema
  end
  local properties, required = {}, {}
  for name, property in pairs(tool.schema.properties) do
    properties[name] = property
    if tool.checked_by_handler[name] then
      properties[name] = { type = property.type, items = property.items }
    end
  end
  for _, name in ipairs(tool.schema.required) do
    if not tool.checked_by_handler[name] then
      required[#required + 1] = name
    end
  end
  return {
    type = "object",
    properties = setmetatable(properties, getmetatable(tool.schema.properties)),
    required = required,
    additionalProperties = false,
  }
end

local function wait_too_short(args)
  local ms = args.ms
  if type(ms) == "number" and ms >= 0 and ms < M.SHORTEST_WAIT_MS then
    local meant = ms > 0 and ("did you mean %.14g?"):format(ms * 1000)
      or ("the shortest is %d"):format(M.SHORTEST_WAIT_MS)
    return ("%.14g ms; %s"):format(ms, meant)
  end
end

--- Checks a call.
---@param name any
---@param args any As decoded.
---@return table? args A clean copy: `reason` and `note` cut to their length, nulls left out.
---@return string? err Every mistake, in words for a model.
function M.validate(name, args)
  local tool = by_name[name]
  if not tool then
    return nil, ("unknown tool %q; the tools are %s"):format(tostring(name):sub(1, 60),
      table.concat(M.names(), ", "))
  end
  if type(args) ~= "table" then
    local _, mistakes = schema.check(tool.schema, args)
    return nil, mistakes[1]
  end
  args = prepared(args)
  local short = name == "wait" and wait_too_short(args)
  if short then
    return nil, short
  end
  local cleaned, mistakes = schema.check(lenient(tool), args)
  if not cleaned then
    return nil, table.concat(mistakes, "; ")
  end
  return json.object(cleaned)
end

return M
