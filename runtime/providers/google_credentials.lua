--- Which account Google's cloud is to be used with.
---
--- Credentials are looked for in this order: the option (a path, JSON text or a table), the file
--- that GOOGLE_APPLICATION_CREDENTIALS names, the JSON text in
--- GOOGLE_APPLICATION_CREDENTIALS_CONTENT, the file that `gcloud auth application-default login`
--- writes, the metadata server of the machine. They are read each time they are wanted.

local json = require("runtime.json")

local M = {}

local MAX_BYTES = 64 * 1024

---@class google_credentials.Credentials
---@field type "service_account"|"authorized_user"|"metadata"
---@field project_id? string
---@field quota_project_id? string

local function read_file(path)
  local file, err = io.open(path, "rb")
  if not file then
    return nil, err
  end
  local text = file:read(MAX_BYTES)
  file:close()
  return text or ""
end

-- Where the credentials are: "path" or "text" and its value, "table", or nil for the metadata
-- server.
local function place(given, env)
  if type(given) == "table" then
    return "table", given
  elseif given then
    return given:find("^%s*{") and "text" or "path", given
  end
  local path = env("GOOGLE_APPLICATION_CREDENTIALS")
  if path and path ~= "" then
    return "path", path
  end
  local text = env("GOOGLE_APPLICATION_CREDENTIALS_CONTENT")
  if text and text ~= "" then
    return "text", text
  end
  local folder = env("CLOUDSDK_CONFIG") or (env("HOME") or "") .. "/.config/gcloud"
  path = folder .. "/application_default_credentials.json"
  return read_file(path) and "path" or nil, path
end

local NEEDED = {
  service_account = { "client_email", "private_key" },
  authorized_user = { "client_id", "client_secret", "refresh_token" },
}

-- The text of credentials is in no message.
local function check(credentials, where)
  if type(credentials) ~= "table" then
    return nil, where .. " is no JSON object"
  end
  local needed = NEEDED[credentials.type]
  if not needed then
    return nil, ("%s holds credentials of the type %q; service_account and authorized_user are "
      .. "known"):format(where, tostring(credentials.type):sub(1, 40))
  end
  for _, name in ipairs(needed) do
    if type(credentials[name]) ~= "string" then
      return nil, ("%s has no %s"):format(where, name)
    end
  end
  return credentials
end

--- The credentials as they are now.
---@param given string|table|nil The option.
---@param env fun(name: string): string?
---@return google_credentials.Credentials?
---@return string? err
function M.find(given, env)
  local kind, value = place(given, env)
  if not kind then
    return { type = "metadata" }
  elseif kind == "table" then
    return check(value, "options.credentials")
  elseif kind == "text" then
    return check(json.decode(value), "the text of the credentials")
  end
  local text, err = read_file(value)
  if not text then
    return nil, "the credentials cannot be read: " .. err
  end
  return check(json.decode(text), value)
end

--- True when credentials are configured; a metadata server is only known once it was asked.
---@param given string|table|nil
---@param env fun(name: string): string?
---@return boolean
function M.is_configured(given, env)
  return place(given, env) ~= nil or env("GCE_METADATA_HOST") ~= nil
end

return M
