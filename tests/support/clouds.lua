-- What the specs of providers share: a client against a server on loopback.

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local clients = require("runtime.clients")
local json = require("runtime.json")
local support = require("support")

local M = {}

M.TOOLS = {
  { name = "wait", description = "Waits.", schema = { type = "object",
    properties = { ms = { type = "integer" } }, required = { "ms" } } },
  { name = "take_snapshot", description = "Takes one.", schema = { type = "object",
    properties = json.object({}) } },
}

--- A conversation with two calls and their results.
M.CONVERSATION = {
  { role = "user", text = "One." },
  { role = "user", text = "Two." },
  { role = "assistant", text = "Looking.",
    call = { id = "t:1", name = "take_snapshot", args = {} } },
  { role = "tool", id = "t:1", name = "take_snapshot", text = "{}" },
  { role = "user", text = "Budget left: 3." },
  { role = "assistant", text = "", call = { name = "wait", args = { ms = 5 } } },
  { role = "tool", name = "wait", text = "too short", is_error = true },
}

--- A request, with other fields on top.
function M.request(more)
  local request = { system = "You watch a node.", tools = M.TOOLS,
    messages = { { role = "user", text = "Now." } } }
  for name, value in pairs(more or {}) do
    request[name] = value
  end
  return request
end

--- A registry with one client, without retries.
function M.registry(provider, options, env, more)
  local opts = {
    config = { primary = "C",
      clients = { { name = "C", provider = provider, options = options } } },
    env = function(name)
      return (env or {})[name]
    end,
  }
  for name, value in pairs(more or {}) do
    opts[name] = value
  end
  return assert(clients.new(opts))
end

--- The body of an `it` with a server.
function M.with_server(opts, body)
  return support.async(function()
    local server = anthropic_server.start(opts)
    local ok, err = async.pcall(body, server)
    server:stop()
    if not ok then
      error(err, 0)
    end
  end)
end

--- A plain answer of Gemini with one call.
function M.gemini_reply(name, args, part)
  part = part or {}
  part.functionCall = part.functionCall or { name = name, args = json.object(args or {}) }
  return { body = json.encode({
    candidates = { { content = { role = "model", parts = { part } }, finishReason = "STOP" } },
    usageMetadata = { promptTokenCount = 1000, candidatesTokenCount = 10 },
    modelVersion = "gemini-2.5-flash",
  }) }
end

--- A plain answer of Bedrock with one call.
function M.bedrock_reply(name, args)
  return { body = json.encode({
    output = { message = { role = "assistant", content = {
      { toolUse = { toolUseId = "t1", name = name, input = json.object(args or {}) } } } } },
    stopReason = "tool_use",
    usage = { inputTokens = 1000, outputTokens = 10 },
  }) }
end

return M
