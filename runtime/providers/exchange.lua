--- One request to a model over HTTP: what all wire formats share.
---
--- A provider's file holds only its format, as an object with
---
---   provider.model                     the configured model
---   provider.options                   its checked options (COMMON below and its own)
---   provider:request(request)          -> { url, headers = list, body = table } | nil, failure
---   provider:decoder(answer)           -> fn(event, name, headers), finish?: takes stream events,
---                                      fills in the answer; `headers` are those of a binary frame,
---                                      `finish` is called when the stream is over
---   provider:read(body, answer)        the same for a plain body
---   provider:read_error(body, failure, headers)  makes a status' failure more exact by the
---                                      decoded body ({} when it is no JSON)
---   provider:secrets()                 -> texts that must be in no message
---
--- `decide = exchange.decide`, and where they are needed
---
---   provider.framing                   of its streams, see framing.lua; default "sse"
---   provider.dialect                   what its server does not understand, see adapt.lua
---   provider:authorize(call, timeout_ms, wall_ms)  -> true | nil, failure; may wait, and sets the
---                                      headers of `call`, whose `text` is the encoded body, and
---                                      its list `secrets`, which must be in no message either
---   provider:preview(call)             with `authorize`: sets the same headers, values apart,
---                                      without asking anybody
---   provider:renew(failure, call)      -> true when the same request is worth one more attempt at
---                                      once, with other credentials

local failures = require("runtime.providers.failure")
local adapt = require("runtime.providers.adapt")
local async = require("runtime.async")
local http = require("runtime.http")
local json = require("runtime.json")
local readers = require("runtime.providers.reader")
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
  max_tokens = { type = "whole", min = 1, default = 4096 },
  temperature = { type = "number", min = 0 },
  stream = { type = "boolean", default = true },
  connect_timeout_ms = { type = "number", min = 1, default = 5000 },
  idle_timeout_ms = { type = "number", min = 1, default = 60000 },
  timeout_ms = { type = "number", min = 1 },
  context_tokens = { type = "whole", min = 1 },
  ca_file = { type = "file" },
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

-- What no message may show: the provider's keys, and the user's headers, which may hold others.
local function secrets_of(provider, call)
  local secrets = provider:secrets()
  for _, secret in ipairs(call and call.secrets or {}) do
    secrets[#secrets + 1] = secret
  end
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
    body = call.text or json.pieces(call.body),
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

local function clean(failure, provider, call)
  failure.message = failures.clean(failure.message, secrets_of(provider, call), provider:secrets())
  return nil, failure, call
end

-- One exchange: authorised, sent, read.
local function ask(provider, request, deadline, wall_ms)
  local call, failure = provider:request(request)
  if not call then
    return clean(failure, provider)
  end
  if provider.authorize then
    call.text = table.concat(json.pieces(call.body))
    local ok, why = provider:authorize(call, deadline:left_ms(), wall_ms)
    if not ok then
      return clean(why, provider, call)
    end
  end
  local reader = readers.new(provider, request, call.url)
  local response, err, code = send(provider, call, reader, deadline:left_ms())
  local result, why = reader:finish(response, err, code, wall_ms)
  if why then
    why.http = why.http or reader.status
    return clean(why, provider, call)
  end
  return result
end

--- Asks the model once. What its server refuses to understand is left out, and asked again; so is
--- what it refuses for credentials that have been renewed.
---@async
---@param provider table As above.
---@param request table The normalised request of runtime/clients.lua.
---@param timeout_ms number For the whole exchange.
---@param wall_ms number Unix time now, for dates in headers.
---@return table? result As of answer.judge(), with `requests`, how many it took.
---@return providers.Failure? failure With `requests`, too.
function M.decide(provider, request, timeout_ms, wall_ms)
  local deadline = async.deadline(math.min(timeout_ms, provider.options.timeout_ms or timeout_ms))
  local dialect, renewed = provider.dialect, false
  local result, failure, call
  for count = 1, MAX_ASKS do
    local asked = dialect and text_tools.prepare(request, dialect) or request
    result, failure, call = ask(provider, asked, deadline, wall_ms)
    local answer = result or failure
    answer.requests = count
    if result or deadline:left_ms() == 0 then
      break
    end
    local renews = not renewed and call and provider.renew and provider:renew(failure, call)
    renewed = renewed or renews
    if not renews and not adapt.learn(dialect, failure) then
      break
    end
  end
  return result, failure
end

return M
