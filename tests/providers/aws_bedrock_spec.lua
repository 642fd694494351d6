local aws_bedrock = require("runtime.providers.aws_bedrock")
local clouds = require("support.clouds")
local json = require("runtime.json")
local sigv4 = require("runtime.providers.sigv4")
local support = require("support")

local MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
local ENV = { AWS_ACCESS_KEY_ID = "AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY = "secret-0123456789",
  AWS_REGION = "eu-central-1" }
local WAIT = clouds.bedrock_reply("wait", { ms = 10000 })
-- 2015-08-30T12:36:00Z
local WALL_MS = 1440938160000

local function registry_of(server, options, env, more)
  options = options or {}
  options.model = options.model or MODEL
  options.base_url = server and server.url
  options.stream = options.stream or false
  return clouds.registry("aws-bedrock", options, env or ENV, more)
end

local function provider_of(options, env)
  options.model = options.model or MODEL
  options.max_tokens = options.max_tokens or 4096
  return aws_bedrock.new(options, function(name)
    return (env or ENV)[name]
  end)
end

local function body_of(more, options)
  return assert(provider_of(options or {}):request(clouds.request(more))).body
end

local function clock()
  return {
    now_ms = function()
      return 0
    end,
    wall_ms = function()
      return WALL_MS
    end,
  }
end

-- The signature as it must be for what the server got.
local function expected_signature(server, request, keys)
  return sigv4.sign({
    method = "POST",
    host = "127.0.0.1:" .. server.port,
    path = request.path,
    headers = { ["content-type"] = request.headers["content-type"],
      accept = request.headers.accept },
    body = request.text,
    region = "eu-central-1",
    service = "bedrock",
    wall_ms = WALL_MS,
  }, keys)[1][2]
end

describe("the request to aws-bedrock", function()
  it("has its URL, headers and body as the API wants them", clouds.with_server({
    replies = { WAIT },
  }, function(server)
    local result = assert(registry_of(server, nil, nil, { clock = clock() })
      :decide(nil, clouds.request()))
    assert.are.equal("wait", result.tool)
    assert.are.equal("t1", result.id)
    assert.are.equal("aws-bedrock", result.provider)
    local sent = server.requests[1]
    assert.are.equal("/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", sent.path)
    assert.are.equal("application/json", sent.headers["content-type"])
    assert.are.equal("20150830T123600Z", sent.headers["x-amz-date"])
    assert.are.equal("127.0.0.1:" .. server.port, sent.headers.host)
    assert.are.equal(expected_signature(server, sent, { access_key_id = "AKIDEXAMPLE",
      secret_access_key = "secret-0123456789" }), sent.headers.authorization)
    assert.is_truthy(sent.headers.authorization:find(
      "Credential=AKIDEXAMPLE/20150830/eu-central-1/bedrock/aws4_request", 1, true))
    assert.are.same({
      system = { { text = "You watch a node." } },
      messages = { { role = "user", content = { { text = "Now." } } } },
      inferenceConfig = { maxTokens = 4096 },
      toolConfig = {
        tools = {
          { toolSpec = { name = "wait", description = "Waits.",
            inputSchema = { json = clouds.TOOLS[1].schema } } },
          { toolSpec = { name = "take_snapshot", description = "Takes one.",
            inputSchema = { json = { type = "object", properties = {} } } } },
        },
        toolChoice = { any = {} },
      },
    }, sent.body)
    assert.is_truthy(sent.text:find('"any":{}', 1, true))
  end))

  it("sends and signs a session token", clouds.with_server({
    replies = { WAIT },
  }, function(server)
    local keys = { access_key_id = "AKIDTEMP", secret_access_key = "s-1",
      session_token = "to/ken=" }
    local options = { region = "eu-central-1" }
    for name, value in pairs(keys) do
      options[name] = value
    end
    assert(registry_of(server, options, ENV, { clock = clock() }):decide(nil, clouds.request()))
    local sent = server.requests[1]
    assert.are.equal("to/ken=", sent.headers["x-amz-security-token"])
    assert.are.equal(expected_signature(server, sent, keys), sent.headers.authorization)
  end))

  it("signs the user's headers where they take the place of ours", clouds.with_server({
    replies = { WAIT },
  }, function(server)
    assert(registry_of(server, { headers = { ["Content-Type"] = "application/json; charset=utf-8",
      ["X-Trace"] = "t" } }, nil, { clock = clock() }):decide(nil, clouds.request()))
    local sent = server.requests[1]
    assert.are.equal("application/json; charset=utf-8", sent.headers["content-type"])
    assert.are.equal("t", sent.headers["x-trace"])
    assert.are.equal(expected_signature(server, sent, { access_key_id = "AKIDEXAMPLE",
      secret_access_key = "secret-0123456789" }), sent.headers.authorization)
  end))

  it("asks for a stream by another address", clouds.with_server({
    replies = { WAIT },
  }, function(server)
    assert(registry_of(server, { stream = true }):decide(nil, clouds.request()))
    local sent = server.requests[1]
    assert.are.equal("/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream", sent.path)
    assert.are.equal("application/vnd.amazon.eventstream", sent.headers.accept)
  end))

  it("has a key of Bedrock's own instead of a signature", clouds.with_server({
    replies = { WAIT, WAIT },
  }, function(server)
    assert(registry_of(server, nil, { AWS_BEARER_TOKEN_BEDROCK = "bearer-1\n", AWS_REGION = "r-1" })
      :decide(nil, clouds.request()))
    assert.are.equal("Bearer bearer-1", server.requests[1].headers.authorization)
    assert.is_nil(server.requests[1].headers["x-amz-date"])
    -- Keys in the options are not mixed with the environment.
    assert(registry_of(server, { access_key_id = "A", secret_access_key = "B" },
      { AWS_BEARER_TOKEN_BEDROCK = "bearer-1", AWS_REGION = "us-east-1" })
      :decide(nil, clouds.request()))
    assert.is_truthy(server.requests[2].headers.authorization:find("Credential=A/", 1, true))
  end))

  it("goes to the region's address, and encodes what a name must not hold", function()
    for region, host in pairs({
      ["us-east-1"] = "bedrock-runtime.us-east-1.amazonaws.com",
      ["cn-north-1"] = "bedrock-runtime.cn-north-1.amazonaws.com.cn",
    }) do
      local call = assert(provider_of({ region = region,
        model = "arn:aws:bedrock:us-east-1:1:inference-profile/x" }):request(clouds.request()))
      assert.are.equal(("https://%s/model/arn%%3Aaws%%3Abedrock%%3Aus-east-1%%3A1%%3A"
        .. "inference-profile%%2Fx/converse"):format(host), call.url)
    end
    assert.are.equal("https://bedrock-runtime.r-2.amazonaws.com",
      provider_of({}, { AWS_DEFAULT_REGION = "r-2" }).base)
  end)

  it("forces tools where the model's family can be forced", function()
    local function choice(model, more, force)
      local options = { model = model }
      for name, value in pairs(more or {}) do
        options[name] = value
      end
      return json.encode(body_of({ force = force }, options).toolConfig.toolChoice)
    end
    assert.are.equal('{"tool":{"name":"wait"}}', choice(MODEL, nil, "wait"))
    assert.are.equal('{"any":{}}', choice("us.amazon.nova-lite-v1:0"))
    assert.are.equal('{"any":{}}', choice("mistral.mistral-large-2407-v1:0"))
    assert.are.equal('{"auto":{}}', choice("moonshot.kimi-k2-thinking", nil, "wait"))
    assert.are.equal('{"auto":{}}', choice("us.anthropic.claude-opus-5-5", nil, "wait"))
    assert.are.equal('{"any":{}}', choice("moonshot.kimi-k2-thinking", { tool_choice = "any" }))
    assert.are.equal('{"auto":{}}', choice(MODEL, { tool_choice = "auto" }))
  end)

  it("marks the stable prefix for the cache where the model has one", function()
    local function caches(model, given)
      return #body_of(nil, { model = model, prompt_cache = given }).system == 2
    end
    assert.is_true(caches("eu.anthropic.claude-haiku-4-5-20251001-v1:0"))
    assert.is_true(caches("anthropic.claude-3-7-sonnet-20250219-v1:0"))
    assert.is_true(caches("amazon.nova-micro-v1:0"))
    assert.is_false(caches(MODEL))
    assert.is_false(caches("meta.llama3-70b-instruct-v1:0"))
    assert.is_true(caches(MODEL, true))
    assert.is_false(caches("amazon.nova-micro-v1:0", false))
    assert.are.same({ cachePoint = { type = "default" } },
      body_of(nil, { prompt_cache = true }).system[2])
  end)

  it("carries calls and their results, and merges neighbours of the same role", function()
    local messages = body_of({ messages = clouds.CONVERSATION }).messages
    assert.are.same({
      { role = "user", content = { { text = "One." }, { text = "Two." } } },
      { role = "assistant", content = { { text = "Looking." },
        { toolUse = { toolUseId = "t_1", name = "take_snapshot", input = {} } } } },
      { role = "user", content = {
        { toolResult = { toolUseId = "t_1", content = { { text = "{}" } } } },
        { text = "Budget left: 3." } } },
      { role = "assistant", content = {
        { toolUse = { toolUseId = "call_6", name = "wait", input = { ms = 5 } } } } },
      { role = "user", content = { { toolResult = { toolUseId = "call_6",
        content = { { text = "too short" } }, status = "error" } } } },
    }, messages)
    assert.is_truthy(json.encode(messages):find('"input":{}', 1, true))
  end)

  it("takes options", function()
    local body = body_of({ max_tokens = 9 }, { temperature = 0, top_p = 0.5,
      extra = { additionalModelRequestFields = { k = 1 } } })
    assert.are.same({ maxTokens = 9, temperature = 0, topP = 0.5 }, body.inferenceConfig)
    assert.are.same({ k = 1 }, body.additionalModelRequestFields)
  end)

  it("is not made without credentials or a region", support.async(function()
    local none = { AWS_SHARED_CREDENTIALS_FILE = "build/tmp/none", AWS_REGION = "us-east-1" }
    local _, err, kind = registry_of(nil, nil, none):decide(nil, clouds.request())
    assert.are.equal("auth", kind)
    assert.is_truthy(err:find("no credentials", 1, true))
    _, err, kind = registry_of(nil, nil, { AWS_ACCESS_KEY_ID = "A", AWS_SECRET_ACCESS_KEY = "B" })
      :decide(nil, clouds.request())
    assert.are.equal("invalid_request", kind)
    assert.are.equal("no region: set options.region, AWS_REGION or AWS_DEFAULT_REGION", err)
    _, err, kind = registry_of(nil, nil, { AWS_BEARER_TOKEN_BEDROCK = "a b", AWS_REGION = "r-1" })
      :decide(nil, clouds.request())
    assert.are.equal("auth", kind)
    assert.are.equal("the key holds spaces or line breaks", err)
    assert.are.equal("set", registry_of(nil):list()[1].key)
    assert.are.equal("missing", registry_of(nil, nil, none):list()[1].key)
  end))
end)

describe("aws-bedrock's errors", function()
  local EXPIRED = { status = 403, headers = { ["x-amzn-errortype"] = "ExpiredTokenException" },
    body = '{"message":"The security token AKIDFILE / file-secret-1 is expired"}' }

  local function write_keys(path, id)
    support.write_file(path, ("[default]\naws_access_key_id = %s\n"
      .. "aws_secret_access_key = file-secret-1\n"):format(id))
  end

  it("show neither key nor secret, and are final while the keys stay the same", clouds.with_server({
    replies = { EXPIRED, WAIT },
  }, function(server)
    local path = support.tmp_path("bedrock-keys")
    write_keys(path, "AKIDFILE")
    local _, err, kind, detail = registry_of(server, nil, { AWS_REGION = "us-east-1",
      AWS_SHARED_CREDENTIALS_FILE = path }):decide(nil, clouds.request())
    os.remove(path)
    assert.are.equal("auth", kind)
    assert.are.equal("The security token [key] / [key] is expired", err)
    assert.are.equal("ExpiredTokenException", detail.provider_code)
    assert.are.equal(403, detail.http)
    assert.are.equal(1, #server.requests)
  end))

  it("lead to one more attempt when the keys have changed since", clouds.with_server({
    on_request = function(_, index)
      write_keys(support.tmp_path("bedrock-new"), "AKIDNEW" .. index)
      return index < 3 and EXPIRED or WAIT
    end,
  }, function(server)
    local path = support.tmp_path("bedrock-new")
    write_keys(path, "AKIDFILE")
    local registry = registry_of(server, nil, { AWS_REGION = "us-east-1",
      AWS_SHARED_CREDENTIALS_FILE = path })
    local _, _, kind = registry:decide(nil, clouds.request())
    assert.are.equal("auth", kind)
    assert.are.equal(2, #server.requests)
    assert.is_truthy(server.requests[2].headers.authorization:find("AKIDNEW1/", 1, true))
    assert.are.equal("wait", assert(registry:decide(nil, clouds.request())).tool)
    os.remove(path)
  end))
end)
