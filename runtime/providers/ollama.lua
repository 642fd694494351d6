--- Ollama's own API: `/api/chat`, a stream of one JSON object a line.
---
--- It cannot be made to call a tool: a forced one is the only one that is offered, and an answer in
--- words is read for a call. `context_tokens` is sent, since a server that is not told cuts what
--- does not fit into its default, from the front and without a word.

local chat_errors = require("runtime.providers.chat_errors")
local exchange = require("runtime.providers.exchange")
local shared = require("runtime.providers.shared")

local M = {}

--- What `options` of such a client may hold.
M.options = exchange.with_common({
  tools = { type = "boolean", default = true },
  think = { type = "boolean" },
  keep_alive = { type = "string", pattern = "^%-?%d[%dhms]*$", like = "5m" },
  top_p = { type = "number", min = 0 },
})

local PORT = 11434

---@class providers.Ollama
local Ollama = { decide = exchange.decide, framing = "ndjson" }
local ollama_mt = { __index = Ollama }

local STOP_CLASS = { stop = "end", length = "length" }

-- OLLAMA_HOST as the server itself reads it: a host, with or without scheme and port. A server that
-- listens on every address is asked on this machine.
local function base_of(host)
  local scheme, rest = host:match("^(https?)://(.*)$")
  rest = (rest or host):gsub("^0%.0%.0%.0", "127.0.0.1")
  if not scheme and not rest:find(":%d+") then
    rest = ("%s:%d"):format(rest:gsub("/.*$", ""), PORT)
  end
  return shared.base(("%s://%s"):format(scheme or "http", rest))
end

--- Creates the provider of one client.
---@param options table Checked against `M.options`.
---@param env fun(name: string): string?
function M.new(options, env)
  local base = base_of(options.base_url or shared.key(env("OLLAMA_HOST")) or "127.0.0.1")
  return setmetatable({
    options = options,
    model = options.model,
    url = base:gsub("/v1$", ""):gsub("/api$", "") .. "/api/chat",
    key = shared.key(options.api_key or (base:find("^https://ollama%.com%f[/%z]") and
      env("OLLAMA_API_KEY")) or nil),
    dialect = { tools = options.tools ~= false, tool_choice = "none" },
  }, ollama_mt)
end

--- It needs none on one's own machine.
function Ollama:has_key() -- luacheck: no unused args
  return true
end

--- Texts that must be in no message.
function Ollama:secrets()
  return { self.key }
end

local function message_of(message)
  if message.role == "tool" then
    return { role = "tool", tool_name = message.name, content = message.text }
  end
  local out = { role = message.role, content = message.text or "" }
  if message.call then
    out.tool_calls = { { ["function"] = {
      name = message.call.name,
      arguments = shared.object(message.call.args),
    } } }
  end
  return out
end

local function messages_of(request)
  local messages = { { role = "system", content = request.system } }
  for _, message in ipairs(request.messages) do
    local previous = messages[#messages]
    if message.role == "user" and previous.role == "user" then
      previous.content = previous.content .. "\n\n" .. message.text
    elseif message.call or (message.text and message.text:find("%S")) then
      messages[#messages + 1] = message_of(message)
    end
  end
  return messages
end

local function tools_of(request)
  local list = {}
  for _, tool in ipairs(request.tools) do
    if not request.force or tool.name == request.force then
      list[#list + 1] = { type = "function", ["function"] = {
        name = tool.name,
        description = tool.description,
        parameters = tool.schema,
      } }
    end
  end
  return #list > 0 and list or nil
end

function Ollama:body(request)
  local options = self.options
  return shared.with_extra({
    model = self.model,
    messages = messages_of(request),
    tools = tools_of(request),
    stream = options.stream,
    think = options.think,
    keep_alive = options.keep_alive,
    -- Without tools the answer is to be one JSON object: the server then lets nothing else through.
    format = request.text_tools and "json" or nil,
    options = {
      num_ctx = options.context_tokens,
      num_predict = request.max_tokens or options.max_tokens,
      temperature = options.temperature,
      top_p = options.top_p,
    },
  }, options.extra)
end

--- The HTTP request for a normalised one.
function Ollama:request(request)
  local headers = { { "content-type", "application/json" } }
  if self.key then
    local missing = shared.check_key(self.key, "OLLAMA_API_KEY")
    if missing then
      return nil, missing
    end
    headers[2] = { "authorization", "Bearer " .. self.key }
  end
  return {
    url = self.url,
    headers = exchange.header_lines(headers, self.options.headers),
    body = self:body(request),
  }
end

--- Makes the failure of a status more exact by the error in its body.
function Ollama:read_error(body, failure) -- luacheck: no unused args
  if body.error ~= nil then
    chat_errors.take(body, failure)
  end
end

local COUNTS = { input = "prompt_eval_count", output = "eval_count" }

-- A plain body is like the last line of a stream; the lines before hold parts of the message.
local function take(body, answer)
  if shared.text(body.error) or shared.table(body.error) then
    chat_errors.inside(body, answer)
    return
  end
  answer.model = shared.text(body.model) or answer.model
  shared.take_counts(body, answer.usage, COUNTS)
  local message = shared.table(body.message) or {}
  answer.text = answer.text .. (shared.text(message.content) or "")
  for _, call in ipairs(shared.table(message.tool_calls) or {}) do
    answer.calls[#answer.calls + 1] = {
      id = shared.text(call.id),
      name = call["function"].name,
      args = shared.table(call["function"].arguments),
      args_text = shared.text(call["function"].arguments),
    }
  end
  if body.done == true then
    answer.text = shared.without_thoughts(answer.text)
    answer.stop = shared.text(body.done_reason) or "stop"
    answer.stop_class = STOP_CLASS[answer.stop]
    answer.complete = true
  end
end

--- Reads a plain body.
function Ollama:read(body, answer) -- luacheck: no unused args
  take(body, answer)
end

--- Takes the lines of a stream.
---@return fun(event: table)
function Ollama:decoder(answer) -- luacheck: no unused args
  return function(event)
    take(event, answer)
  end
end

return M
