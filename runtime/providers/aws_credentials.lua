--- Credentials for AWS from the options, the environment, or the shared credentials file. Those
--- that the machine itself has: aws_machine.lua.
---
--- They are looked for with each request, so that what another program has renewed is used at once.
--- When an option holds any of them, the environment is not mixed in.

local M = {}

local MAX_BYTES = 1024 * 1024

---@class aws_credentials.Keys
---@field access_key_id string
---@field secret_access_key string
---@field session_token? string

local function is_set(text)
  return text ~= nil and text:find("%S") ~= nil
end

local function trim(text)
  return text and text:match("^%s*(.-)%s*$")
end

--- The keys of one profile in the text of a credentials file.
---@param text string
---@param profile string
---@return table<string, string>? keys By name; nil when there is no such profile.
function M.parse(text, profile)
  local keys, found = {}, false
  local inside = false
  for line in (text .. "\n"):gmatch("(.-)\r?\n") do
    local section = line:match("^%s*%[%s*(.-)%s*%]")
    if section then
      inside = section == profile or section == "profile " .. profile
      found = found or inside
    elseif inside and not line:find("^%s*[#;]") then
      local name, value = line:match("^%s*([%w_]+)%s*=%s*(.-)%s*$")
      if name then
        keys[name:lower()] = value
      end
    end
  end
  return found and keys or nil
end

local function read_file(path)
  local file, err = io.open(path, "rb")
  if not file then
    return nil, err
  end
  local text = file:read(MAX_BYTES)
  file:close()
  return text or ""
end

local function checked(id, secret, token, where)
  if not is_set(id) or not is_set(secret) then
    return nil, where .. " has not both an access key id and a secret access key"
  end
  local keys = {
    access_key_id = trim(id),
    secret_access_key = trim(secret),
    session_token = is_set(token) and trim(token) or nil,
  }
  for _, value in pairs(keys) do
    if value:find("[%c%s]") then
      return nil, where .. ": a key holds spaces or line breaks"
    end
  end
  if #keys.secret_access_key > 252 then
    return nil, where .. ": the secret access key is too long"
  end
  return keys
end

-- A profile that was named must exist; that nobody has set one up is no mistake.
local function from_file(profile, env, is_named)
  local path = env("AWS_SHARED_CREDENTIALS_FILE")
    or (env("HOME") or "") .. "/.aws/credentials"
  local text, err = read_file(path)
  if not text then
    return nil, "no credentials: neither options nor AWS_ACCESS_KEY_ID are set, and " .. err,
      not is_named and "ENONE" or nil
  end
  local where = ("the profile %q in %s"):format(profile, path)
  local keys = M.parse(text, profile)
  if not keys then
    return nil, "no credentials: there is not " .. where, not is_named and "ENONE" or nil
  end
  return checked(keys.aws_access_key_id, keys.aws_secret_access_key, keys.aws_session_token, where)
end

--- The credentials as they are now, as far as they are on this machine's disk.
---@param options { access_key_id?: string, secret_access_key?: string, session_token?: string,
--- profile?: string }
---@param env fun(name: string): string?
---@return aws_credentials.Keys?
---@return string? err
---@return string? code "ENONE": nothing is configured; nil where something is, and is wrong.
function M.find(options, env)
  if options.access_key_id or options.secret_access_key or options.session_token then
    return checked(options.access_key_id, options.secret_access_key, options.session_token,
      "options")
  elseif options.profile then
    return from_file(options.profile, env, true)
  elseif is_set(env("AWS_ACCESS_KEY_ID")) then
    return checked(env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"),
      env("AWS_SESSION_TOKEN"), "the environment")
  elseif is_set(env("AWS_PROFILE")) then
    return from_file(env("AWS_PROFILE"), env, true)
  end
  return from_file("default", env, false)
end

return M
