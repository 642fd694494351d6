--- A conversation as the messages of Anthropic's Messages API.
---
--- A conversation grows by a call and its result from request to request. So a message of it that
--- will be sent again is built and encoded once.

local json = require("runtime.json")
local shared = require("runtime.providers.shared")

local M = {}

---@class anthropic_messages.Messages
local Messages = {}
local messages_mt = { __index = Messages }

--- Creates the memory of one client.
---@return anthropic_messages.Messages
function M.new()
  return setmetatable({ known = setmetatable({}, { __mode = "k" }) }, messages_mt)
end

-- The content blocks of one message of the conversation. A result that names no call belongs to
-- the one before it.
local function blocks_of(message, position, last_id)
  local blocks = {}
  if message.role == "tool" then
    blocks[1] = {
      type = "tool_result",
      tool_use_id = message.id and shared.call_id(message.id) or last_id,
      content = message.text,
      is_error = message.is_error and true or nil,
    }
    return blocks, last_id
  end
  if message.text and message.text:find("%S") then
    blocks[1] = { type = "text", text = message.text }
  end
  if message.call then
    last_id = shared.call_id(message.call.id, position)
    blocks[#blocks + 1] = {
      type = "tool_use",
      id = last_id,
      name = message.call.name,
      input = shared.object(message.call.args),
    }
  end
  return blocks, last_id
end

-- A message of the conversation as the API has it. What will be sent again is built and encoded
-- once, until its text changes.
function Messages:said(message, position, last_id, is_kept)
  local known = self.known[message]
  if known and known.text == message.text then
    return known.out, message.call and known.id or last_id
  end
  local out = { role = message.role == "assistant" and "assistant" or "user" }
  out.content, last_id = blocks_of(message, position, last_id)
  local has_own_id = message.role == "user" or message.id or message.call and message.call.id
  if is_kept and has_own_id then
    json.encode_once(out)
    self.known[message] = { out = out, text = message.text, id = last_id }
  end
  return out, last_id
end

local function joined(list, others)
  local all = {}
  for _, blocks in ipairs({ list, others }) do
    for _, block in ipairs(blocks) do
      all[#all + 1] = block
    end
  end
  return all
end

-- The same blocks; the last one is the end of what a cache is to hold.
local function cached_to_end(blocks)
  local last = { cache_control = { type = "ephemeral" } }
  for name, value in pairs(blocks[#blocks]) do
    last[name] = value
  end
  local list = joined(blocks, {})
  list[#list] = last
  return list
end

--- The messages of a conversation. Roles alternate: neighbours of the same role become one message.
---@param conversation table[]
---@param cache_to? integer What comes up to this position will be the same in the next request.
---@return table[]
function Messages:of(conversation, cache_to)
  local messages, last_id = {}, nil
  for position, message in ipairs(conversation) do
    local out
    out, last_id = self:said(message, position, last_id, #conversation > 1)
    if position == cache_to and #out.content > 0 then
      out = { role = out.role, content = cached_to_end(out.content) }
    end
    local previous = messages[#messages]
    if previous and previous.role == out.role then
      messages[#messages] = { role = out.role, content = joined(previous.content, out.content) }
    elseif #out.content > 0 then
      messages[#messages + 1] = out
    end
  end
  return messages
end

return M
