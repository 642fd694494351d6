--- Anthropic's Messages API.

local anthropic_messages = require("runtime.providers.anthropic_messages")
local exchange = require("runtime.providers.exchange")
local failures = require("runtime.providers.failure")
local shared = require("runtime.providers.shared")

local M = {}

local text_or_nil = shared.text

--- What `options` of such a client may hold.
M.options = exchange.with_common({
  top_p = { type = "number", min = 0 },
  top_k = { type = "whole", min = 0 },
  anthropic_version = { type = "string", default = "2023-06-01" },
  tool_choice = { type = "string", one_of = { "any", "auto" } },
})
--- The variable that holds the key, for `beamlens clients`.
M.key_variable = "ANTHROPIC_API_KEY"

---@class providers.Anthropic
local Anthropic = { decide = exchange.decide }
local anthropic_mt = { __index = Anthropic }

local STOP_CLASS = {
  tool_use = "tool",
  end_turn = "end",
  stop_sequence = "end",
  max_tokens = "length",
  model_context_window_exceeded = "context",
  refusal = "refusal",
}

local ERROR_KIND = {
  invalid_request_error = "invalid_request",
  authentication_error = "auth",
  billing_error = "quota",
  permission_error = "permission",
  not_found_error = "not_found",
  request_too_large = "context_length",
  rate_limit_error = "rate_limit",
  timeout_error = "timeout",
  api_error = "server",
  overloaded_error = "overloaded",
}

--- Creates the provider of one client.
---@param options table Checked against `M.options`.
---@param env fun(name: string): string?
function M.new(options, env)
  local base = shared.base(options.base_url or env("ANTHROPIC_BASE_URL")
    or "https://api.anthropic.com")
  local key = shared.key(options.api_key or env("ANTHROPIC_API_KEY"))
  return setmetatable({
    options = options,
    model = options.model,
    url = base:gsub("/v1$", "") .. "/v1/messages",
    tool_choice = options.tool_choice or (shared.thinks_always(options.model) and "auto" or "any"),
    key = key,
    tool_lists = shared.tool_lists(),
    messages = anthropic_messages.new(),
    system_parts = shared.system_parts(),
    token = not key and shared.key(env("ANTHROPIC_AUTH_TOKEN")) or nil,
  }, anthropic_mt)
end

--- True when a request can be authorised.
function Anthropic:has_key()
  return (self.key or self.token) ~= nil
end

--- Texts that must be in no message.
function Anthropic:secrets()
  return { self.key or self.token }
end

local function text_block(text)
  return { type = "text", text = text }
end

-- The prefix tools, system is the same in every request of a watcher: both ends are cached.
local function tools_of(tools)
  local list = {}
  for i, tool in ipairs(tools) do
    list[i] = { name = tool.name, description = tool.description, input_schema = tool.schema }
  end
  if #list > 0 then
    list[#list].cache_control = { type = "ephemeral" }
  end
  return list
end

function Anthropic:body(request)
  local options = self.options
  local system = text_block(request.system)
  system.cache_control = { type = "ephemeral" }
  local is_forced = request.force and self.tool_choice ~= "auto"
  local choice = is_forced and { type = "tool", name = request.force }
    or { type = self.tool_choice }
  choice.disable_parallel_tool_use = true
  local body = {
    model = self.model,
    max_tokens = request.max_tokens or options.max_tokens,
    stream = options.stream,
    temperature = options.temperature,
    top_p = options.top_p,
    top_k = options.top_k,
    system = shared.system_part(self.system_parts, request.system, { system }),
    tools = shared.tool_list(self.tool_lists, request.tools, tools_of),
    tool_choice = choice,
    messages = self.messages:of(request.messages, request.cache_to),
  }
  return shared.with_extra(body, options.extra)
end

-- The same in every request.
function Anthropic:header_lines()
  if self.lines then
    return self.lines
  end
  local authorization = self.key and { "x-api-key", self.key }
    or { "authorization", "Bearer " .. self.token }
  self.lines = exchange.header_lines({
    authorization,
    { "anthropic-version", self.options.anthropic_version },
    { "content-type", "application/json" },
  }, self.options.headers)
  return self.lines
end

--- The HTTP request for a normalised one.
function Anthropic:request(request)
  local missing = shared.check_key(self.key or self.token, M.key_variable)
  if missing then
    return nil, missing
  end
  return { url = self.url, headers = self:header_lines(), body = self:body(request) }
end

local COUNTS = {
  input = "input_tokens",
  output = "output_tokens",
  cache_read = "cache_read_input_tokens",
  cache_write = "cache_creation_input_tokens",
}

local function take_usage(usage, answer)
  shared.take_counts(usage, answer.usage, COUNTS)
  -- Part of what was written; it costs more.
  local written = type(usage) == "table" and shared.table(usage.cache_creation) or {}
  local for_1h = written.ephemeral_1h_input_tokens
  if type(for_1h) == "number" and for_1h > 0 then
    answer.usage.cache_write_1h = for_1h
  end
end

local function take_stop(message, answer)
  answer.stop = text_or_nil(message.stop_reason) or answer.stop
  answer.stop_class = STOP_CLASS[answer.stop]
  local details = message.stop_details
  if type(details) == "table" then
    answer.stop_note = text_or_nil(details.explanation)
  end
end

local function take_error(err, failure)
  local code, message = text_or_nil(err.type), text_or_nil(err.message) or "unknown error"
  local kind = ERROR_KIND[code] or failure.kind
  if kind == "invalid_request" then
    local lower = message:lower()
    if lower:find("prompt is too long", 1, true) or lower:find("context window", 1, true) then
      kind = "context_length"
    elseif lower:find("credit balance", 1, true) then
      kind = "quota"
    end
  end
  local exact = failures.new(kind, message)
  failure.kind, failure.retryable, failure.provider_code = kind, exact.retryable, code
  failure.message = exact.message
end

--- Makes the failure of a status more exact by the error in its body.
function Anthropic:read_error(body, failure) -- luacheck: no unused args
  failure.request_id = failure.request_id or text_or_nil(body.request_id)
  take_error(body.error, failure)
end

-- An error inside an answer whose status was good.
local function take_failure(body, answer)
  local failure = failures.new("server", "unknown error", { usage = answer.usage })
  failure.request_id = answer.request_id or text_or_nil(body.request_id)
  take_error(body.error, failure)
  answer.failure = failure
end

-- Takes finished content blocks, in their order.
local function take_content(content, answer)
  for _, block in ipairs(content) do
    if block.type == "text" then
      answer.text = answer.text .. (text_or_nil(block.text) or "")
    elseif block.type == "tool_use" then
      answer.calls[#answer.calls + 1] = {
        id = text_or_nil(block.id),
        name = block.name,
        args = block.input,
        args_text = block.args_text,
      }
    end
  end
end

--- Reads a plain body.
function Anthropic:read(body, answer) -- luacheck: no unused args
  if body.type == "error" then
    take_failure(body, answer)
    return
  end
  answer.model = text_or_nil(body.model)
  take_usage(body.usage, answer)
  take_stop(body, answer)
  take_content(body.content, answer)
  answer.complete = body.type == "message"
end

local ON_EVENT = {}

-- A second start with the same id is a repetition; with another id the message begins anew.
function ON_EVENT.message_start(state, event, answer)
  local message = event.message
  if state.id ~= nil and message.id == state.id then
    return
  end
  state.id, state.blocks, state.order = message.id, {}, {}
  answer.model = text_or_nil(message.model)
  take_usage(message.usage, answer)
end

function ON_EVENT.content_block_start(state, event)
  local block = event.content_block
  state.blocks[event.index] = {
    type = block.type,
    id = block.id,
    name = block.name,
    input = block.input,
    pieces = { text_or_nil(block.text) },
  }
  table.insert(state.order, event.index)
end

function ON_EVENT.content_block_delta(state, event)
  local delta = event.delta
  local piece = (delta.type == "text_delta" and delta.text)
    or (delta.type == "input_json_delta" and delta.partial_json)
  if piece then
    table.insert(state.blocks[event.index].pieces, piece)
  end
end

function ON_EVENT.message_delta(_, event, answer)
  take_usage(event.usage, answer)
  take_stop(event.delta, answer)
end

function ON_EVENT.message_stop(state, _, answer)
  local content = {}
  for i, index in ipairs(state.order) do
    local block = state.blocks[index]
    local text = table.concat(block.pieces)
    if block.type == "tool_use" and text ~= "" then
      -- Without a piece the arguments stand in the start of the block.
      block.input, block.args_text = nil, text
    end
    block.text = text
    content[i] = block
  end
  take_content(content, answer)
  answer.complete = true
end

function ON_EVENT.error(_, event, answer)
  take_failure(event, answer)
end

--- Takes the events of a stream.
---@return fun(event: table)
function Anthropic:decoder(answer) -- luacheck: no unused args
  local state = { blocks = {}, order = {} }
  return function(event)
    local take = ON_EVENT[event.type]
    if take then
      take(state, event, answer)
    end
  end
end

return M
