--- Models of Amazon Bedrock by its Converse API: requests and their authorisation. Answers:
--- bedrock_answer.lua.

local aws_credentials = require("runtime.providers.aws_credentials")
local aws_machine = require("runtime.providers.aws_machine")
local bedrock_answer = require("runtime.providers.bedrock_answer")
local exchange = require("runtime.providers.exchange")
local failures = require("runtime.providers.failure")
local json = require("runtime.json")
local shared = require("runtime.providers.shared")
local sigv4 = require("runtime.providers.sigv4")
local turns = require("runtime.providers.turns")

local M = {}

-- Without a switch of its own, a client has what the model's family can do.
local FORCED = { "claude", "nova", "mistral" }
-- The machine's, which are not known without asking it.
local UNKNOWN_KEYS = { access_key_id = "-", secret_access_key = "-", session_token = "-" }
local CACHED = { "claude%-%l+%-%d", "claude%-3%-7", "claude%-3%-5%-haiku", "nova" }

local function read_tool_choice(value)
  if value == "any" or value == "auto" then
    return value
  end
  return nil, 'must be "any" or "auto"'
end

--- What `options` of such a client may hold. `api_key` is a key of Bedrock itself, sent as it is.
M.options = exchange.with_common({
  region = { type = "string", pattern = "^%l%l[%l%d-]*$", like = "us-east-1" },
  access_key_id = { type = "string", secret = true },
  secret_access_key = { type = "string", secret = true },
  session_token = { type = "string", secret = true, optional = true },
  profile = { type = "string" },
  top_p = { type = "number", min = 0 },
  tool_choice = { read = read_tool_choice },
  prompt_cache = { type = "boolean" },
})
--- The variable that holds the key, for `beamlens clients`.
M.key_variable = "AWS_ACCESS_KEY_ID"

---@class providers.AwsBedrock
local AwsBedrock = {
  decide = exchange.decide,
  framing = "eventstream",
  decoder = bedrock_answer.decoder,
  read = bedrock_answer.read,
  read_error = bedrock_answer.read_error,
}
local aws_bedrock_mt = { __index = AwsBedrock }

local function is_of(model, families)
  for _, family in ipairs(families) do
    if model:find(family) then
      return true
    end
  end
  return false
end

local function either(given, default)
  if given == nil then
    return default
  end
  return given
end

local function address_of(options, env, region)
  local base = options.base_url or env("AWS_ENDPOINT_URL_BEDROCK_RUNTIME")
  if not base and region then
    base = ("https://bedrock-runtime.%s.amazonaws.com%s"):format(region,
      region:find("^cn%-") and ".cn" or "")
  end
  return base and base:gsub("/+$", "")
end

local function has_own_keys(options)
  return options.access_key_id or options.secret_access_key or options.session_token
    or options.profile
end

--- Creates the provider of one client.
---@param options table Checked against `M.options`.
---@param env fun(name: string): string?
function M.new(options, env)
  local region = options.region or env("AWS_REGION") or env("AWS_DEFAULT_REGION")
  local bearer = options.api_key
    or (not has_own_keys(options) and env("AWS_BEARER_TOKEN_BEDROCK")) or ""
  return setmetatable({
    options = options,
    env = env,
    model = options.model,
    region = region,
    base = address_of(options, env, region),
    bearer = bearer:match("^%s*(.-)%s*$"),
    machine = aws_machine.new(env),
    tool_choice = options.tool_choice or (is_of(options.model, FORCED)
      and not shared.thinks_always(options.model) and "any" or "auto"),
    tool_lists = shared.tool_lists(),
    caches = either(options.prompt_cache, is_of(options.model, CACHED)),
  }, aws_bedrock_mt)
end

--- True when a request can be authorised, as far as that is known without asking the machine.
function AwsBedrock:has_key()
  return self.bearer ~= "" or self.machine:is_container()
    or aws_credentials.find(self.options, self.env) ~= nil
end

--- Texts that must be in no message.
function AwsBedrock:secrets()
  return { self.bearer }
end

local function result_block(message, last_id)
  return {
    toolResult = {
      toolUseId = message.id and shared.call_id(message.id) or last_id,
      content = { { text = message.text } },
      status = message.is_error and "error" or nil,
    },
  }
end

-- What comes up to `cache_to` will be the same in the next request.
local function messages_of(conversation, cache_to)
  local last_id
  local list = turns.of(conversation, function(message, position)
    local cache_point = position == cache_to and { cachePoint = { type = "default" } } or nil
    if message.role == "tool" then
      return { result_block(message, last_id), cache_point }
    end
    local blocks = {}
    if message.text and message.text:find("%S") then
      blocks[1] = { text = message.text }
    end
    if message.call then
      last_id = shared.call_id(message.call.id, position)
      blocks[#blocks + 1] = {
        toolUse = {
          toolUseId = last_id,
          name = message.call.name,
          input = shared.object(message.call.args),
        },
      }
    end
    blocks[#blocks + 1] = #blocks > 0 and cache_point or nil
    return blocks
  end)
  for i, turn in ipairs(list) do
    list[i] = { role = turn.is_model and "assistant" or "user", content = turn.parts }
  end
  return list
end

local function tools_of(tools)
  local list = {}
  for i, tool in ipairs(tools) do
    list[i] = {
      toolSpec = {
        name = tool.name,
        description = tool.description,
        inputSchema = { json = tool.schema },
      },
    }
  end
  return list
end

-- Without a forced tool they are the same in every request.
function AwsBedrock:tool_config(request)
  if request.force then
    return { tools = tools_of(request.tools), toolChoice = self:choice(request) }
  end
  return shared.tool_list(self.tool_lists, request.tools, function(tools)
    return { tools = tools_of(tools), toolChoice = self:choice(request) }
  end)
end

function AwsBedrock:choice(request)
  if self.tool_choice == "auto" then
    return { auto = json.object({}) }
  elseif request.force then
    return { tool = { name = request.force } }
  end
  return { any = json.object({}) }
end

-- The prefix tools, system is the same in every request of a watcher: its end is a cache's.
function AwsBedrock:body(request)
  local system = { { text = request.system } }
  system[2] = self.caches and { cachePoint = { type = "default" } } or nil
  local body = {
    system = system,
    messages = messages_of(request.messages, self.caches and request.cache_to),
    inferenceConfig = {
      maxTokens = request.max_tokens or self.options.max_tokens,
      temperature = self.options.temperature,
      topP = self.options.top_p,
    },
    toolConfig = self:tool_config(request),
  }
  for name, value in pairs(self.options.extra or {}) do
    body[name] = value
  end
  return body
end

--- The HTTP request for a normalised one, without what authorises it.
function AwsBedrock:request(request)
  if not self.base then
    return nil, failures.new("invalid_request",
      "no region: set options.region, AWS_REGION or AWS_DEFAULT_REGION")
  elseif self.bearer:find("[%c%s]") then
    return nil, failures.new("auth", "the key holds spaces or line breaks")
  end
  local action = self.options.stream and "converse-stream" or "converse"
  local path = ("/model/%s/%s"):format(sigv4.encode(self.model), action)
  return { url = self.base .. path, body = self:body(request) }
end

local function signature_of(self, call, keys, headers, wall_ms)
  local host, path = call.url:match("^%a+://([^/]+)(/.*)$")
  return sigv4.sign({
    method = "POST",
    host = host,
    path = path,
    headers = headers,
    body = call.text,
    region = self.region or "us-east-1",
    service = "bedrock",
    wall_ms = wall_ms,
  }, keys)
end

-- What is configured, else what the machine has.
function AwsBedrock:find_keys(timeout_ms, wall_ms)
  local keys, err, code = aws_credentials.find(self.options, self.env)
  if keys or code ~= "ENONE" then
    return keys, err and failures.new("auth", err)
  end
  local failure
  keys, failure = self.machine:get(timeout_ms, wall_ms)
  if not keys then
    failure.message = failures.clean(err .. "; " .. failure.message)
    -- Where there is no such server, waiting does not help.
    if failure.kind == "connect" or failure.kind == "timeout" then
      failure.kind, failure.retryable = "auth", false
    end
  end
  return keys, failure
end

-- The headers that authorise a call: signed with these keys, else with the key of Bedrock itself.
function AwsBedrock:set_headers(call, keys, wall_ms)
  local own = {
    ["content-type"] = "application/json",
    accept = self.options.stream and "application/vnd.amazon.eventstream" or "application/json",
  }
  -- The user's values win, and what is sent is what is signed.
  for name, value in pairs(self.options.headers or {}) do
    local lower = name:lower()
    own[lower] = own[lower] and value
  end
  local headers = keys and signature_of(self, call, keys, own, wall_ms)
    or { { "authorization", "Bearer " .. self.bearer } }
  for name, value in pairs(own) do
    headers[#headers + 1] = { name, value }
  end
  call.headers = exchange.header_lines(headers, self.options.headers)
end

--- Adds the headers that authorise the call.
function AwsBedrock:authorize(call, timeout_ms, wall_ms)
  if self.bearer == "" then
    local failure
    call.keys, failure = self:find_keys(timeout_ms, wall_ms)
    if not call.keys then
      return nil, failure
    end
    call.secrets = { call.keys.secret_access_key, call.keys.access_key_id,
      call.keys.session_token }
  end
  self:set_headers(call, call.keys, wall_ms)
  return true
end

--- The headers as `authorize` adds them, for people: no machine is asked for its keys.
function AwsBedrock:preview(call)
  local keys = self.bearer == ""
    and (aws_credentials.find(self.options, self.env) or UNKNOWN_KEYS) or nil
  self:set_headers(call, keys, 0)
end

--- After a refusal, the request is worth one more attempt when the credentials have changed since.
function AwsBedrock:renew(failure, call)
  if not call.keys or (failure.http ~= 403 and failure.http ~= 401) then
    return false
  elseif self.machine:drop(call.keys) then
    return failure.kind == "auth"
  end
  local keys = aws_credentials.find(self.options, self.env)
  return keys ~= nil and (keys.access_key_id ~= call.keys.access_key_id
    or keys.secret_access_key ~= call.keys.secret_access_key
    or keys.session_token ~= call.keys.session_token)
end

return M
