--- A model's answer while it is read, and the judgement whether it is one tool call that may run.
---
--- That a tool was selected is decided by the call itself, whether it may run by the stop reason:
--- an answer that was cut, filtered or refused is never acted upon, however whole its call looks.

local failures = require("runtime.providers.failure")
local json = require("runtime.json")
local text_tools = require("runtime.providers.text_tools")

local M = {}

---@class providers.Usage
---@field input? integer Tokens that no cache served and that were not written to one.
---@field output? integer
---@field cache_read? integer
---@field cache_write? integer
---@field cache_write_1h? integer Those of `cache_write` that are kept for an hour.
---@field cost_usd? number Where the provider reports it.
---@field reasoning? integer Those of the output that no one sees.

---@class providers.Call
---@field id? string
---@field name string
---@field args? table Arguments that came decoded.
---@field args_text? string Arguments as JSON text; "" is `{}`.
---@field origin? table What the same provider wants back with the call in the conversation.

---@class providers.Answer
---@field calls providers.Call[]
---@field text string What the model wrote beside calls, without its reasoning.
---@field stop? string The provider's own word.
---@field stop_class? "tool"|"end"|"length"|"context"|"filter"|"refusal"|"bad_call"|"fault"
--- nil: unknown.
---@field stop_note? string Why, in the provider's words.
---@field usage providers.Usage
---@field model? string
---@field request_id? string
---@field complete boolean The provider has said that this is all.
---@field failure? providers.Failure That the provider reported inside its answer.

--- An answer of which nothing is known yet.
---@return providers.Answer
function M.new()
  return { calls = {}, text = "", usage = {}, complete = false }
end

-- The kinds of failure, and what they mean, by the class of the stop reason.
local STOP_FAILURES = {
  length = { "truncated", "the answer was cut at max_tokens" },
  context = { "context_length", "the conversation does not fit into the model's context" },
  filter = { "content_filter", "the answer was filtered" },
  refusal = { "refusal", "the model refused" },
  bad_call = { "bad_tool_call", "the model's call is none that it may make" },
  fault = { "server", "the provider stopped the model" },
}

local function fail(answer, kind, message)
  return failures.new(kind, message, {
    text = answer.text ~= "" and answer.text or nil,
    usage = answer.usage,
    request_id = answer.request_id,
    provider_code = answer.stop,
  })
end

local function call_names(calls)
  local names = {}
  for i, call in ipairs(calls) do
    names[i] = tostring(call.name)
  end
  return table.concat(names, ", ")
end

-- The arguments of a call as a table, or nil and what is wrong.
local function read_args(call)
  local args = call.args
  if call.args_text and call.args_text:find("%S") then
    local err
    args, err = json.decode(call.args_text)
    if err then
      return nil, "its arguments are no JSON"
    end
    if not call.args_text:find("^%s*{") and args ~= json.null then
      return nil, "its arguments are no object"
    end
  end
  -- Some servers write null for none.
  if args == nil or args == json.null then
    args = {}
  end
  if type(args) ~= "table" or #args > 0 then
    return nil, "its arguments are no object"
  end
  return next(args) == nil and json.object({}) or args
end

-- The only call of an answer, which may be in its text where none can be forced.
local function call_of(answer, request)
  local calls = answer.calls
  if #calls == 0 and request.reads_text then
    return text_tools.call_of(answer.text, request.text_tools or request.tools)
  elseif #calls == 0 then
    return nil, "no_tool_call", "the model called no tool"
  elseif #calls > 1 then
    return nil, "bad_tool_call", ("the model called %d tools at once (%s); one is allowed")
      :format(#calls, call_names(calls))
  elseif type(calls[1].name) ~= "string" or calls[1].name == "" then
    return nil, "bad_tool_call", "the model called a tool without a name"
  end
  return calls[1]
end

-- The same, checked against what was forced.
local function wanted_call(answer, request)
  local call, kind, message = call_of(answer, request)
  if call and request.force and call.name ~= request.force then
    return nil, "bad_tool_call", ("the model called %s where %s was forced"):format(call.name,
      request.force)
  end
  return call, kind, message
end

-- Why the answer may not be acted upon, whatever it holds.
local function refusal_of(answer)
  if answer.failure then
    return answer.failure
  end
  if not answer.complete or not answer.stop_class then
    return fail(answer, "stream_cut", "the answer ended before the model was done")
  end
  local stopped = STOP_FAILURES[answer.stop_class]
  if stopped then
    local note = answer.stop_note and ": " .. answer.stop_note or ""
    return fail(answer, stopped[1], stopped[2] .. note)
  end
end

--- Judges a complete answer.
---@param answer providers.Answer
---@param request? table What was asked: `force`, and `reads_text` with `tools` or `text_tools`.
---@return { tool: string, args: table, id: string?, text: string, stop: string, usage: table }?
---@return providers.Failure?
function M.judge(answer, request)
  local refusal = refusal_of(answer)
  if refusal then
    return nil, refusal
  end
  local call, kind, message = wanted_call(answer, request or {})
  if not call then
    return nil, fail(answer, kind, message)
  end
  local args, problem = read_args(call)
  if not args then
    return nil, fail(answer, "bad_tool_call", ("the call of %s: %s"):format(call.name, problem))
  end
  return {
    tool = call.name,
    args = args,
    id = call.id,
    origin = call.origin,
    text = answer.text,
    stop = answer.stop,
    usage = answer.usage,
    model = answer.model,
    request_id = answer.request_id,
  }
end

return M
