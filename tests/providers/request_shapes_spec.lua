-- Every recorded request (see BEAMLENS_CASES), asked anew by us: address, messages, tools and the
-- form of the choice are the same as those that the provider took.

local cassettes = require("support.cassettes")
local client_config = require("runtime.clients.config")
local json = require("runtime.json")

local FOLDER = (os.getenv("BEAMLENS_CASES") or "../shared/cases") .. "/cassettes"

-- Addresses of the real hosts: what is known of them is part of the request.
local BASES = {
  groq = "https://api.groq.com/openai/v1",
  mistral = "https://api.mistral.ai/v1",
  deepseek = "https://api.deepseek.com",
  together = "https://api.together.xyz/v1",
  openai = "https://api.openai.com/v1",
  openrouter = "https://openrouter.ai/api/v1",
}

local function value(v)
  return v ~= json.null and v or nil
end

-- The recorded message in our form; nil where one says more than ours can.
local function message_of(recorded, names)
  local calls = value(recorded.tool_calls)
  if calls and #calls > 1 then
    return nil
  elseif recorded.role == "tool" then
    return { role = "tool", id = recorded.tool_call_id, text = recorded.content,
      name = recorded.tool_name or names[recorded.tool_call_id] }
  end
  local out = { role = recorded.role, text = value(recorded.content) or "" }
  if calls then
    local fn = calls[1]["function"]
    local args = fn.arguments
    out.call = { id = calls[1].id, name = fn.name,
      args = type(args) == "string" and json.decode(args) or args }
    names[calls[1].id or ""] = fn.name
  end
  return out
end

-- The recorded request in our form; nil where it is none that we could make.
local function request_of(body)
  if not body.messages then
    return nil
  end
  local request = { system = "s", messages = {}, tools = {} }
  local names = {}
  for i, recorded in ipairs(body.messages) do
    local message = type(recorded.content) ~= "table" and message_of(recorded, names)
    if not message then
      return nil
    elseif recorded.role == "system" and i == 1 then
      request.system = recorded.content
    else
      table.insert(request.messages, message)
    end
  end
  for i, tool in ipairs(value(body.tools) or {}) do
    local fn = tool["function"]
    request.tools[i] = { name = fn.name, description = value(fn.description),
      schema = fn.parameters }
  end
  local choice = value(body.tool_choice)
  request.force = type(choice) == "table" and choice["function"].name or nil
  return request
end

local function provider_of(row)
  local config = cassettes.config(row, "http://127.0.0.1:1").clients[1]
  config.options.base_url = BASES[row.provider] or config.options.base_url
  config.options.model = row.request_body.model
  local checked = assert(client_config.check({ clients = { config } }, cassettes.env))
  local module = require(client_config.PROVIDERS[config.provider])
  return module.new(checked.clients.C.options, cassettes.env), config.provider
end

-- What the recorded client left out of a message, or we do: null, and fields of its own.
local function comparable(messages)
  local list = {}
  for i, message in ipairs(messages) do
    local calls = value(message.tool_calls)
    local call = calls and calls[1]
    local args = call and call["function"].arguments
    list[i] = {
      role = message.role,
      content = value(message.content) ~= "" and value(message.content) or nil,
      tool_call_id = message.tool_call_id,
      call = call and { call.id, call["function"].name,
        type(args) == "string" and json.decode(args) or args, type(args) },
    }
  end
  return list
end

local function without_own(tools)
  local list = {}
  for i, tool in ipairs(tools or {}) do
    local fn = tool["function"]
    list[i] = { type = tool.type, name = fn.name, description = value(fn.description),
      parameters = fn.parameters }
  end
  return list
end

local function check(row, request)
  local provider = provider_of(row)
  local call = assert(provider:request(request))
  local sent, recorded = assert(json.decode(json.encode(call.body))), row.request_body
  assert.are.equal(recorded.model, sent.model)
  if recorded.messages[1].role ~= "system" then
    table.remove(sent.messages, 1)
  end
  assert.are.same(comparable(recorded.messages), comparable(sent.messages))
  assert.are.same(without_own(value(recorded.tools)), without_own(sent.tools))
  local choice = value(recorded.tool_choice)
  if choice and choice ~= "auto" then
    assert.are.same(choice, sent.tool_choice)
  end
  if recorded.parallel_tool_calls ~= nil then
    assert.are.equal(recorded.parallel_tool_calls, sent.parallel_tool_calls)
  end
  if recorded.stream ~= nil then
    assert.are.equal(recorded.stream, row.file:find("%.json$") and recorded.stream or sent.stream)
  end
  if sent.stream_options then
    assert.are.same({ include_usage = true }, sent.stream_options)
  end
  local path = call.url:match("^https?://[^/]+(/[^?]*)")
  if row.request.path:sub(1, 1) == "/" and BASES[row.provider] then
    assert.are.equal(row.request.path, path)
  else
    assert.is_truthy(path:find("/chat/completions$") or path == "/api/chat")
  end
end

describe("every recorded request", function()
  local rows = cassettes.rows(FOLDER)
  if not rows then
    pending("is like ours", "no cassettes in " .. FOLDER)
    return
  end
  for _, row in ipairs(rows) do
    local request = row.provider ~= "anthropic" and row.request_body
      and request_of(row.request_body)
    if request then
      it(("is like ours: %s"):format(row.file), function()
        check(row, request)
      end)
    end
  end
end)
