--- Makes room in a conversation before a model's context is full.
---
--- What was said between the opening message and the last call becomes a summary: the model's own,
--- or, when it fails to write one, a line for each call. Ids of snapshots that were named there are
--- listed and kept until the cycle ends, so that an alert can still refer to them.

local conversation = require("runtime.watcher.conversation")
local json = require("runtime.json")
local schema = require("runtime.schema")

local M = {}

-- JSON of figures and names has about three bytes a token.
local BYTES_PER_TOKEN = 3
-- Of what the answer leaves of the context. The rest is for the estimate's error and for the
-- request that asks for the summary.
local FULL = 0.8
local MAX_SHARE_OF_ANSWER = 0.25
-- Of that, what has to be free after a summary: a model whose context the prompt nearly fills would
-- be asked for one at each call.
local FREE = 0.1
local SUMMARY_BYTES = 2048
local LINE_BYTES = 160
-- How much shorter at least it is than what it stands for, without a model.
local RULE_SHARE = 0.5
local SUMMARIZE_MS = 60000

-- Where the client does not say: what the smallest model in use there has.
local CONTEXT_TOKENS = {
  anthropic = 200000, ["aws-bedrock"] = 128000, openai = 128000, ["azure-openai"] = 128000,
  ["google-ai"] = 200000, ["vertex-ai"] = 200000, openrouter = 128000,
  ["openai-generic"] = 32768, ollama = 16384,
}

local SUMMARIZE = {
  name = "summarize",
  description = "Write down what has to be known of this cycle so far.",
  schema = schema.object({
    { "summary", { type = "string", minLength = 1, maxLength = SUMMARY_BYTES,
      description = "What you saw, with figures, names and ids; what you suspect and did." } },
  }),
}
local ASK = "The conversation is getting too long and will be replaced by your summary of it. "
  .. "Call summarize."

--- How many tokens of input a client takes: the least of those that it may ask.
---@param registry clients.Registry
---@param name? string Default: the primary.
---@return number? tokens nil when no model is asked.
function M.limit(registry, name)
  local client = (registry.clients or {})[name or registry.primary]
  local least
  for _, member in ipairs(client and client.members or {}) do
    local tokens = M.limit(registry, member)
    least = tokens and math.min(tokens, least or tokens) or least
  end
  local options = client and client.options or {}
  local context = client and not client.members
    and (options.context_tokens or CONTEXT_TOKENS[client.provider])
  if context then
    local answer = math.min(options.max_tokens or 0, context * MAX_SHARE_OF_ANSWER)
    return (context - answer) * FULL
  end
  return least
end

--- What a request takes, roughly.
---@param system string
---@param tools table[]
---@param talk? conversation.Conversation
---@return number tokens
function M.estimate_tokens(system, tools, talk)
  return (#system + #json.encode_once(tools) + (talk and talk:bytes() or 0)) / BYTES_PER_TOKEN
end

local function estimate(request, talk)
  return M.estimate_tokens(request.system, request.tools, talk)
end

-- The ids of kept snapshots that the messages name, in their order.
local function snapshot_ids(watcher, messages)
  local ids, seen = {}, {}
  for _, message in ipairs(messages) do
    local text = (message.text or "") .. (message.call and json.encode(message.call.args) or "")
    for id in text:gmatch("%f[%x]" .. ("%x"):rep(16) .. "%f[%X]") do
      if not seen[id] and watcher.snapshots:get(id) then
        seen[id] = true
        ids[#ids + 1] = id
      end
    end
  end
  return ids
end

-- The line for a call: what was asked, and the beginning of the answer.
local function line_of(message, result)
  local line = ("%s %s -> %s"):format(message.call.name, json.encode(message.call.args),
    (result and result.text or ""):gsub("^<data>", ""):gsub("</data>$", ""))
  return conversation.cut(line, LINE_BYTES)
end

-- The lines of an earlier summary and one for each call; the last ones when they are too long for
-- `room` bytes of JSON.
local function lines_by_rule(messages, room)
  local all, lines = {}, {}
  for i, message in ipairs(messages) do
    for _, line in ipairs(message.summary and message.summary.lines or {}) do
      all[#all + 1] = conversation.cut(line, SUMMARY_BYTES / 2)
    end
    all[#all + 1] = message.call and line_of(message, messages[i + 1]) or nil
  end
  for i = #all, 1, -1 do
    room = room - #json.encode(all[i]) - 1
    if room < 0 then
      break
    end
    table.insert(lines, 1, all[i])
  end
  return lines
end

-- Asks the model for the summary. nil when none came.
---@return string?
local function summary_by_model(cycle, request)
  local watcher = cycle.watcher
  local messages = {}
  for i, message in ipairs(request.messages) do
    messages[i] = message
  end
  messages[#messages + 1] = { role = "user", text = ASK }
  local result = watcher.registry:decide(watcher.policy.client, {
    system = request.system, tools = { SUMMARIZE }, force = SUMMARIZE.name, messages = messages,
    context = request.context, meta = request.meta,
  }, { timeout_ms = SUMMARIZE_MS })
  local text = result and result.tool == SUMMARIZE.name and type(result.args) == "table"
    and result.args.summary
  if type(text) == "string" and text:find("%S") then
    return conversation.cut(watcher.hooks:redact(text), SUMMARY_BYTES)
  end
end

-- Bytes of text, and how many calls they had with those of an earlier summary.
local function bytes_and_calls(messages)
  local bytes, calls, earlier = 0, 0, 0
  for _, message in ipairs(messages) do
    bytes = bytes + #(message.text or "")
    earlier = earlier + (message.summary and message.summary.calls or 0)
    if message.call then
      bytes, calls = bytes + #json.encode(message.call.args), calls + 1
    end
  end
  return bytes, calls, earlier
end

local function replacement(count, summary, tag, ids)
  local text = ("%d calls of this cycle were taken out to make room. What is left of them: %s")
    :format(count, conversation.fence(summary, tag))
  if #ids > 0 then
    text = ("%s\nSnapshots that they named and that you may still use: %s."):format(text,
      table.concat(ids, ", "))
  end
  return text
end

-- Puts a summary in the place of what is old, unless that is no longer. Returns who wrote it.
local function summarize(cycle, request, may_ask)
  local talk, watcher = cycle.conversation, cycle.watcher
  local old = talk:old()
  local bytes, calls, earlier = bytes_and_calls(old)
  if calls == 0 then
    return "rule"
  end
  local words = may_ask and summary_by_model(cycle, request)
  local summary = { calls = calls + earlier, lines = words and { words }
    or lines_by_rule(old, math.min(SUMMARY_BYTES, bytes * RULE_SHARE)) }
  local ids = snapshot_ids(watcher, old)
  local text = replacement(summary.calls, json.encode(words or summary.lines),
    words and "note" or "data", ids)
  if #text < bytes then
    watcher.snapshots:pin(ids)
    talk:replace_old(text, summary)
  end
  return words and "model" or "rule"
end

--- Compacts a cycle's conversation.
---@async
---@param cycle cycle.Cycle
---@param request table The request that is too long.
---@param limit? number Tokens. Default: unknown; all that can go goes, and the model is not asked.
---@return boolean shorter
function M.run(cycle, request, limit)
  local talk = cycle.conversation
  local before = talk:bytes()
  local stays = estimate(request, talk) - bytes_and_calls(talk:old()) / BYTES_PER_TOKEN
  local may_ask = limit ~= nil and stays < limit * (1 - FREE)
  local by = summarize(cycle, request, may_ask)
  if not limit or estimate(request, talk) > limit then
    talk:shrink()
  end
  local after = talk:bytes()
  if after >= before then
    return false
  end
  cycle.watcher:emit("beamlens.watcher.compaction", { by = by }, { before_bytes = before,
    after_bytes = after })
  return true
end

--- Compacts when the next request would fill the model's context.
---@async
---@param cycle cycle.Cycle
---@param request table
---@return boolean compacted
function M.if_needed(cycle, request)
  local watcher = cycle.watcher
  local limit = M.limit(watcher.registry, watcher.policy.client)
  return limit ~= nil and estimate(request, cycle.conversation) > limit
    and M.run(cycle, request, limit)
end

return M
