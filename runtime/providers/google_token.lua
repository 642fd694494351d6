--- Access tokens for Google's cloud.
---
--- They are got by a service account's signature, a user's refresh token or the metadata server,
--- kept until shortly before they expire, and fetched once for all who wait for one.

local async = require("runtime.async")
local crypto = require("host.crypto")
local failures = require("runtime.providers.failure")
local google_credentials = require("runtime.providers.google_credentials")
local http = require("runtime.http")
local json = require("runtime.json")
local single_flight = require("runtime.single_flight")

local M = {}

local SCOPE = "https://www.googleapis.com/auth/cloud-platform"
local TOKEN_URI = "https://oauth2.googleapis.com/token"
local METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"

local LIFETIME_S = 3600
-- A token is not used in the last part of its life: a request may take a while.
local SPARE_MS = 240000
local FETCH_MS = 10000
-- The metadata server is near or absent.
local METADATA_MS = 3000
local METADATA_TRIES = 3
local MAX_BODY = 64 * 1024

---@class google_token.Source
local Source = {}
local source_mt = { __index = Source }

--- Creates a source of tokens. Nothing is read before the first is wanted.
---@param opts { credentials?: string|table, env: fun(name: string): string?, ca_file?: string,
--- now_ms?: fun(): number }
---@return google_token.Source
function M.new(opts)
  local self = setmetatable({
    given = opts.credentials,
    env = opts.env,
    ca_file = opts.ca_file,
    now_ms = opts.now_ms or async.now_ms,
  }, source_mt)
  self.flight = single_flight.new(function(wall_ms)
    return self:fetch(wall_ms)
  end)
  return self
end

--- Texts that must be in no message.
function Source:secrets()
  local secrets = { self.token }
  for _, name in ipairs({ "refresh_token", "client_secret" }) do
    secrets[#secrets + 1] = (self.used or {})[name]
  end
  return secrets
end

local function escape(text)
  return (text:gsub("[^%w._~-]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

local function form(fields)
  local list = {}
  for i, field in ipairs(fields) do
    list[i] = field[1] .. "=" .. escape(field[2])
  end
  return table.concat(list, "&")
end

-- A JWT by which a service account asks for a token.
local function assertion(credentials, wall_ms)
  local now_s = math.floor(wall_ms / 1000)
  local head = { alg = "RS256", typ = "JWT", kid = credentials.private_key_id }
  local claims = {
    iss = credentials.client_email,
    scope = SCOPE,
    aud = TOKEN_URI,
    iat = now_s,
    exp = now_s + LIFETIME_S,
  }
  local text = crypto.base64url(json.encode(head)) .. "."
    .. crypto.base64url(json.encode(claims))
  local signature, err = crypto.rs256(credentials.private_key, text)
  if not signature then
    return nil, err
  end
  return text .. "." .. crypto.base64url(signature)
end

local function grant_of(credentials, wall_ms)
  if credentials.type == "authorized_user" then
    return form({
      { "grant_type", "refresh_token" },
      { "client_id", credentials.client_id },
      { "client_secret", credentials.client_secret },
      { "refresh_token", credentials.refresh_token },
    })
  end
  local jwt, err = assertion(credentials, wall_ms)
  if not jwt then
    return nil, err
  end
  return form({
    { "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer" },
    { "assertion", jwt },
  })
end

-- The failure of an answer without a token. What the server says of a refusal is final.
local function refusal(response)
  local body = json.decode(response.body)
  local why = type(body) == "table" and (body.error_description or body.error)
  local kind = failures.kind_of_status(response.status)
  if kind == "invalid_request" or kind == "permission" or kind == "not_found" then
    kind = "auth"
  end
  return failures.new(kind, ("no access token: HTTP %d%s"):format(response.status,
    type(why) == "string" and ": " .. why or ""), { provider_code = "token" })
end

local function read_token(response)
  if response.status ~= 200 then
    return nil, refusal(response)
  end
  local body = json.decode(response.body)
  if type(body) ~= "table" or type(body.access_token) ~= "string"
    or body.access_token:find("[%c%s]") or type(body.expires_in) ~= "number" then
    return nil, failures.new("parse", "no access token: the answer has an unexpected shape")
  end
  return body
end

local function ask_server(credentials, ca_file, wall_ms)
  local body, err = grant_of(credentials, wall_ms)
  if not body then
    return nil, failures.new("auth", err)
  end
  local response, code
  response, err, code = http.request({
    url = credentials.token_uri or TOKEN_URI,
    headers = { "content-type: application/x-www-form-urlencoded" },
    body = body,
    ca_file = ca_file,
    timeout_ms = FETCH_MS,
    max_body_bytes = MAX_BODY,
  })
  if not response then
    return nil, failures.from_transport(code, "no access token: " .. err)
  end
  return read_token(response)
end

-- A machine outside of Google's cloud has no such name: that fails at once.
local function ask_metadata(host)
  local response, err, code
  for _ = 1, METADATA_TRIES do
    response, err, code = http.request({
      url = "http://" .. host .. METADATA_PATH,
      headers = { "Metadata-Flavor: Google" },
      timeout_ms = METADATA_MS,
      max_body_bytes = MAX_BODY,
    })
    if response and response.status < 500 or code == "EHOST" then
      break
    end
  end
  if not response then
    local failure = failures.from_transport(code, "no credentials are configured, and the metadata "
      .. "server does not answer: " .. err)
    if code == "EHOST" then
      failure.kind, failure.retryable = "auth", false
    end
    return nil, failure
  end
  return read_token(response)
end

-- Fetches a token and keeps it.
function Source:fetch(wall_ms)
  local credentials, err = google_credentials.find(self.given, self.env)
  if not credentials then
    return nil, failures.new("auth", err)
  end
  self.used = credentials
  local asked_ms = self.now_ms()
  local body, failure
  if credentials.type == "metadata" then
    body, failure = ask_metadata(self.env("GCE_METADATA_HOST") or "metadata.google.internal")
  else
    body, failure = ask_server(credentials, self.ca_file, wall_ms)
  end
  if not body then
    return nil, failure
  end
  local life_ms = body.expires_in * 1000
  self.token = body.access_token
  self.until_ms = asked_ms + math.max(life_ms - SPARE_MS, life_ms / 2)
  return self.token
end

--- A token that holds for a while.
---@async
---@param timeout_ms number
---@param wall_ms number Unix time now.
---@return string? token
---@return providers.Failure?
function Source:get(timeout_ms, wall_ms)
  if self.token and self.now_ms() < self.until_ms then
    return self.token
  end
  local token, failure = self.flight:run(timeout_ms, wall_ms)
  if token then
    return token
  elseif type(failure) ~= "table" then
    return nil, failures.new("timeout", "no access token: " .. tostring(failure))
  end
  return nil, failures.copy(failure)
end

--- Drops a token that a server has refused.
---@param token string?
---@return boolean dropped False when another has taken its place already, or it was none.
function Source:drop(token)
  if token and token == self.token then
    self.token = nil
    return true
  end
  return false
end

return M
