--- The wire format of Gemini models: answers and errors. Requests: gemini.lua.
---
--- Each chunk of a stream has the shape of a whole answer; the last has the reason why the model
--- stopped and the final counts of tokens. A call comes whole in one chunk, unless pieces were
--- asked for (`streamFunctionCallArguments`): those are put together where they are plain members
--- of the arguments.

local failures = require("runtime.providers.failure")

local M = {}

local STOP_CLASS = {
  STOP = "end",
  MAX_TOKENS = "length",
  SAFETY = "filter",
  RECITATION = "filter",
  LANGUAGE = "filter",
  BLOCKLIST = "filter",
  PROHIBITED_CONTENT = "filter",
  SPII = "filter",
  MALFORMED_FUNCTION_CALL = "bad_call",
  UNEXPECTED_TOOL_CALL = "bad_call",
  TOO_MANY_TOOL_CALLS = "bad_call",
}

-- Reasons as numbers, which a server sends when it is asked to.
local STOP_NAMES = { "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "BLOCKLIST",
  "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL" }

local ERROR_KIND = {
  INVALID_ARGUMENT = "invalid_request",
  FAILED_PRECONDITION = "invalid_request",
  OUT_OF_RANGE = "invalid_request",
  UNAUTHENTICATED = "auth",
  PERMISSION_DENIED = "permission",
  NOT_FOUND = "not_found",
  RESOURCE_EXHAUSTED = "rate_limit",
  INTERNAL = "server",
  UNKNOWN = "server",
  UNAVAILABLE = "overloaded",
  DEADLINE_EXCEEDED = "timeout",
}

local function text_or_nil(value)
  return type(value) == "string" and value or nil
end

local function number_or_zero(value)
  return type(value) == "number" and value or 0
end

-- Counts are cumulative. Those of the prompt include what a cache served; those of candidates leave
-- the reasoning out.
local function take_usage(usage, answer)
  if type(usage) ~= "table" or type(usage.promptTokenCount) ~= "number" then
    return
  end
  local cached = number_or_zero(usage.cachedContentTokenCount)
  local thoughts = number_or_zero(usage.thoughtsTokenCount)
  answer.usage = {
    input = usage.promptTokenCount + number_or_zero(usage.toolUsePromptTokenCount) - cached,
    output = number_or_zero(usage.candidatesTokenCount) + thoughts,
    cache_read = cached > 0 and cached or nil,
    reasoning = thoughts > 0 and thoughts or nil,
  }
end

local VALUES = { "stringValue", "numberValue", "boolValue" }

-- Adds a piece of the arguments. What is no plain member makes the call one that cannot be read.
local function take_piece(call, piece)
  local name = text_or_nil(piece.jsonPath) and piece.jsonPath:match("^%$%.([%w_-]+)$")
  if not name then
    call.args_text = "?"
    return
  end
  for _, kind in ipairs(VALUES) do
    local value = piece[kind]
    if type(value) == "string" then
      call.args[name] = (call.args[name] or "") .. value
    elseif value ~= nil then
      call.args[name] = value
    end
  end
end

-- A call begins with its name; while it goes on, further parts without one belong to it.
local function take_call(state, part, answer)
  local given = part.functionCall
  local call = state.open
  if given.name or not call then
    local signature = text_or_nil(part.thoughtSignature)
    local id = text_or_nil(given.id)
    call = {
      id = id,
      name = given.name,
      args = type(given.args) == "table" and given.args or {},
      origin = (id or signature) and { model = state.model, id = id, signature = signature } or nil,
    }
    table.insert(answer.calls, call)
  end
  for _, piece in ipairs(given.partialArgs or {}) do
    take_piece(call, piece)
  end
  state.open = given.willContinue and call or nil
end

local function take_parts(state, parts, answer)
  for _, part in ipairs(parts or {}) do
    if part.functionCall then
      take_call(state, part, answer)
    elseif type(part.text) == "string" and not part.thought then
      answer.text = answer.text .. part.text
    end
  end
end

local function take_stop(state, candidate, answer)
  local reason = candidate.finishReason
  reason = type(reason) == "number" and (STOP_NAMES[reason] or tostring(reason)) or reason
  if text_or_nil(reason) and reason ~= "FINISH_REASON_UNSPECIFIED" then
    answer.stop, state.ended = reason, true
    answer.stop_class = STOP_CLASS[reason] or (reason:find("^IMAGE_") and "filter") or "fault"
    answer.stop_note = text_or_nil(candidate.finishMessage) or reason
  end
end

-- A call of which the last piece never came must not run.
local function check_open(state)
  if state.ended and state.open then
    state.open.args_text = "?"
  end
end

local function has_reason(err, wanted)
  for _, detail in ipairs(type(err.details) == "table" and err.details or {}) do
    if detail.reason == wanted then
      return true
    end
  end
  return false
end

-- What a quota's details say: how long to wait, and whether a whole day's is spent.
local function read_quota(err)
  local wait_ms, is_daily = nil, false
  for _, detail in ipairs(type(err.details) == "table" and err.details or {}) do
    local seconds = text_or_nil(detail.retryDelay) and detail.retryDelay:match("^([%d.]+)s$")
    wait_ms = tonumber(seconds) and math.floor(tonumber(seconds) * 1000 + 0.5) or wait_ms
    for _, violation in ipairs(type(detail.violations) == "table" and detail.violations or {}) do
      is_daily = is_daily or tostring(violation.quotaId):find("PerDay", 1, true) ~= nil
    end
  end
  return wait_ms, is_daily
end

local function take_error(err, failure)
  local message = text_or_nil(err.message) or "unknown error"
  local status = text_or_nil(err.status)
  local kind = ERROR_KIND[status] or failure.kind
  local wait_ms, is_daily = read_quota(err)
  local lower = message:lower()
  if has_reason(err, "API_KEY_INVALID") then
    kind = "auth"
  elseif kind == "rate_limit" and is_daily then
    kind = "quota"
  elseif kind == "invalid_request" and lower:find("token", 1, true)
    and lower:find("exceeds the maximum", 1, true) then
    kind = "context_length"
  end
  local exact = failures.new(kind, message)
  failure.kind, failure.retryable, failure.message = kind, exact.retryable, exact.message
  failure.provider_code = status
  failure.retry_after_ms = wait_ms and wait_ms > 0 and wait_ms or nil
end

local function take_failure(err, answer)
  local failure = failures.new("server", "unknown error", { usage = answer.usage })
  failure.request_id = answer.request_id
  take_error(err, failure)
  answer.failure = failure
end

-- A prompt that is blocked has no candidates.
local function take_feedback(state, feedback, answer)
  if type(feedback) == "table" and text_or_nil(feedback.blockReason) then
    answer.stop, answer.stop_class, state.ended = feedback.blockReason, "filter", true
    answer.stop_note = text_or_nil(feedback.blockReasonMessage) or feedback.blockReason
  end
end

local function take(state, body, answer)
  if type(body.error) == "table" then
    take_failure(body.error, answer)
    return
  end
  answer.model = text_or_nil(body.modelVersion) or answer.model
  answer.request_id = answer.request_id or text_or_nil(body.responseId)
  take_usage(body.usageMetadata, answer)
  take_feedback(state, body.promptFeedback, answer)
  local candidate = type(body.candidates) == "table" and body.candidates[1]
  if candidate then
    take_parts(state, (candidate.content or {}).parts, answer)
    take_stop(state, candidate, answer)
  end
  check_open(state)
  answer.complete = state.ended == true and type(body.usageMetadata) == "table"
end

--- The methods of a provider that read this format.
M.METHODS = {}

--- Takes the events of a stream.
---@return fun(body: table)
---@return fun() finish
function M.METHODS:decoder(answer)
  local state = { model = self.model }
  return function(body)
    take(state, body, answer)
  end, function()
    answer.complete = state.ended == true
  end
end

--- Reads a plain body: one answer, or the list of a stream's chunks.
function M.METHODS:read(body, answer)
  local state = { model = self.model }
  for _, chunk in ipairs(body[1] and body or { body }) do
    take(state, chunk, answer)
  end
  answer.complete = state.ended == true
end

--- Makes the failure of a status more exact by the error in its body.
function M.METHODS:read_error(body, failure) -- luacheck: no unused args
  body = body[1] or body
  if type(body.error) == "table" then
    take_error(body.error, failure)
  end
end

return M
