--- Errors of chat completions: `{"error": {message, type, param, code}}` and its variants. The code
--- may be a number, the error only a text, and any of it may come inside a good answer.

local failures = require("runtime.providers.failure")
local shared = require("runtime.providers.shared")

local M = {}

-- By `code`, else by `type`.
local KINDS = {
  invalid_api_key = "auth",
  authentication_error = "auth",
  insufficient_quota = "quota",
  billing_hard_limit_reached = "quota",
  billing_not_active = "quota",
  model_not_found = "not_found",
  DeploymentNotFound = "not_found",
  context_length_exceeded = "context_length",
  exceed_context_size_error = "context_length",
  string_above_max_length = "context_length",
  content_filter = "content_filter",
  rate_limit_exceeded = "rate_limit",
  RateLimitReached = "rate_limit",
  server_is_overloaded = "overloaded",
  overloaded_error = "overloaded",
  tool_use_failed = "bad_tool_call",
}

-- Words of servers that have no code for it.
local CONTEXT_WORDS = { "maximum context length", "context window", "prompt is too long",
  "input is too long", "available context size", "context length exceeded",
  "context length of only", "maximum model length", "maximum prompt length", "max_new_tokens" }

local DEFAULT_STATUS = 500

local function kind_of(err, failure)
  local status = tonumber(err.code) or tonumber(err.status_code)
  if KINDS[err.code] or KINDS[err.type] then
    return KINDS[err.code] or KINDS[err.type]
  elseif status then
    return failures.kind_of_status(status)
  elseif not failure.http and err.type == "invalid_request_error" then
    return "invalid_request"
  end
  return failure.kind
end

local function exact_kind(kind, message)
  local lower = message:lower()
  if kind == "invalid_request" or kind == "server" then
    for _, words in ipairs(CONTEXT_WORDS) do
      if lower:find(words, 1, true) then
        return "context_length"
      end
    end
  elseif kind == "rate_limit" and lower:find("request too large", 1, true) then
    -- More tokens in one request than a minute has: no waiting helps.
    return "context_length"
  elseif kind == "bad_tool_call" and lower:find("did not call a tool", 1, true) then
    return "no_tool_call"
  end
  return kind
end

-- What a router says about the provider behind it.
local function with_origin(message, metadata)
  local name, raw = shared.text(metadata.provider_name), shared.text(metadata.raw)
  if raw and raw ~= message then
    return ("%s (%s: %s)"):format(message, name or "provider", raw)
  end
  return message
end

-- "Please try again in 1m2.5s", a duration as Go prints it, or "retry after 6 seconds", in ms.
local function hinted_ms(message)
  local seconds = tonumber(message:match("[Rr]etry after ([%d.]+) second"))
  if seconds then
    return seconds * 1000
  end
  local text = message:match("[Tt]ry again in ([%d.hmsµ]+)")
  local units, total_ms = { h = 3600000, m = 60000, s = 1000, ms = 1 }, 0
  for number, unit in (text or ""):gmatch("([%d.]+)(%a+)") do
    total_ms = total_ms + (tonumber(number) or 0) * (units[unit] or 0)
  end
  return total_ms > 0 and total_ms or nil
end

--- Makes a failure exact by the error that a body holds.
---@param body table With the field `error`.
---@param failure providers.Failure Changed.
function M.take(body, failure)
  local err = type(body.error) == "table" and body.error or { message = body.error }
  local message = shared.text(err.message) or shared.text(body.message) or failure.message
  local metadata = shared.table(err.metadata) or {}
  local kind = exact_kind(kind_of(err, failure), message)
  if kind == "permission" and shared.table(metadata.reasons) then
    kind = "content_filter"
  end
  local exact = failures.new(kind, with_origin(message, metadata))
  failure.kind, failure.retryable, failure.message = kind, exact.retryable, exact.message
  failure.provider_code = shared.text(err.code) or shared.text(err.type)
    or (type(err.code) == "number" and ("%d"):format(err.code)) or nil
  failure.param = shared.text(err.param)
  failure.text = shared.text(err.failed_generation)
  if kind == "rate_limit" then
    failure.retry_after_ms = hinted_ms(message)
  end
end

--- The failure that an answer with a good status holds.
---@param body table
---@param answer providers.Answer Its field `failure` is set.
function M.inside(body, answer)
  local failure = failures.new(failures.kind_of_status(DEFAULT_STATUS), "unknown error", {
    usage = answer.usage,
    request_id = answer.request_id,
  })
  M.take(body, failure)
  answer.failure = failure
end

return M
