--- One request to a model over HTTP: what all wire formats share.
---
--- A provider's file holds only its format, as an object with
---
---   provider.model                     the configured model
---   provider.options                   its checked options (COMMON below and its own)
---   provider:request(request)          -> { url, headers = list, body = table } | nil, failure
---   provider:decoder(answer)           -> fn(event), finish?: takes stream events, fills in the
---                                      answer; `finish` is called when the stream is over
---   provider:read(body, answer)        the same for a plain body
---   provider:read_error(body, failure) makes a status' failure more exact by the decoded body
---   provider:secrets()                 -> texts that must be in no message
---
--- and `decide = exchange.decide`. Optional: `provider.framing`, how its streams are cut into
--- events (runtime/providers/framing.lua), and `provider.dialect`, what its server does not
--- understand (runtime/providers/adapt.lua).

local failures = require("runtime.providers.failure")
local adapt = require("runtime.providers.adapt")
local answers = require("runtime.providers.answer")
local async = require("runtime.async")
local framing = require("runtime.providers.framing")
local http = require("runtime.http")
local json = require("runtime.json")
local text_tools = require("runtime.providers.text_tools")

local M = {}

local MIN_SECRET = 8
-- One request, and one more for each thing that its server may refuse.
local MAX_ASKS = 6

--- Options of every provider that speaks HTTP, with what runtime/clients/config.lua checks.
M.COMMON = {
  model = { type = "string", required = true },
  api_key = { type = "string", secret = true },
  base_url = { type = "string", pattern = "^https?://[^%s]+$", like = "https://host/path" },
  headers = { type = "headers" },
  max_tokens = { type = "number", min = 1, default = 4096 },
  temperature = { type = "number", min = 0 },
  stream = { type = "boolean", default = true },
  connect_timeout_ms = { type = "number", min = 1, default = 5000 },
  idle_timeout_ms = { type = "number", min = 1, default = 60000 },
  timeout_ms = { type = "number", min = 1 },
  context_tokens = { type = "number", min = 1 },
  ca_file = { type = "string" },
  price = { type = "price" },
  extra = { type = "table" },
}

--- The options of a provider: the common ones and its own, which win.
---@param ... table<string, table>
function M.with_common(...)
  local options = {}
  for _, own in ipairs({ M.COMMON, ... }) do
    for name, option in pairs(own) do
      options[name] = option
    end
  end
  return options
end

--- The header lines of a request: the provider's, and the user's, which win.
---@param own { [1]: string, [2]: string }[] Name and value each.
---@param user? table<string, string>
---@return string[]
function M.header_lines(own, user)
  local lines, given = {}, {}
  for name, value in pairs(user or {}) do
    given[name:lower()] = true
    lines[#lines + 1] = ("%s: %s"):format(name, value)
  end
  for _, header in ipairs(own) do
    if not given[header[1]:lower()] then
      lines[#lines + 1] = ("%s: %s"):format(header[1], header[2])
    end
  end
  table.sort(lines)
  return lines
end

---@class providers.Reader
local Reader = {}
local reader_mt = { __index = Reader }

-- Takes the answer apart as it comes. Status and type decide how, before anything is read.
local function new_reader(provider, request)
  return setmetatable({
    provider = provider,
    request = request,
    asked = provider.options.stream and (provider.framing or "sse") or nil,
    answer = answers.new(),
    pieces = {},
  }, reader_mt)
end

function Reader:on_headers(status, headers)
  self.status, self.headers = status, headers
  self.answer.request_id = headers["request-id"] or headers["x-request-id"]
end

-- The first bytes of the body.
function Reader:begin(bytes)
  self.begun = true
  local is_good = self.status >= 200 and self.status < 300
  local kind = is_good and framing.of(self.headers["content-type"], self.asked, bytes)
  if kind then
    local decode
    decode, self.finish_decoding = self.provider:decoder(self.answer)
    self.parser = framing.parser(kind, function(event)
      self:on_event(decode, event)
    end)
  end
end

-- The decoder's last word: what a stream leaves open until it is over.
function Reader:end_stream()
  local finish = self.finish_decoding
  self.finish_decoding = nil
  if finish and not self.answer.failure and not pcall(finish) then
    self.answer.failure = failures.new("parse", "the stream has an unexpected shape")
  end
end

-- Some servers keep the connection alive by data that is a comment or nothing at all.
local function is_filler(data)
  return data:find("^%s*:") or not data:find("%S")
end

function Reader:on_event(decode, event)
  local answer = self.answer
  if answer.failure or answer.complete or is_filler(event.data) then
    return
  elseif event.data:find("^%s*%[DONE%]%s*$") then
    self:end_stream()
    return
  end
  local body, err = json.decode(event.data)
  if err then
    self:misread("an event of the stream is no JSON")
    return
  end
  -- Whatever a server sends must not end a watcher: a wrong shape is a failed answer.
  if not pcall(decode, body, event.event) then
    self:misread("an event of the stream has an unexpected shape")
  end
end

-- The last event of a cut stream is mostly half an event: the cut is the reason.
function Reader:misread(message)
  if not self.ending then
    self.answer.failure = failures.new("parse", message)
  end
end

function Reader:on_data(bytes)
  if not self.begun then
    self:begin(bytes)
  end
  if not self.parser then
    self.pieces[#self.pieces + 1] = bytes
    return true
  end
  local ok, err = self.parser:feed(bytes)
  if not ok then
    self.answer.failure = failures.new("parse", err)
  end
  return not self.answer.failure and not self.answer.complete
end

function Reader:finish_stream(err, code)
  self.ending = true
  self.parser:finish()
  self:end_stream()
  local answer = self.answer
  if not answer.complete and not answer.failure and err then
    answer.failure = failures.from_transport(code, err)
    answer.failure.usage = answer.usage
  end
  return answers.judge(answer, self.request)
end

function Reader:finish_error(text, wall_ms)
  local status, headers = self.status, self.headers
  local failure = failures.new(failures.kind_of_status(status), ("HTTP %d"):format(status), {
    http = status,
    request_id = self.answer.request_id,
  })
  local body = json.decode(text)
  if type(body) == "table" then
    pcall(self.provider.read_error, self.provider, body, failure)
  end
  failure.retry_after_ms = failures.retry_after_ms(headers, wall_ms) or failure.retry_after_ms
  if headers["x-should-retry"] == "true" or headers["x-should-retry"] == "false" then
    failure.retryable = headers["x-should-retry"] == "true"
  end
  return nil, failure
end

function Reader:finish_plain(text)
  local answer = self.answer
  local body, err = json.decode(text)
  if err or type(body) ~= "table" then
    return nil, failures.new("parse", "the answer is no JSON object", {
      http = self.status,
      request_id = answer.request_id,
    })
  end
  if not pcall(self.provider.read, self.provider, body, answer) then
    return nil, failures.new("parse", "the answer has an unexpected shape", { http = self.status })
  end
  return answers.judge(answer, self.request)
end

function Reader:finish(response, err, code, wall_ms)
  if self.parser then
    return self:finish_stream(err, code)
  end
  if not response then
    return nil, failures.from_transport(code, err)
  end
  local text = table.concat(self.pieces)
  if response.status < 200 or response.status >= 300 then
    return self:finish_error(text, wall_ms)
  end
  return self:finish_plain(text)
end

-- What no message may show: the provider's keys, and the user's headers, which may hold others.
local function secrets_of(provider)
  local secrets = provider:secrets()
  for _, value in pairs(provider.options.headers or {}) do
    if #value >= MIN_SECRET then
      secrets[#secrets + 1] = value
    end
  end
  return secrets
end

local function send(provider, call, reader, timeout_ms)
  local options = provider.options
  return http.request({
    url = call.url,
    method = "POST",
    headers = call.headers,
    body = json.encode(call.body),
    connect_timeout_ms = options.connect_timeout_ms,
    idle_timeout_ms = options.idle_timeout_ms,
    timeout_ms = math.max(1, timeout_ms),
    ca_file = options.ca_file,
    on_headers = function(status, headers)
      reader:on_headers(status, headers)
    end,
    on_data = function(bytes)
      return reader:on_data(bytes)
    end,
  })
end

-- One request and its answer.
local function ask(provider, request, deadline, wall_ms)
  local call, failure = provider:request(request)
  if not call then
    return nil, failure
  end
  local reader = new_reader(provider, request)
  local response, err, code = send(provider, call, reader, deadline:left_ms())
  local result, why = reader:finish(response, err, code, wall_ms)
  if why then
    why.message = failures.clean(why.message, secrets_of(provider), provider:secrets())
    why.http = why.http or reader.status
  end
  return result, why
end

--- Asks the model once. What its server refuses to understand is left out, and asked again.
---@async
---@param provider table As above.
---@param request table The normalised request of runtime/clients.lua.
---@param timeout_ms number For the whole exchange.
---@param wall_ms number Unix time now, for dates in headers.
---@return table? result As of answer.judge(), with `requests`, how many it took.
---@return providers.Failure? failure With `requests`, too.
function M.decide(provider, request, timeout_ms, wall_ms)
  local deadline = async.deadline(math.min(timeout_ms, provider.options.timeout_ms or timeout_ms))
  local dialect, result, failure = provider.dialect, nil, nil
  for count = 1, MAX_ASKS do
    local asked = dialect and text_tools.prepare(request, dialect) or request
    result, failure = ask(provider, asked, deadline, wall_ms)
    local answer = result or failure
    answer.requests = count
    if result or deadline:left_ms() == 0 or not adapt.learn(dialect, failure) then
      break
    end
  end
  return result, failure
end

return M
