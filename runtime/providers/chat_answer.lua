--- Reading chat completions: plain bodies and streams.

local chat_errors = require("runtime.providers.chat_errors")
local shared = require("runtime.providers.shared")
local tool_calls = require("runtime.providers.tool_calls")

local M = {}

-- Reasons that forbid to act. Servers have many words for a good end; a call must be whole JSON
-- besides.
local STOP_CLASS = {
  tool_calls = "tool",
  function_call = "tool",
  length = "length",
  max_tokens = "length",
  model_length = "length",
  content_filter = "filter",
  error = "error",
  abort = "error",
  insufficient_system_resource = "error",
}

-- What a broker charged, and, where the user's own key was used, what that key's provider charges.
local function take_cost(reported, usage)
  local details = shared.table(reported.cost_details) or {}
  local upstream = reported.is_byok == true and tonumber(details.upstream_inference_cost) or 0
  if type(reported.cost) == "number" and reported.cost >= 0 then
    usage.cost_usd = reported.cost + math.max(0, upstream)
  end
end

--- Copies the counts of `usage`. Cached tokens are part of the prompt's here; reasoning is part of
--- the completion's, except where the total says otherwise.
---@param reported any
---@param usage providers.Usage
---@param has_cost? boolean The server reports the cost in USD, too.
function M.take_usage(reported, usage, has_cost)
  if type(reported) ~= "table" then
    return
  end
  if has_cost then
    take_cost(reported, usage)
  end
  local prompt, completion = reported.prompt_tokens, reported.completion_tokens
  local details = shared.table(reported.prompt_tokens_details) or {}
  local extra = shared.table(reported.completion_tokens_details) or {}
  shared.take_counts(reported, usage, { cache_read = "cached_tokens" })
  shared.take_counts(reported, usage, { cache_read = "prompt_cache_hit_tokens" })
  shared.take_counts(details, usage, { cache_read = "cached_tokens",
    cache_write = "cache_write_tokens" })
  shared.take_counts(extra, usage, { reasoning = "reasoning_tokens" })
  if type(prompt) == "number" then
    usage.input = math.max(0, prompt - (usage.cache_read or 0) - (usage.cache_write or 0))
  end
  if type(completion) == "number" then
    usage.output = completion
    if type(prompt) == "number" and usage.reasoning
        and reported.total_tokens == prompt + completion + usage.reasoning then
      usage.output = completion + usage.reasoning
    end
  end
end

-- The text of a message, which may be a list of parts; thoughts are not part of it.
local function text_of(content)
  if type(content) == "string" then
    return content
  end
  local pieces = {}
  for _, part in ipairs(shared.table(content) or {}) do
    if part.type == "text" then
      pieces[#pieces + 1] = shared.text(part.text)
    end
  end
  return table.concat(pieces)
end

local function take_model(body, answer)
  if body.model ~= "" then
    answer.model = shared.text(body.model) or answer.model
  end
end

local function take_stop(choice, answer)
  local reason = shared.text(choice.finish_reason)
  if not reason then
    return
  end
  answer.stop = reason
  answer.stop_class = STOP_CLASS[reason:lower()] or "end"
  if answer.stop_class == "error" then
    chat_errors.inside({ error = shared.table(choice.error) or { message = "the answer ended with "
      .. reason } }, answer)
  end
end

-- A refusal in words counts as one whatever the reason says.
local function take_refusal(text, answer)
  if shared.text(text) and text ~= "" then
    answer.stop_note = (answer.stop_note or "") .. text
  end
end

local function settle(calls, answer)
  answer.text = shared.without_thoughts(answer.text)
  answer.calls = calls:finish()
  answer.complete = answer.stop ~= nil
  if answer.stop_note and #answer.calls == 0 and answer.stop_class == "end" then
    answer.stop_class = "refusal"
  end
end

--- Reads a plain body.
---@param body table
---@param answer providers.Answer
---@param has_cost? boolean
function M.read(body, answer, has_cost)
  take_model(body, answer)
  M.take_usage(body.usage, answer.usage, has_cost)
  if shared.table(body.error) or shared.text(body.error) then
    chat_errors.inside(body, answer)
    return
  end
  local choice = body.choices[1]
  -- A filtered answer may have none.
  local message = shared.table(choice.message)
    or (shared.text(choice.finish_reason) and {} or error("no message"))
  answer.text = text_of(message.content)
  local calls = tool_calls.new()
  for i, call in ipairs(shared.table(message.tool_calls) or {}) do
    calls:add({ index = i, id = call.id, ["function"] = call["function"] })
  end
  take_refusal(message.refusal, answer)
  take_stop(choice, answer)
  -- The body is whole JSON: a server that gives no reason has said all the same that it is done.
  if not answer.stop then
    answer.stop, answer.stop_class = "none", "end"
  end
  settle(calls, answer)
end

local function take_delta(delta, calls, answer)
  answer.text = answer.text .. text_of(delta.content)
  take_refusal(delta.refusal, answer)
  for _, fragment in ipairs(shared.table(delta.tool_calls) or {}) do
    calls:add(fragment)
  end
end

--- Takes the events of a stream.
---@param answer providers.Answer
---@param has_cost? boolean
---@return fun(event: table)
---@return fun() finish At the end of the stream, or at its closing word.
function M.decoder(answer, has_cost)
  local calls = tool_calls.new()
  local function take(event)
    take_model(event, answer)
    M.take_usage((shared.table(event.x_groq) or {}).usage, answer.usage)
    M.take_usage(event.usage, answer.usage, has_cost)
    if shared.table(event.error) or shared.text(event.error) then
      chat_errors.inside(event, answer)
      return
    end
    -- There may be none: the first event of one server, the last of another.
    local choice = (shared.table(event.choices) or {})[1]
    if choice then
      take_delta(shared.table(choice.delta) or {}, calls, answer)
      take_stop(choice, answer)
    end
  end
  return take, function()
    settle(calls, answer)
  end
end

return M
