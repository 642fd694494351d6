local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local google_account = require("support.google_account")
local google_credentials = require("runtime.providers.google_credentials")
local google_token = require("runtime.providers.google_token")
local json = require("runtime.json")
local support = require("support")

local WALL_MS = 1795466985123

local function with_server(opts, body)
  return support.async(function()
    local server = anthropic_server.start(opts)
    local ok, err = async.pcall(body, server)
    server:stop()
    if not ok then
      error(err, 0)
    end
  end)
end

local function token(name, expires_in)
  return { body = json.encode({ access_token = name, expires_in = expires_in or 3599,
    token_type = "Bearer" }) }
end

local function env_of(values)
  return function(name)
    return (values or {})[name]
  end
end

-- A source with a clock that specs move.
local function source_of(credentials, env)
  local clock = { ms = 1000 }
  return google_token.new({
    credentials = credentials,
    env = env_of(env),
    now_ms = function()
      return clock.ms
    end,
  }), clock
end

local function user(server)
  return { type = "authorized_user", client_id = "id 1", client_secret = "secret&1",
    refresh_token = "1//refresh", token_uri = server.url .. "/token",
    quota_project_id = "quota-project" }
end

local function fields_of(request)
  local fields = {}
  for name, value in request.text:gmatch("([^&=]+)=([^&]*)") do
    fields[name] = value:gsub("%%(%x%x)", function(digits)
      return string.char(tonumber(digits, 16))
    end)
  end
  return fields
end

describe("a token of a service account", function()
  it("is asked for with a signed JWT", with_server({
    replies = { token("ya29.one") },
  }, function(server)
    local source = source_of(google_account.service_account(server.url .. "/token"))
    assert.are.equal("ya29.one", source:get(5000, WALL_MS))
    local request = server.requests[1]
    assert.are.equal("POST", request.method)
    assert.are.equal("/token", request.path)
    assert.are.equal("application/x-www-form-urlencoded", request.headers["content-type"])
    local fields = fields_of(request)
    assert.are.equal("urn:ietf:params:oauth:grant-type:jwt-bearer", fields.grant_type)
    local head, claims = google_account.read_jwt(fields.assertion)
    assert.are.same({ alg = "RS256", typ = "JWT", kid = "key-1" }, head)
    assert.are.same({
      iss = "watcher@project-of-key.iam.gserviceaccount.com",
      scope = "https://www.googleapis.com/auth/cloud-platform",
      aud = "https://oauth2.googleapis.com/token",
      iat = 1795466985,
      exp = 1795470585,
    }, claims)
  end))

  it("is not asked for with a key that is none", support.async(function()
    local credentials = google_account.service_account("http://127.0.0.1:1/")
    credentials.private_key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n"
    local got, failure = source_of(credentials):get(5000, WALL_MS)
    assert.is_nil(got)
    assert.are.equal("auth", failure.kind)
    assert.is_false(failure.retryable)
    assert.is_nil(failure.message:find("c2VjcmV0", 1, true))
  end))
end)

describe("a token of Google's cloud", function()
  it("is asked for with a user's refresh token", with_server({
    replies = { token("ya29.user") },
  }, function(server)
    assert.are.equal("ya29.user", source_of(user(server)):get(5000, WALL_MS))
    assert.are.same({ grant_type = "refresh_token", client_id = "id 1", client_secret = "secret&1",
      refresh_token = "1//refresh" }, fields_of(server.requests[1]))
  end))

  it("is asked of the metadata server when nothing is configured", with_server({
    replies = { { status = 503, body = "not yet" }, token("ya29.machine") },
  }, function(server)
    local source = source_of(nil, { GCE_METADATA_HOST = "127.0.0.1:" .. server.port })
    assert.are.equal("ya29.machine", source:get(5000, WALL_MS))
    assert.are.equal(2, #server.requests)
    local request = server.requests[2]
    assert.are.equal("GET", request.method)
    assert.are.equal("/computeMetadata/v1/instance/service-accounts/default/token", request.path)
    assert.are.equal("Google", request.headers["metadata-flavor"])
  end))

  it("is kept until shortly before it expires", with_server({
    replies = { token("one", 3600), token("two", 60), token("three") },
  }, function(server)
    local source, clock = source_of(user(server))
    assert.are.equal("one", source:get(5000, WALL_MS))
    clock.ms = 1000 + 3600000 - 240000 - 1
    assert.are.equal("one", source:get(5000, WALL_MS))
    clock.ms = clock.ms + 1
    assert.are.equal("two", source:get(5000, WALL_MS))
    -- A short life is used by half.
    clock.ms = clock.ms + 29999
    assert.are.equal("two", source:get(5000, WALL_MS))
    clock.ms = clock.ms + 1
    assert.are.equal("three", source:get(5000, WALL_MS))
    assert.are.equal(3, #server.requests)
  end))

  it("is fetched once for all who wait", with_server({
    replies = { token("one"), token("two") },
  }, function(server)
    local source = source_of(user(server))
    local got = {}
    for i = 1, 10 do
      async.spawn(function()
        got[i] = source:get(5000, WALL_MS)
      end)
    end
    support.wait_until(function()
      return #got == 10
    end)
    assert.are.equal("one", got[1])
    assert.are.equal("one", got[10])
    assert.are.equal(1, #server.requests)
    assert.is_true(source:drop("one"))
    assert.is_false(source:drop("one"))
    assert.are.equal("two", source:get(5000, WALL_MS))
    assert.is_false(source:drop("one"))
    assert.is_false(source:drop(nil))
    assert.are.equal("two", source:get(5000, WALL_MS))
  end))

  it("is read from credentials as they are when it is wanted", with_server({
    replies = { token("one"), token("two") },
  }, function(server)
    local path = support.tmp_path("adc.json")
    local source = source_of(nil, { GOOGLE_APPLICATION_CREDENTIALS = path })
    local _, failure = source:get(5000, WALL_MS)
    assert.are.equal("auth", failure.kind)
    support.write_file(path, json.encode(user(server)))
    assert.are.equal("one", source:get(5000, WALL_MS))
    os.remove(path)
    source:drop("one")
    assert.is_nil((source:get(5000, WALL_MS)))
  end))
end)

describe("no token", function()
  local function failure_of(reply)
    local failure
    with_server({ replies = { reply } }, function(server)
      local source = source_of(user(server))
      local got
      got, failure = source:get(5000, WALL_MS)
      assert.is_nil(got)
    end)()
    return failure
  end

  it("is final when the account is refused, and says why", function()
    local failure = failure_of({ status = 400, body = json.encode({ error = "invalid_grant",
      error_description = "Token has been expired or revoked." }) })
    assert.are.equal("auth", failure.kind)
    assert.is_false(failure.retryable)
    assert.are.equal("no access token: HTTP 400: Token has been expired or revoked.",
      failure.message)
    assert.are.equal("auth", failure_of({ status = 401, body = '{"error":"invalid_client"}' }).kind)
    assert.are.equal("auth", failure_of({ status = 403, body = "<html>" }).kind)
  end)

  it("can change when the server fails", function()
    for status, kind in pairs({ [500] = "server", [503] = "overloaded", [429] = "rate_limit" }) do
      local failure = failure_of({ status = status, body = "" })
      assert.are.equal(kind, failure.kind)
      assert.is_true(failure.retryable)
    end
  end)

  it("is a text that cannot be a header, or of another shape", function()
    for _, body in ipairs({ "", "[]", '{"access_token":"a\\nb","expires_in":9}',
      '{"access_token":7,"expires_in":9}', '{"access_token":"a"}' }) do
      assert.are.equal("parse", failure_of({ body = body }).kind)
    end
  end)

  it("comes in time from a server that says nothing", with_server({
    replies = { { hang = true } },
  }, function(server)
    local _, failure = source_of(user(server)):get(50, WALL_MS)
    assert.are.equal("timeout", failure.kind)
    assert.is_true(failure.retryable)
  end))

  it("comes at once where there is no metadata server", support.async(function()
    local _, failure = source_of(nil, { GCE_METADATA_HOST = "metadata.invalid" })
      :get(20000, WALL_MS)
    assert.are.equal("auth", failure.kind)
    assert.is_false(failure.retryable)
    assert.is_truthy(failure.message:find("no credentials are configured", 1, true))
  end))

  it("is a failure of one's own, although several wait for it", with_server({
    replies = { { status = 500, body = "" } },
  }, function(server)
    local source = source_of(user(server))
    local list = {}
    for i = 1, 2 do
      async.spawn(function()
        list[i] = select(2, source:get(5000, WALL_MS))
      end)
    end
    support.wait_until(function()
      return #list == 2
    end)
    assert.are.same(list[1], list[2])
    assert.is_false(rawequal(list[1], list[2]))
  end))
end)

describe("the credentials for Google's cloud", function()
  local USER = { type = "authorized_user", client_id = "i", client_secret = "s",
    refresh_token = "r" }
  local path

  before_each(function()
    path = support.write_file(support.tmp_path("google.json"), json.encode(USER))
  end)

  after_each(function()
    os.remove(path)
  end)

  it("come from the option, the variables or the file of gcloud", function()
    local text = json.encode(USER)
    local home = support.tmp_path("google-home")
    os.execute(("mkdir -p %s/.config/gcloud"):format(home))
    support.write_file(home .. "/.config/gcloud/application_default_credentials.json", text)
    for _, case in ipairs({
      { USER, {} }, { text, {} }, { path, {} },
      { nil, { GOOGLE_APPLICATION_CREDENTIALS = path, HOME = "/none" } },
      { nil, { GOOGLE_APPLICATION_CREDENTIALS_CONTENT = text } },
      { nil, { HOME = home } },
      { nil, { CLOUDSDK_CONFIG = home .. "/.config/gcloud" } },
    }) do
      assert.are.same(USER, google_credentials.find(case[1], env_of(case[2])))
      assert.is_true(google_credentials.is_configured(case[1], env_of(case[2])))
    end
    os.execute("rm -r " .. home)
  end)

  it("are the machine's own when there are no others", function()
    assert.are.same({ type = "metadata" }, google_credentials.find(nil, env_of({ HOME = "/none" })))
    assert.is_false(google_credentials.is_configured(nil, env_of({ HOME = "/none" })))
    assert.is_true(google_credentials.is_configured(nil, env_of({ GCE_METADATA_HOST = "h" })))
  end)

  it("are refused with a text that holds nothing of them", function()
    local secret = "hidden-0123456789"
    for _, case in ipairs({
      { "{ not json " .. secret, "is no JSON object" },
      { { type = "external_account", refresh_token = secret }, "external_account" },
      { { type = "authorized_user", client_id = secret }, "has no client_secret" },
      { { type = "service_account", client_email = secret }, "has no private_key" },
      { "build/tmp/none.json", "cannot be read" },
    }) do
      local found, err = google_credentials.find(case[1], env_of())
      assert.is_nil(found)
      assert.is_truthy(err:find(case[2], 1, true), err)
      assert.is_nil(err:find(secret, 1, true))
    end
  end)
end)
