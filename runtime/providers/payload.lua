--- What a decision would send to a model, for people: nothing of it leaves.

local failures = require("runtime.providers.failure")
local json = require("runtime.json")
local text_tools = require("runtime.providers.text_tools")

local M = {}

local HIDDEN = "[hidden]"
-- All other headers may hold a key.
local SHOWN = { ["content-type"] = true, accept = true, ["anthropic-version"] = true }
local MIN_SECRET = 4

-- The clients that would be asked, in their order: those of a fallback or a round-robin, too.
local function leaves(registry, name, list, seen)
  local client = registry.clients[name]
  if client and not seen[name] then
    seen[name] = true
    if client.members then
      for _, member in ipairs(client.members) do
        leaves(registry, member, list, seen)
      end
    else
      list[#list + 1] = client
    end
  end
  return list
end

local function headers_of(lines)
  local headers = {}
  for _, line in ipairs(lines or {}) do
    local name, value = line:match("^([^:]+): (.*)$")
    headers[name] = SHOWN[name:lower()] and value or HIDDEN
  end
  return json.object(headers)
end

-- Without the client's keys, wherever they stand: an address or a field of `extra` may hold one.
local function without_keys(value, handler)
  if type(value) == "table" then
    local copy = setmetatable({}, getmetatable(value))
    for key, item in pairs(value) do
      copy[key] = without_keys(item, handler)
    end
    return copy
  elseif type(value) ~= "string" then
    return value
  end
  for _, secret in ipairs(handler:secrets()) do
    if #secret >= MIN_SECRET then
      value = value:gsub(secret:gsub("%W", "%%%0"), HIDDEN)
    end
  end
  return value
end

local function payload_of(client, request)
  local handler = client.handler
  local shown = { client = client.name, provider = client.provider, model = handler.model }
  if not handler.request then
    shown.note = "nothing leaves: this client asks no model"
    return shown
  end
  local asked = handler.dialect and text_tools.prepare(request, handler.dialect) or request
  local call, failure = handler:request(asked)
  if not call then
    shown.error = failure.message
    return shown
  end
  if handler.preview then
    call.text = json.encode(call.body)
    handler:preview(call)
  end
  shown.method, shown.headers = "POST", headers_of(call.headers)
  shown.url = without_keys(failures.plain_url(call.url), handler)
  shown.body = without_keys(call.body, handler)
  return shown
end

--- What each client that a decision may ask would be sent, keys and signatures hidden. Nobody is
--- asked for a token or for keys.
---@param registry clients.Registry
---@param name? string Default: the primary.
---@param request table As `registry:decide` takes it.
---@return table[] `{ client, provider, model, method, url, headers, body }`, or with `error` or
--- `note`.
function M.of(registry, name, request)
  local list = {}
  for i, client in ipairs(leaves(registry, name or registry.primary, {}, {})) do
    list[i] = payload_of(client, request)
  end
  return list
end

return M
