--- Answers and errors of Amazon Bedrock's Converse API. Requests: aws_bedrock.lua.
---
--- A stream is binary frames; an error can come as one of them after a good status. The counts of
--- tokens come last, after the stop.

local failures = require("runtime.providers.failure")

local M = {}

local STOP_CLASS = {
  tool_use = "tool",
  end_turn = "end",
  stop_sequence = "end",
  max_tokens = "length",
  model_context_window_exceeded = "context",
  guardrail_intervened = "filter",
  content_filtered = "filter",
  malformed_model_output = "bad_call",
  malformed_tool_use = "bad_call",
}

-- By the name of the exception, without "Exception" and whatever the case of its first letter.
local ERROR_KIND = {
  validation = "invalid_request",
  accessdenied = "permission",
  unrecognizedclient = "auth",
  invalidsignature = "auth",
  incompletesignature = "auth",
  missingauthenticationtoken = "auth",
  expiredtoken = "auth",
  notauthorized = "auth",
  resourcenotfound = "not_found",
  throttling = "rate_limit",
  modelnotready = "rate_limit",
  servicequotaexceeded = "quota",
  modeltimeout = "timeout",
  modelerror = "server",
  modelstreamerror = "server",
  internalserver = "server",
  internalfailure = "server",
  serviceunavailable = "overloaded",
}

-- What a validation error says when the prompt is too long.
local TOO_LONG = { "input tokens exceeded", "input is too long", "prompt is too long",
  "maximum context length", "too many input tokens" }

local function text_or_nil(value)
  return type(value) == "string" and value or nil
end

local function take_error(name, message, failure)
  local code = (name or ""):match("^[%w._]+")
  code = code and code:gsub("^.*%.", "")
  local kind = code and ERROR_KIND[code:gsub("Exception$", ""):lower()] or failure.kind
  message = text_or_nil(message) or code or failure.message
  if kind == "invalid_request" then
    local lower = message:lower()
    for _, text in ipairs(TOO_LONG) do
      kind = lower:find(text, 1, true) and "context_length" or kind
    end
  end
  local exact = failures.new(kind, message)
  failure.kind, failure.retryable, failure.message = kind, exact.retryable, exact.message
  failure.provider_code = code
end

--- Makes the failure of a status more exact by the error's name in a header or in the body.
function M:read_error(body, failure, headers) -- luacheck: no unused args
  local name = text_or_nil(headers["x-amzn-errortype"])
    or (text_or_nil(body.__type) or ""):match("[^#]+$")
  take_error(name, body.message or body.Message, failure)
end

-- Input leaves out what the cache served or took.
local function take_usage(usage, answer)
  if type(usage) ~= "table" then
    return
  end
  for name, from in pairs({
    input = "inputTokens",
    output = "outputTokens",
    cache_read = "cacheReadInputTokens",
    cache_write = "cacheWriteInputTokens",
  }) do
    if type(usage[from]) == "number" then
      answer.usage[name] = usage[from]
    end
  end
end

local function take_stop(reason, answer)
  answer.stop = text_or_nil(reason)
  answer.stop_class = answer.stop and (STOP_CLASS[answer.stop] or "fault")
  answer.stop_note = answer.stop
end

local function add_call(use, args_text, answer)
  answer.calls[#answer.calls + 1] = {
    id = text_or_nil(use.toolUseId),
    name = use.name,
    args = use.input,
    args_text = args_text,
  }
end

--- Reads a plain body.
function M:read(body, answer) -- luacheck: no unused args
  take_usage(body.usage, answer)
  take_stop(body.stopReason, answer)
  for _, block in ipairs(body.output.message.content) do
    if block.text then
      answer.text = answer.text .. block.text
    elseif block.toolUse then
      add_call(block.toolUse, nil, answer)
    end
  end
  answer.complete = answer.stop ~= nil
end

local ON_EVENT = {}

-- The block of an event; that of a text begins without an event of its own.
local function block_of(state, event)
  local index = event.contentBlockIndex
  local block = state.blocks[index]
  if not block then
    block = { pieces = {} }
    state.blocks[index] = block
    table.insert(state.order, block)
  end
  return block
end

function ON_EVENT.contentBlockStart(state, event)
  block_of(state, event).use = (event.start or {}).toolUse
end

function ON_EVENT.contentBlockDelta(state, event)
  local delta, block = event.delta, block_of(state, event)
  local piece = delta.text or (delta.toolUse and delta.toolUse.input)
  if piece then
    table.insert(block.pieces, piece)
  end
end

function ON_EVENT.messageStop(state, event, answer)
  for _, block in ipairs(state.order) do
    local text = table.concat(block.pieces)
    if block.use then
      add_call({ toolUseId = block.use.toolUseId, name = block.use.name }, text, answer)
    else
      answer.text = answer.text .. text
    end
  end
  take_stop(event.stopReason, answer)
end

function ON_EVENT.metadata(_, event, answer)
  take_usage(event.usage, answer)
  answer.complete = answer.stop ~= nil
end

local function take_failure(name, message, answer)
  local failure = failures.new("server", "unknown error", { usage = answer.usage })
  failure.request_id = answer.request_id
  take_error(name, message, failure)
  answer.failure = failure
end

--- Takes the events of a stream.
---@return fun(body: table, name: string?, headers: table?)
---@return fun() finish Without the counts, the answer is whole all the same.
function M:decoder(answer) -- luacheck: no unused args
  local state = { blocks = {}, order = {} }
  return function(body, name, headers)
    local kind = (headers or {})[":message-type"]
    if kind == "exception" or kind == "error" then
      take_failure(name, body.message or headers[":error-message"], answer)
      return
    end
    local take = ON_EVENT[name]
    if take then
      take(state, body, answer)
    end
  end, function()
    answer.complete = answer.stop ~= nil
  end
end

return M
