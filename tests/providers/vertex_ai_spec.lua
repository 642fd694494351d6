local anthropic_server = require("support.anthropic_server")
local clouds = require("support.clouds")
local google_account = require("support.google_account")
local json = require("runtime.json")
local support = require("support")
local vertex_ai = require("runtime.providers.vertex_ai")

local WAIT = clouds.gemini_reply("wait", { ms = 10000 })
local UNAUTHENTICATED = { status = 401, body = json.encode({ error = { code = 401,
  message = "Request had invalid authentication credentials.", status = "UNAUTHENTICATED" } }) }

local function token(name)
  return { body = json.encode({ access_token = name, expires_in = 3599 }) }
end

-- Gives tokens t1, t2, … at /token, and these replies to all else.
local function with_cloud(replies, body)
  local tokens, calls = 0, 0
  return clouds.with_server({
    on_request = function(request)
      if request.path == "/token" then
        tokens = tokens + 1
        return token("token-" .. tokens)
      end
      calls = calls + 1
      return replies[calls]
    end,
  }, function(server)
    body(server, function()
      return tokens, calls
    end)
  end)
end

local function registry_of(server, options, env)
  options = options or {}
  options.model = "gemini-2.5-flash"
  options.base_url = server.url .. "/v1"
  options.stream = false
  if not options.api_key and options.credentials == nil then
    options.credentials = google_account.service_account(server.url .. "/token")
  end
  return clouds.registry("vertex-ai", options, env or { GOOGLE_CLOUD_LOCATION = "europe-west4" })
end

describe("the request to vertex-ai", function()
  it("has the account's token and project", with_cloud({ WAIT, WAIT }, function(server, counts)
    local registry = registry_of(server)
    local result = assert(registry:decide(nil, clouds.request()))
    assert.are.equal("wait", result.tool)
    assert.are.equal("vertex-ai", result.provider)
    local sent = server.requests[2]
    assert.are.equal("/v1/projects/project-of-key/locations/europe-west4/publishers/google/"
      .. "models/gemini-2.5-flash:generateContent", sent.path)
    assert.are.equal("Bearer token-1", sent.headers.authorization)
    assert.is_nil(sent.headers["x-goog-user-project"])
    assert.are.equal("ANY", sent.body.toolConfig.functionCallingConfig.mode)
    assert(registry:decide(nil, clouds.request()))
    assert.are.same({ 1, 2 }, { counts() })
  end))

  it("has the user's project for quotas", with_cloud({ WAIT }, function(server)
    assert(registry_of(server, {
      project_id = "example.com:mine",
      location = "global",
      credentials = json.encode({ type = "authorized_user", client_id = "i", client_secret = "s",
        refresh_token = "r", token_uri = server.url .. "/token", quota_project_id = "quota" }),
    }):decide(nil, clouds.request()))
    local sent = server.requests[2]
    assert.are.equal("/v1/projects/example.com:mine/locations/global/publishers/google/"
      .. "models/gemini-2.5-flash:generateContent", sent.path)
    assert.are.equal("quota", sent.headers["x-goog-user-project"])
  end))

  it("goes to the location's own address", function()
    for location, host in pairs({
      ["europe-west4"] = "europe-west4-aiplatform.googleapis.com",
      global = "aiplatform.googleapis.com",
      eu = "aiplatform.eu.rep.googleapis.com",
    }) do
      local provider = vertex_ai.new({ model = "m", project_id = "p", location = location,
        api_key = "t", stream = true, max_tokens = 1 }, function() end)
      local call = assert(provider:request(clouds.request()))
      assert.are.equal(("https://%s/v1beta1/projects/p/locations/%s/publishers/google/models/m:"
        .. "streamGenerateContent?alt=sse"):format(host, location), call.url)
    end
  end)

  it("is made once more with a new token after a 401", with_cloud({
    UNAUTHENTICATED, WAIT,
  }, function(server, counts)
    local result = assert(registry_of(server):decide(nil, clouds.request()))
    assert.are.equal("wait", result.tool)
    assert.are.same({ 2, 2 }, { counts() })
    assert.are.equal("Bearer token-2", server.requests[4].headers.authorization)
  end))

  it("is made once more only, and the error shows no token", with_cloud({
    UNAUTHENTICATED,
    { status = 401, body = json.encode({ error = { message = "bad: token-2", code = 401,
      status = "UNAUTHENTICATED" } }) },
  }, function(server, counts)
    local _, err, kind, detail = registry_of(server):decide(nil, clouds.request())
    assert.are.equal("auth", kind)
    assert.are.equal("bad: [key]", err)
    assert.is_nil(json.encode(detail):find("token-2", 1, true))
    assert.are.same({ 2, 2 }, { counts() })
  end))

  it("is not made again with a token that is given", with_cloud({
    UNAUTHENTICATED, WAIT,
  }, function(server, counts)
    local _, _, kind = registry_of(server, { api_key = "given", project_id = "p" })
      :decide(nil, clouds.request())
    assert.are.equal("auth", kind)
    assert.are.same({ 0, 1 }, { counts() })
    assert.are.equal("Bearer given", server.requests[1].headers.authorization)
  end))

  it("is not made without a token, a project or a location", with_cloud({}, function(server, counts)
    local account = google_account.service_account(server.url .. "/token")
    account.project_id = nil
    local _, err, kind = registry_of(server, { credentials = account }):decide(nil,
      clouds.request())
    assert.are.equal("invalid_request", kind)
    assert.are.equal("no project: set options.project_id or GOOGLE_CLOUD_PROJECT", err)
    _, err, kind = registry_of(server, nil, {}):decide(nil, clouds.request())
    assert.are.equal("invalid_request", kind)
    assert.are.equal("no location: set options.location or GOOGLE_CLOUD_LOCATION", err)
    _, err, kind = registry_of(server, { credentials = "build/tmp/none" }):decide(nil,
      clouds.request())
    assert.are.equal("auth", kind)
    assert.is_truthy(err:find("cannot be read", 1, true))
    assert.are.same({ 0, 0 }, { counts() })
  end))

  it("takes no other path from the environment", support.async(function()
    local server = anthropic_server.start({})
    for name, value in pairs({ GOOGLE_CLOUD_PROJECT = "p/../x", GOOGLE_CLOUD_LOCATION = "e/x" }) do
      local env = { GOOGLE_CLOUD_PROJECT = "p", GOOGLE_CLOUD_LOCATION = "e" }
      env[name] = value
      local _, _, kind = registry_of(server, { api_key = "t" }, env):decide(nil, clouds.request())
      assert.are.equal("invalid_request", kind)
    end
    assert.are.equal(0, #server.requests)
    server:stop()
  end))
end)
