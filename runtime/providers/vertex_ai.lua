--- Gemini models by Google's cloud, with the tokens of an account.

local exchange = require("runtime.providers.exchange")
local failures = require("runtime.providers.failure")
local gemini = require("runtime.providers.gemini")
local gemini_answer = require("runtime.providers.gemini_answer")
local google_credentials = require("runtime.providers.google_credentials")
local google_token = require("runtime.providers.google_token")
local shared = require("runtime.providers.shared")

local M = {}

-- A path, JSON text or a table. Its content is in no message.
local function read_credentials(value)
  if type(value) == "table" and type(value.type) == "string" then
    return value
  elseif type(value) == "string" and value ~= "" then
    return value
  end
  return nil, "must be the path of a key file, its JSON text, or a table with its fields"
end

--- What `options` of such a client may hold. `api_key` is a token that somebody else keeps fresh.
M.options = exchange.with_common(gemini.OPTIONS)
M.options.project_id = { type = "string", pattern = "^[%w:.-]+$", like = "my-project" }
M.options.location = { type = "string", pattern = "^[%l%d-]+$", like = "europe-west4" }
M.options.credentials = { read = read_credentials, secret = true }
--- The variable that names the key file, for `beamlens clients`.
M.key_variable = "GOOGLE_APPLICATION_CREDENTIALS"

---@class providers.VertexAi
local VertexAi = {
  decide = exchange.decide,
  decoder = gemini_answer.METHODS.decoder,
  read = gemini_answer.METHODS.read,
  read_error = gemini_answer.METHODS.read_error,
}
local vertex_ai_mt = { __index = VertexAi }

-- Each region has an address of its own, and so have the world and the two continents.
local function base_of(location)
  if location == "global" then
    return "https://aiplatform.googleapis.com/v1beta1"
  elseif location == "us" or location == "eu" then
    return ("https://aiplatform.%s.rep.googleapis.com/v1beta1"):format(location)
  end
  return ("https://%s-aiplatform.googleapis.com/v1beta1"):format(location)
end

--- Creates the provider of one client.
---@param options table Checked against `M.options`.
---@param env fun(name: string): string?
function M.new(options, env)
  return setmetatable({
    options = options,
    env = env,
    model = options.model,
    tool_lists = shared.tool_lists(),
    system_parts = shared.system_parts(),
    project = options.project_id or env("GOOGLE_CLOUD_PROJECT"),
    location = options.location or env("GOOGLE_CLOUD_LOCATION"),
    source = google_token.new({ credentials = options.credentials, env = env,
      ca_file = options.ca_file }),
  }, vertex_ai_mt)
end

--- True when a request can be authorised, as far as that is known without asking a server.
function VertexAi:has_key()
  return self.options.api_key ~= nil
    or google_credentials.is_configured(self.options.credentials, self.env)
end

--- Texts that must be in no message.
function VertexAi:secrets()
  local secrets = self.source:secrets()
  secrets[#secrets + 1] = self.options.api_key
  return secrets
end

function VertexAi:project_of(credentials)
  return self.project or credentials.project_id or credentials.quota_project_id
end

--- The HTTP request for a normalised one, without its token.
function VertexAi:request(request)
  local credentials, err = {}, nil
  if not self.options.api_key then
    credentials, err = google_credentials.find(self.options.credentials, self.env)
  end
  if not credentials then
    return nil, failures.new("auth", err)
  end
  local project, location = self:project_of(credentials), self.location
  if type(project) ~= "string" or not project:find("^[%w:.-]+$") then
    return nil, failures.new("invalid_request",
      "no project: set options.project_id or GOOGLE_CLOUD_PROJECT")
  elseif not location or not location:find("^[%l%d-]+$") then
    return nil, failures.new("invalid_request",
      "no location: set options.location or GOOGLE_CLOUD_LOCATION")
  end
  local base = self.options.base_url or base_of(location)
  local path = self.model:find("/", 1, true) and self.model
    or "publishers/google/models/" .. self.model
  return {
    url = ("%s/projects/%s/locations/%s/%s"):format(base:gsub("/+$", ""), project, location,
      gemini.method(path, self.options.stream)),
    quota_project = credentials.quota_project_id,
    body = gemini.body(request, self),
  }
end

function VertexAi:set_headers(call, token)
  local headers = {
    { "authorization", "Bearer " .. token },
    { "content-type", "application/json" },
  }
  if call.quota_project then
    headers[3] = { "x-goog-user-project", call.quota_project }
  end
  call.headers = exchange.header_lines(headers, self.options.headers)
end

--- Adds the token, fetching it when there is none that holds.
function VertexAi:authorize(call, timeout_ms, wall_ms)
  local token, failure = self.options.api_key, nil
  if not token then
    token, failure = self.source:get(timeout_ms, wall_ms)
  end
  if not token then
    return nil, failure
  end
  call.token, call.secrets = token, { token }
  self:set_headers(call, token)
  return true
end

--- The headers as `authorize` adds them, for people: no token is fetched.
function VertexAi:preview(call)
  self:set_headers(call, "-")
end

--- After a refused token, the request is worth one more attempt with a new one.
function VertexAi:renew(failure, call)
  if failure.http ~= 401 or self.options.api_key then
    return false
  end
  self.source:drop(call.token)
  return true
end

return M
