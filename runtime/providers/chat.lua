--- Chat completions: the wire format that OpenAI's API shares with many other servers.
---
--- What a server does not understand of it is its dialect, a table per client: what is known of it
--- beforehand, and what runtime/providers/adapt.lua learns from its refusals.

local chat_answer = require("runtime.providers.chat_answer")
local chat_errors = require("runtime.providers.chat_errors")
local exchange = require("runtime.providers.exchange")
local json = require("runtime.json")
local shared = require("runtime.providers.shared")

local M = {}

---@class chat.Dialect
---@field tools? boolean false: none; their schemas are in the prompt.
---@field tool_choice? "required"|"any"|"auto"|"none" How one is forced; "none": not sent.
---@field obeys? boolean false: it may not keep to a forced choice; calls in words count.
---@field named? boolean false: one tool cannot be forced by its name.
---@field parallel? boolean `parallel_tool_calls` is sent.
---@field stream_options? boolean They are sent.
---@field max_tokens? string The field's name.
---@field short_ids? boolean Ids of calls are nine letters and digits.
---@field results_end_turn? boolean No user's message may follow a result.

local DIALECT = {
  tools = true,
  tool_choice = "required",
  obeys = true,
  named = true,
  parallel = true,
  stream_options = true,
  max_tokens = "max_tokens",
  short_ids = false,
  results_end_turn = false,
}

---@class providers.Chat
local Chat = { decide = exchange.decide }
local chat_mt = { __index = Chat }

--- Options of every provider of this format, beside the common ones.
M.OPTIONS = {
  top_p = { type = "number", min = 0 },
  tools = { type = "boolean", default = true },
  tool_choice = { type = "string", one_of = { "required", "any", "auto", "none" } },
}

---@class chat.Options
---@field options table The client's, checked.
---@field url string
---@field key? string
---@field key_variable? string Where it is looked for; nil: none is needed.
---@field key_header? { [1]: string, [2]: string } Name, and what stands before the key.
---@field headers? { [1]: string, [2]: string }[]
---@field dialect? chat.Dialect
---@field reports_cost? boolean Its usage says what the answer cost, in USD.

--- Creates the provider of one client.
---@param opts chat.Options
function M.new(opts)
  local dialect = {}
  for name, default in pairs(DIALECT) do
    dialect[name] = (opts.dialect or {})[name]
    if dialect[name] == nil then
      dialect[name] = default
    end
  end
  dialect.tools = dialect.tools and opts.options.tools ~= false
  dialect.tool_choice = opts.options.tool_choice or dialect.tool_choice
  return setmetatable({
    tool_lists = shared.tool_lists(),
    system_parts = shared.system_parts(),
    options = opts.options,
    model = opts.options.model,
    url = opts.url,
    key = opts.key,
    key_variable = opts.key_variable,
    key_header = opts.key_header or { "authorization", "Bearer " },
    headers = opts.headers or {},
    dialect = dialect,
    reports_cost = opts.reports_cost,
  }, chat_mt)
end

--- True when a request can be authorised.
function Chat:has_key()
  return self.key ~= nil or self.key_variable == nil
end

--- Texts that must be in no message.
function Chat:secrets()
  return { self.key }
end

local SHORT_ID = 9

function Chat:call_id(id, position)
  id = shared.call_id(id, position)
  if self.dialect.short_ids then
    id = (("0"):rep(SHORT_ID) .. id:gsub("%W", "")):sub(-SHORT_ID)
  end
  return id
end

function Chat:message_of(message, position, last_id)
  if message.role == "tool" then
    return {
      role = "tool",
      tool_call_id = message.id and self:call_id(message.id, position) or last_id,
      content = message.text,
    }
  end
  local out = { role = message.role, content = message.text }
  if message.call then
    out.content = message.text and message.text:find("%S") and message.text or json.null
    out.tool_calls = { {
      id = self:call_id(message.call.id, position),
      type = "function",
      ["function"] = {
        name = message.call.name,
        arguments = json.encode(shared.object(message.call.args)),
      },
    } }
  end
  return out
end

-- Neighbours of the user become one message: many chat templates want roles to alternate.
local function joins(previous, message, dialect)
  if message.role ~= "user" or not previous then
    return false
  end
  return previous.role == "user" or (previous.role == "tool" and dialect.results_end_turn)
end

function Chat:messages(request)
  local system = { role = "system", content = request.system }
  local messages = { shared.system_part(self.system_parts, request.system, system) }
  local last_id
  for position, message in ipairs(request.messages) do
    local previous = messages[#messages]
    if joins(previous, message, self.dialect) then
      previous.content = previous.content .. "\n\n" .. message.text
    elseif message.call or (message.text and message.text:find("%S")) then
      local out = self:message_of(message, position, last_id)
      last_id = out.tool_calls and out.tool_calls[1].id or last_id
      messages[#messages + 1] = out
    end
  end
  return messages
end

local function functions_of(tools)
  local list = {}
  for i, tool in ipairs(tools) do
    list[i] = { type = "function", ["function"] = {
      name = tool.name,
      description = tool.description,
      parameters = tool.schema,
    } }
  end
  return list
end

local function only(tools, name)
  for _, tool in ipairs(tools) do
    if tool.name == name then
      return { tool }
    end
  end
  return {}
end

-- Where no tool can be forced by its name, it is the only one that is offered.
function Chat:add_tools(body, request)
  local dialect = self.dialect
  local by_name = dialect.named and (dialect.tool_choice == "required"
    or dialect.tool_choice == "any")
  local list = (by_name or not request.force)
    and shared.tool_list(self.tool_lists, request.tools, functions_of)
    or functions_of(only(request.tools, request.force))
  if #list == 0 then
    return
  end
  body.tools = list
  if by_name and request.force then
    body.tool_choice = { type = "function", ["function"] = { name = request.force } }
  elseif dialect.tool_choice ~= "none" then
    body.tool_choice = dialect.tool_choice
  end
  if dialect.parallel then
    body.parallel_tool_calls = false
  end
end

function Chat:body(request)
  local options, dialect = self.options, self.dialect
  local body = {
    model = self.model,
    messages = self:messages(request),
    stream = options.stream,
    temperature = options.temperature,
    top_p = options.top_p,
    [dialect.max_tokens] = request.max_tokens or options.max_tokens,
  }
  if options.stream and dialect.stream_options then
    body.stream_options = { include_usage = true }
  end
  self:add_tools(body, request)
  return shared.with_extra(body, options.extra)
end

--- The HTTP request for a normalised one.
function Chat:request(request)
  local missing = (self.key or self.key_variable)
    and shared.check_key(self.key, self.key_variable)
  if missing then
    return nil, missing
  end
  local headers = { { "content-type", "application/json" } }
  if self.key then
    headers[2] = { self.key_header[1], self.key_header[2] .. self.key }
  end
  for _, header in ipairs(self.headers) do
    headers[#headers + 1] = header
  end
  return {
    url = self.url,
    headers = exchange.header_lines(headers, self.options.headers),
    body = self:body(request),
  }
end

--- Makes the failure of a status more exact by the error in its body.
function Chat:read_error(body, failure) -- luacheck: no unused args
  if body.error ~= nil or body.message ~= nil then
    chat_errors.take(body, failure)
  end
end

--- Reads a plain body.
function Chat:read(body, answer)
  chat_answer.read(body, answer, self.reports_cost)
end

--- Takes the events of a stream.
function Chat:decoder(answer)
  return chat_answer.decoder(answer, self.reports_cost)
end

return M
