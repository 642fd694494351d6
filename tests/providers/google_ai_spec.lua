local clouds = require("support.clouds")
local google_ai = require("runtime.providers.google_ai")
local json = require("runtime.json")
local support = require("support")

local KEY = "AIza-test-0123456789"
local WAIT = clouds.gemini_reply("wait", { ms = 10000 })

local function registry_of(server, options, env)
  options = options or {}
  options.model = options.model or "gemini-2.5-flash"
  options.base_url = server and server.url .. "/v1beta/"
  options.stream = options.stream or false
  return clouds.registry("google-ai", options, env or { GOOGLE_API_KEY = KEY })
end

local function body_of(more, options)
  options = options or {}
  options.model = options.model or "gemini-2.5-flash"
  options.max_tokens = options.max_tokens or 4096
  local provider = google_ai.new(options, function()
    return KEY
  end)
  return assert(provider:request(clouds.request(more))).body
end

describe("the request to google-ai", function()
  it("has its URL, headers and body as the API wants them", clouds.with_server({
    replies = { WAIT },
  }, function(server)
    local result = assert(registry_of(server):decide(nil, clouds.request()))
    assert.are.equal("wait", result.tool)
    assert.are.same({ ms = 10000 }, result.args)
    assert.are.equal("google-ai", result.provider)
    local sent = server.requests[1]
    assert.are.equal("POST", sent.method)
    assert.are.equal("/v1beta/models/gemini-2.5-flash:generateContent", sent.path)
    assert.are.equal(KEY, sent.headers["x-goog-api-key"])
    assert.are.equal("application/json", sent.headers["content-type"])
    assert.are.same({
      systemInstruction = { parts = { { text = "You watch a node." } } },
      contents = { { role = "user", parts = { { text = "Now." } } } },
      tools = { { functionDeclarations = {
        { name = "wait", description = "Waits.", parametersJsonSchema = clouds.TOOLS[1].schema },
        { name = "take_snapshot", description = "Takes one.",
          parametersJsonSchema = { type = "object", properties = {} } },
      } } },
      toolConfig = { functionCallingConfig = { mode = "ANY" } },
      generationConfig = { maxOutputTokens = 4096 },
    }, sent.body)
    assert.is_truthy(sent.text:find('"properties":{}', 1, true))
  end))

  it("asks for a stream by another address", clouds.with_server({
    replies = { WAIT },
  }, function(server)
    assert(registry_of(server, { stream = true }):decide(nil, clouds.request()))
    assert.are.equal("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
      server.requests[1].path)
  end))

  it("takes a model by its whole path, and Gemini's other variable", clouds.with_server({
    replies = { WAIT },
  }, function(server)
    assert(registry_of(server, { model = "tunedModels/mine" }, { GEMINI_API_KEY = "g-1\n" })
      :decide(nil, clouds.request()))
    assert.are.equal("/v1beta/tunedModels/mine:generateContent", server.requests[1].path)
    assert.are.equal("g-1", server.requests[1].headers["x-goog-api-key"])
  end))

  it("goes to Google without an address", function()
    local provider = google_ai.new({ model = "m", stream = true, max_tokens = 1 }, function() end)
    assert.are.equal("https://generativelanguage.googleapis.com/v1beta/models/m:"
      .. "streamGenerateContent?alt=sse", provider.url)
  end)

  it("takes options", function()
    local body = body_of({ force = "wait", max_tokens = 50 }, {
      temperature = 0, top_p = 0.5, top_k = 3,
      generationConfig = { thinkingConfig = { thinkingBudget = 0 } },
      safetySettings = { { category = "c", threshold = "t" } },
      extra = { cachedContent = "x" },
    })
    assert.are.same({ mode = "ANY", allowedFunctionNames = { "wait" } },
      body.toolConfig.functionCallingConfig)
    assert.are.same({ maxOutputTokens = 50, temperature = 0, topP = 0.5, topK = 3,
      thinkingConfig = { thinkingBudget = 0 } }, body.generationConfig)
    assert.are.same({ { category = "c", threshold = "t" } }, body.safetySettings)
    assert.are.equal("x", body.cachedContent)
  end)

  it("carries calls and their results, and merges neighbours of the same role", function()
    local contents = body_of({ messages = clouds.CONVERSATION }).contents
    assert.are.same({
      { role = "user", parts = { { text = "One." }, { text = "Two." } } },
      { role = "model", parts = { { text = "Looking." },
        { functionCall = { name = "take_snapshot", args = {} } } } },
      { role = "user", parts = {
        { functionResponse = { name = "take_snapshot", response = { result = "{}" } } },
        { text = "Budget left: 3." } } },
      { role = "model", parts = { { functionCall = { name = "wait", args = { ms = 5 } } } } },
      { role = "user", parts = {
        { functionResponse = { name = "wait", response = { error = "too short" } } } } },
    }, contents)
    assert.is_truthy(json.encode(contents):find('"args":{}', 1, true))
  end)

  it("gives a call back with the id and the signature that it came with", clouds.with_server({
    replies = {
      clouds.gemini_reply(nil, nil, { thoughtSignature = "c2ln",
        functionCall = { name = "wait", args = { ms = 1 }, id = "c-1" } }),
      WAIT,
    },
  }, function(server)
    local registry = registry_of(server, { model = "gemini-3-pro" })
    local call = assert(registry:decide(nil, clouds.request()))
    assert.are.equal("c-1", call.id)
    assert(registry:decide(nil, clouds.request({ messages = {
      { role = "user", text = "u" },
      { role = "assistant", call = { id = call.id, name = call.tool, args = call.args,
        origin = call.origin } },
      { role = "tool", name = "wait", text = "ok" },
    } })))
    local contents = server.requests[2].body.contents
    assert.are.same({ { functionCall = { name = "wait", args = { ms = 1 }, id = "c-1" },
      thoughtSignature = "c2ln" } }, contents[2].parts)
    assert.are.equal("c-1", contents[3].parts[1].functionResponse.id)
  end))

  it("says of another model's call that it has no signature, to models that want one", function()
    local origin = { model = "gemini-2.5-flash", signature = "b2xk", id = "c-1" }
    local function part_for(model)
      return body_of({ messages = { { role = "user", text = "u" },
        { role = "assistant", call = { name = "wait", args = { ms = 1 }, origin = origin } },
      } }, { model = model }).contents[2].parts[1]
    end
    assert.are.equal("b2xk", part_for("gemini-2.5-flash").thoughtSignature)
    assert.is_nil(part_for("gemini-2.0-flash").thoughtSignature)
    assert.is_nil(part_for("gemini-2.0-flash").functionCall.id)
    for _, model in ipairs({ "gemini-3-pro-preview", "gemini-3.1-pro", "models/gemini-10" }) do
      assert.are.equal("skip_thought_signature_validator", part_for(model).thoughtSignature)
    end
  end)

  it("is not made without a key, or with one that cannot be a header", support.async(function()
    local _, err, kind = registry_of(nil, nil, {}):decide(nil, clouds.request())
    assert.are.equal("auth", kind)
    assert.are.equal("no key: neither GOOGLE_API_KEY nor GEMINI_API_KEY is set", err)
    _, err, kind = registry_of(nil, nil, { GOOGLE_API_KEY = "a b" }):decide(nil, clouds.request())
    assert.are.equal("auth", kind)
    assert.are.equal("the key holds spaces or line breaks", err)
  end))
end)

describe("google-ai's errors", function()
  it("never show the key", clouds.with_server({
    replies = { { status = 400, body = json.encode({ error = { code = 400,
      message = "API key " .. KEY .. " not valid.", status = "INVALID_ARGUMENT",
      details = { { reason = "API_KEY_INVALID" } } } }) } },
  }, function(server)
    local _, err, kind, detail = registry_of(server):decide(nil, clouds.request())
    assert.are.equal("auth", kind)
    assert.are.equal("API key [key] not valid.", err)
    assert.are.equal(400, detail.http)
    assert.are.equal("INVALID_ARGUMENT", detail.provider_code)
    assert.is_nil(json.encode(detail):find(KEY, 1, true))
  end))

  it("are listed with the client, which knows whether its key is set", function()
    assert.are.equal("set", registry_of(nil):list()[1].key)
    assert.are.equal("missing", registry_of(nil, nil, {}):list()[1].key)
  end)
end)
