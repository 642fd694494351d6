--- Notices a server that silently cuts its prompts.
---
--- Such a server answers as if nothing had happened, but counts no more tokens than its context
--- holds, however long the prompt is. So: of the answers of a client, at least three whose prompts
--- were half as long again as a shorter one, while the count grew by less than a ninth. Text is
--- never that much denser: the tokens of a prompt follow its bytes within a factor of about two.

local json = require("runtime.json")

local M = {}

local SAMPLES = 32
local LONGER = 1.5
local SAME = 0.9
local NEEDED = 3
-- A count with more bytes than this for a token is not that of the whole prompt: some servers
-- count only what they had not seen before.
local MAX_BYTES_PER_TOKEN = 12

---@class plateau.Plateau
local Plateau = {}
local plateau_mt = { __index = Plateau }

--- Creates the memory of one client.
---@return plateau.Plateau
function M.new()
  return setmetatable({ samples = {}, added = 0, bytes_of_tools = setmetatable({}, {
    __mode = "k" }) }, plateau_mt)
end

-- The bytes of what a request says, whatever the wire adds to them.
function Plateau:size_of(request)
  local tools = request.tools or {}
  if not self.bytes_of_tools[tools] then
    self.bytes_of_tools[tools] = #json.encode(tools)
  end
  local bytes = #(request.system or "") + self.bytes_of_tools[tools]
  for _, message in ipairs(request.messages or {}) do
    bytes = bytes + #(message.text or "")
      + (message.call and #json.encode_once(message.call.args or {}) or 0)
  end
  return bytes
end

function Plateau:is_flat()
  local most, shortest = 0, math.huge
  for _, sample in ipairs(self.samples) do
    most = math.max(most, sample.tokens)
  end
  for _, sample in ipairs(self.samples) do
    if sample.tokens >= SAME * most and sample.bytes <= MAX_BYTES_PER_TOKEN * sample.tokens then
      shortest = math.min(shortest, sample.bytes)
    end
  end
  local count = 0
  for _, sample in ipairs(self.samples) do
    if sample.tokens >= SAME * most and sample.bytes >= LONGER * shortest then
      count = count + 1
    end
  end
  return count >= NEEDED, most
end

--- Notes an answer.
---@param request table
---@param usage providers.Usage
---@return { prompt_tokens: integer, prompt_bytes: integer }? cut At the first sign that the prompt
--- was cut: the tokens that the server sees, and the length of this prompt.
function Plateau:add(request, usage)
  if self.is_known or not usage.input then
    return nil
  end
  local tokens = usage.input + (usage.cache_read or 0) + (usage.cache_write or 0)
  local bytes = self:size_of(request)
  self.samples[self.added % SAMPLES + 1] = { tokens = tokens, bytes = bytes }
  self.added = self.added + 1
  local is_flat, most = self:is_flat()
  self.is_known = is_flat
  return is_flat and { prompt_tokens = most, prompt_bytes = bytes } or nil
end

--- What to do about it.
---@param provider string
---@param context_tokens? integer As the client's options say.
---@param prompt_tokens integer What the server sees.
---@return string
function M.cure(provider, context_tokens, prompt_tokens)
  if provider == "ollama" and not context_tokens then
    return "set the client's context_tokens: it is the size of the context that the server is "
      .. "asked for; without it the server takes its own default"
  elseif context_tokens and context_tokens > prompt_tokens * LONGER then
    return ("the server has less context than the client's context_tokens of %d: give the server "
      .. "more, or set context_tokens to what it has"):format(context_tokens)
  end
  return "start the server with a larger context, and set the client's context_tokens to its size; "
    .. "for Ollama use the provider ollama, which asks for that size"
end

return M
