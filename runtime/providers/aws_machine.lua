--- Credentials for AWS that the machine itself has: those of a container, else of an EC2 instance.
---
--- They are temporary: kept until shortly before they expire, and fetched once for all who wait.

local failures = require("runtime.providers.failure")
local hints = require("runtime.providers.hints")
local http = require("runtime.http")
local json = require("runtime.json")
local single_flight = require("runtime.single_flight")

local M = {}

-- What answers is on this machine or next to it.
local ANSWER_MS = 1000
local MAX_BODY = 64 * 1024
local SPARE_MS = 300000
-- Without a time of expiry, the keys are asked for again this often.
local LIFE_MS = 900000
local TOKEN_TTL_S = 21600

-- Hosts to which a container's own authorisation may be sent in the clear.
local NEAR = { ["127.0.0.1"] = true, localhost = true, ["169.254.170.2"] = true,
  ["169.254.170.23"] = true }

---@class aws_machine.Machine
local Machine = {}
local machine_mt = { __index = Machine }

--- Creates it; nothing is asked before the first keys are wanted.
---@param env fun(name: string): string?
---@return aws_machine.Machine
function M.new(env)
  local self = setmetatable({ env = env }, machine_mt)
  self.flight = single_flight.new(function(wall_ms)
    return self:fetch(wall_ms)
  end)
  return self
end

--- True when the environment says that this is a container with credentials.
function Machine:is_container()
  return (self.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    or self.env("AWS_CONTAINER_CREDENTIALS_FULL_URI")) ~= nil
end

local function ask(url, headers, method)
  local response, err, code = http.request({
    url = url,
    method = method,
    headers = headers,
    timeout_ms = ANSWER_MS,
    max_body_bytes = MAX_BODY,
  })
  if not response then
    return nil, failures.from_transport(code, "no credentials of this machine: " .. err)
  elseif response.status ~= 200 then
    local kind = failures.kind_of_status(response.status)
    kind = (kind == "server" or kind == "overloaded" or kind == "rate_limit") and kind or "auth"
    return nil, failures.new(kind, ("no credentials of this machine: HTTP %d")
      :format(response.status))
  end
  return response.body
end

local function container_address(env)
  local path = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
  if path then
    return "http://169.254.170.2" .. path
  end
  local url = env("AWS_CONTAINER_CREDENTIALS_FULL_URI")
  local scheme, host = url:match("^(https?)://([%w.-]+)")
  if scheme ~= "https" and not NEAR[host or ""] then
    return nil, failures.new("auth",
      "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor on this machine")
  end
  return url
end

local function ask_container(env)
  local url, failure = container_address(env)
  if not url then
    return nil, failure
  end
  local token = env("AWS_CONTAINER_AUTHORIZATION_TOKEN")
  local path = env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
  if path then
    local file, err = io.open(path, "rb")
    if not file then
      return nil, failures.new("auth", "no credentials of this machine: " .. err)
    end
    token = file:read(MAX_BODY)
    file:close()
  end
  token = token and token:match("^%s*(.-)%s*$") or ""
  if token:find("[%c]") then
    return nil, failures.new("auth", "the container's authorization holds line breaks")
  end
  return ask(url, token ~= "" and { "Authorization: " .. token } or nil)
end

local function ask_instance(env)
  local base = env("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
  base = base:gsub("/+$", "") .. "/latest/"
  local token, failure = ask(base .. "api/token",
    { "X-aws-ec2-metadata-token-ttl-seconds: " .. TOKEN_TTL_S }, "PUT")
  if not token then
    return nil, failure
  end
  local headers = { "X-aws-ec2-metadata-token: " .. token:gsub("%c", "") }
  local roles = base .. "meta-data/iam/security-credentials/"
  local role
  role, failure = ask(roles, headers)
  role = role and role:match("^[%w+=,.@_-]+")
  if not role then
    return nil, failure or failures.new("auth", "this machine has no role")
  end
  return ask(roles .. role, headers)
end

--- Asks for keys and keeps them.
function Machine:fetch(wall_ms)
  local text, failure
  if self:is_container() then
    text, failure = ask_container(self.env)
  else
    text, failure = ask_instance(self.env)
  end
  if not text then
    return nil, failure
  end
  local body = json.decode(text)
  if type(body) ~= "table" or type(body.AccessKeyId) ~= "string"
    or type(body.SecretAccessKey) ~= "string" then
    return nil, failures.new("parse", "the credentials of this machine have an unexpected shape")
  end
  self.keys = {
    access_key_id = body.AccessKeyId,
    secret_access_key = body.SecretAccessKey,
    session_token = type(body.Token) == "string" and body.Token or nil,
  }
  local expires_ms = hints.iso_time_ms(tostring(body.Expiration))
  self.until_ms = expires_ms and expires_ms - SPARE_MS or wall_ms + LIFE_MS
  return self.keys
end

--- Keys that hold for a while.
---@async
---@param timeout_ms number
---@param wall_ms number Unix time now.
---@return aws_credentials.Keys?
---@return providers.Failure?
function Machine:get(timeout_ms, wall_ms)
  if self.keys and wall_ms < self.until_ms then
    return self.keys
  elseif not self:is_container() and self.env("AWS_EC2_METADATA_DISABLED") == "true" then
    return nil, failures.new("auth", "no credentials of this machine: it must not be asked")
  end
  local keys, failure = self.flight:run(timeout_ms, wall_ms)
  if keys then
    return keys
  elseif type(failure) ~= "table" then
    return nil, failures.new("timeout", "no credentials of this machine: " .. tostring(failure))
  end
  return nil, failures.copy(failure)
end

--- Drops keys that a server has refused.
---@return boolean dropped False when they are not these.
function Machine:drop(keys)
  local is_mine = keys ~= nil and keys == self.keys
  if is_mine then
    self.keys = nil
  end
  return is_mine
end

return M
