local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local clients = require("runtime.clients")
local json = require("runtime.json")
local replies = require("support.chat_replies")
local support = require("support")
local tools = require("runtime.tools")

local KEY = "gsk-0123456789-abcdefghij-WXYZ"
local WAIT = replies.call("wait", { ms = 60000 })

local TOOLS = {
  { name = "wait", description = "Waits.", schema = { type = "object",
    properties = { ms = { type = "integer" } }, required = { "ms" } } },
  { name = "take_snapshot", description = "Takes one.", schema = { type = "object",
    properties = json.object({}) } },
}

local function request_of(more)
  local request = {
    system = "You watch a node.",
    tools = TOOLS,
    messages = { { role = "user", text = "Now." } },
  }
  for name, value in pairs(more or {}) do
    request[name] = value
  end
  return request
end

local function registry_of(provider, options, env)
  options.model = options.model or (provider ~= "azure-openai" and "m-1" or nil)
  return assert(clients.new({
    config = { clients = { { name = "C", provider = provider, options = options } } },
    env = function(name)
      if env then
        return env[name]
      end
      return name:find("_KEY$") and KEY or nil
    end,
  }))
end

local function generic(url, options)
  options = options or {}
  options.base_url = url .. "/v1"
  options.api_key = options.api_key or KEY
  return registry_of("openai-generic", options)
end

local function with_server(list, body)
  return support.async(function()
    local server = anthropic_server.start({ replies = list })
    support.on_cleanup(function()
      server:stop()
    end)
    body(server)
  end)
end

-- The body that a provider would send.
local function body_of(provider, options, request, env)
  options.max_tokens, options.stream = options.max_tokens or 100, options.stream ~= false
  local module = require("runtime.providers." .. provider)
  local made = module.new(options, function(name)
    return (env or { OPENAI_API_KEY = KEY })[name]
  end)
  local call = assert(made:request(request or request_of()))
  return call.body, call, made
end

describe("a request of chat completions", function()
  it("forces one call and takes no two", with_server({ WAIT }, function(server)
    local result = assert(registry_of("openai", { base_url = server.url .. "/v1/" })
      :decide(nil, request_of()))
    assert.are.equal("wait", result.tool)
    assert.are.same({ ms = 60000 }, result.args)
    assert.are.same({ input = 100, output = 20 }, result.usage)
    local sent = server.requests[1]
    assert.are.equal("/v1/chat/completions", sent.path)
    assert.are.equal("Bearer " .. KEY, sent.headers.authorization)
    assert.are.equal("required", sent.body.tool_choice)
    assert.is_false(sent.body.parallel_tool_calls)
    assert.is_true(sent.body.stream)
    assert.are.same({ include_usage = true }, sent.body.stream_options)
    assert.are.equal(4096, sent.body.max_completion_tokens)
    assert.is_nil(sent.body.max_tokens)
    assert.are.same({ role = "system", content = "You watch a node." }, sent.body.messages[1])
    assert.is_truthy(sent.text:find('"properties":{}', 1, true))
  end))

  it("forces a tool by its name", function()
    local body = body_of("openai", { model = "m" }, request_of({ force = "wait" }))
    assert.are.same({ type = "function", ["function"] = { name = "wait" } }, body.tool_choice)
    assert.are.equal(2, #body.tools)
  end)

  it("has no options of a stream when none is asked for", function()
    local body = body_of("openai", { model = "m", stream = false })
    assert.is_false(body.stream)
    assert.is_nil(body.stream_options)
  end)

  it("carries calls and their results, whoever made them", function()
    local body = body_of("openai", { model = "m" }, request_of({ messages = {
      { role = "user", text = "One." },
      { role = "user", text = "Two." },
      { role = "assistant", text = "Looking.", call = { id = "t:1", name = "take_snapshot",
        args = {} } },
      { role = "tool", id = "t:1", name = "take_snapshot", text = "{}" },
      { role = "user", text = "Budget left: 3." },
      { role = "assistant", text = "", call = { name = "wait", args = { ms = 5 } } },
      { role = "tool", name = "wait", text = "too short", is_error = true },
    } }))
    table.remove(body.messages, 1)
    assert.are.same({
      { role = "user", content = "One.\n\nTwo." },
      { role = "assistant", content = "Looking.", tool_calls = { { id = "t_1", type = "function",
        ["function"] = { name = "take_snapshot", arguments = "{}" } } } },
      { role = "tool", tool_call_id = "t_1", content = "{}" },
      { role = "user", content = "Budget left: 3." },
      { role = "assistant", content = json.null, tool_calls = { { id = "call_6",
        type = "function", ["function"] = { name = "wait", arguments = '{"ms":5}' } } } },
      { role = "tool", tool_call_id = "call_6", content = "too short" },
    }, body.messages)
  end)

  it("is as Mistral wants it", function()
    local body = body_of("openai_generic", { model = "m", base_url = "https://api.mistral.ai/v1" },
      request_of({ messages = {
        { role = "user", text = "One." },
        { role = "assistant", call = { id = "toolu_01ABCdefGHIjkl", name = "wait",
          args = { ms = 5 } } },
        { role = "tool", id = "toolu_01ABCdefGHIjkl", name = "wait", text = "too short" },
        { role = "user", text = "Now." },
      } }), { MISTRAL_API_KEY = KEY })
    assert.are.equal("any", body.tool_choice)
    assert.is_nil(body.stream_options)
    assert.are.equal(100, body.max_tokens)
    local call, result = body.messages[3], body.messages[4]
    assert.matches("^%w%w%w%w%w%w%w%w%w$", call.tool_calls[1].id)
    assert.are.equal(call.tool_calls[1].id, result.tool_call_id)
    assert.are.equal("too short\n\nNow.", result.content)
    assert.is_nil(body.messages[5])
  end)

  it("gives a key of the environment to its own host alone", function()
    local env = { GROQ_API_KEY = KEY, OPENAI_API_KEY = KEY }
    local _, call = body_of("openai_generic",
      { model = "m", base_url = "https://api.groq.com/openai/v1" }, nil, env)
    assert.are.same({ "authorization: Bearer " .. KEY, "content-type: application/json" },
      call.headers)
    for _, base in ipairs({ "http://api.groq.com/v1", "https://api.groq.com.evil.test/v1",
      "https://api.groq.com:x@evil.test/v1",
      "http://127.0.0.1:8000/v1" }) do
      _, call = body_of("openai_generic", { model = "m", base_url = base }, nil, env)
      assert.are.same({ "content-type: application/json" }, call.headers)
    end
  end)

  it("needs the key of a known host", support.async(function()
    local registry = registry_of("openai-generic", { base_url = "https://api.x.ai/v1" }, {})
    local _, err, kind = registry:decide(nil, request_of())
    assert.are.equal("auth", kind)
    assert.are.equal("no key: XAI_API_KEY is not set", err)
    assert.are.equal("missing", registry:list()[1].key)
  end))

  it("takes the user's headers, limits and further fields", with_server({ WAIT }, function(server)
    assert(registry_of("openrouter", {
      base_url = server.url, referer = "https://example.org", title = "beamlens",
      temperature = 0, top_p = 0.5, max_tokens = 7, headers = { ["X-Y"] = "z" },
      extra = { provider = { sort = "price" } },
    }):decide(nil, request_of()))
    local sent = server.requests[1]
    assert.are.equal("https://example.org", sent.headers["http-referer"])
    assert.are.equal("beamlens", sent.headers["x-title"])
    assert.are.equal("z", sent.headers["x-y"])
    assert.are.equal(7, sent.body.max_tokens)
    assert.are.equal(0, sent.body.temperature)
    assert.are.equal(0.5, sent.body.top_p)
    assert.are.same({ sort = "price" }, sent.body.provider)
  end))

  it("names organization and project of OpenAI", function()
    local _, call = body_of("openai", { model = "m", organization = "org-1" }, nil,
      { OPENAI_API_KEY = KEY, OPENAI_PROJECT_ID = "proj-1", OPENAI_BASE_URL = "https://h/v1" })
    assert.are.equal("https://h/v1/chat/completions", call.url)
    assert.is_truthy(table.concat(call.headers, "\n"):find(
      "openai-organization: org-1\nopenai-project: proj-1", 1, true))
  end)
end)

describe("an address of Azure", function()
  local function call_of(options, env)
    options.model = options.model or nil
    local _, call = body_of("azure_openai", options, nil, env or { AZURE_OPENAI_API_KEY = KEY })
    return call
  end

  it("is built of resource and deployment", function()
    local call = call_of({ resource_name = "res", deployment_id = "gpt" })
    assert.are.equal("https://res.openai.azure.com/openai/deployments/gpt/chat/completions"
      .. "?api-version=2024-10-21", call.url)
    assert.are.same({ "api-key: " .. KEY, "content-type: application/json" }, call.headers)
  end)

  it("takes endpoint, version and token from the environment", function()
    local call = call_of({ deployment_id = "gpt" }, {
      AZURE_OPENAI_ENDPOINT = "https://res.openai.azure.com/",
      OPENAI_API_VERSION = "2025-01-01-preview",
      AZURE_OPENAI_AD_TOKEN = "tok",
    })
    assert.are.equal("https://res.openai.azure.com/openai/deployments/gpt/chat/completions"
      .. "?api-version=2025-01-01-preview", call.url)
    assert.are.same({ "authorization: Bearer tok", "content-type: application/json" },
      call.headers)
  end)

  it("may be a Foundry's, and one without versions", function()
    assert.are.equal("https://r.services.ai.azure.com/models/chat/completions"
      .. "?api-version=2024-05-01-preview", call_of({ model = "grok-4",
        base_url = "https://r.services.ai.azure.com/models",
        api_version = "2024-05-01-preview" }).url)
    assert.are.equal("https://r.openai.azure.com/openai/v1/chat/completions",
      call_of({ base_url = "https://r.openai.azure.com/openai/v1/", model = "gpt" }).url)
  end)
end)

describe("a server that refuses what it does not know", function()
  -- The refusals of real servers, and what the next request leaves out.
  local CASES = {
    { "parallel calls", 400, { message = "Unsupported parameter: 'parallel_tool_calls' is not "
      .. "supported with this model.", type = "invalid_request_error",
      param = "parallel_tool_calls", code = "unsupported_parameter" }, function(body)
        assert.is_nil(body.parallel_tool_calls)
        assert.are.equal("required", body.tool_choice)
      end },
    { "options of the stream", 422, { message = "body.stream_options: Extra inputs are not "
      .. "permitted" }, function(body)
        assert.is_nil(body.stream_options)
      end },
    { "the name of the limit", 400, { message = "Unsupported parameter: 'max_tokens' is not "
      .. "supported with this model. Use 'max_completion_tokens' instead.", param = "max_tokens",
      code = "unsupported_parameter" }, function(body)
        assert.is_nil(body.max_tokens)
        assert.are.equal(4096, body.max_completion_tokens)
      end },
    { "its word for the limit", 400, { message = "Unrecognized request argument supplied: "
      .. "max_tokens" }, function(body)
        assert.are.equal(4096, body.max_completion_tokens)
      end },
    { "the word of a forced choice", 400, { message = "Invalid value: 'required'. Supported values "
      .. "are: 'none' and 'auto'.", param = "tool_choice" }, function(body)
        assert.are.equal("auto", body.tool_choice)
      end },
    { "a forced choice", 400, { message = "Thinking mode does not support this tool_choice" },
      function(body)
        assert.are.equal("auto", body.tool_choice)
        assert.are.equal(2, #body.tools)
      end },
  }

  for _, case in ipairs(CASES) do
    it(("is asked without it from then on: %s"):format(case[1]), with_server({
      replies.refused(case[2], case[3]), WAIT, WAIT,
    }, function(server)
      local registry = generic(server.url)
      local result = assert(registry:decide(nil, request_of()))
      assert.are.equal("wait", result.tool)
      assert.are.equal(2, #server.requests)
      assert.are.equal(2, result.attempts)
      case[4](server.requests[2].body)
      assert(registry:decide(nil, request_of()))
      assert.are.equal(3, #server.requests)
      case[4](server.requests[3].body)
    end))
  end

  it("is asked for one tool by offering no other", with_server({
    replies.refused(400, { message = "tool_choice is not supported" }), WAIT,
  }, function(server)
    assert(generic(server.url):decide(nil, request_of({ force = "wait" })))
    local body = server.requests[2].body
    assert.are.equal("auto", body.tool_choice)
    assert.are.equal(1, #body.tools)
    assert.are.equal("wait", body.tools[1]["function"].name)
  end))

  it("is given up when it refuses everything", support.async(function()
    local server = anthropic_server.start({ on_request = function()
      return replies.refused(400, { message = "tool_choice, tools and parallel_tool_calls, "
        .. "stream_options and 'max_tokens' are not supported" })
    end })
    support.on_cleanup(function()
      server:stop()
    end)
    local _, _, kind = generic(server.url):decide(nil, request_of())
    assert.are.equal("invalid_request", kind)
    assert.is_true(#server.requests <= 6)
  end))

  for _, case in ipairs({
    { 400, { message = "Invalid schema for function 'wait': 'ms' is not supported",
      code = "invalid_function_parameters" } },
    { 400, { message = "messages: text is required" } },
    { 400, { message = "messages with role 'tool' must be a response to 'tool_calls'" } },
    { 400, { message = "'max_tokens' must be less than or equal to 2048", param = "max_tokens" } },
    { 401, { message = "tools are not supported for this key", code = "invalid_api_key" } },
    { 404, { message = "The model `tool-m` does not exist", code = "model_not_found" } },
    { 400, { message = "Tool choice is required, but model did not call a tool",
      code = "tool_use_failed" } },
  }) do
    it(("is not asked again for another mistake: %s"):format(case[2].message), with_server({
      replies.refused(case[1], case[2]), WAIT,
    }, function(server)
      assert.is_nil((generic(server.url):decide(nil, request_of())))
      assert.are.equal(1, #server.requests)
    end))
  end
end)

describe("a model without tools", function()
  local CALL = replies.text('Sure!\n```json\n{"tool": "wait", "ms": "60000",}\n```')

  -- Words of servers that have no tools for a model, or none at all.
  for _, case in ipairs({
    { 400, "registry.ollama.ai/library/gemma:2b does not support tools" },
    { 400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
      2 },
    { 500, "tools param requires --jinja flag" },
    { 404, "No endpoints found that support tool use." },
    { 400, "m-1 does not support Function Calling" },
    { 422, "body.tools: Extra inputs are not permitted" },
  }) do
    it(("gets them in the prompt, and again: %s"):format(case[2]), support.async(function()
      local server = anthropic_server.start({ on_request = function(request)
        return request.body.tools and replies.refused(case[1], { message = case[2] }) or CALL
      end })
      support.on_cleanup(function()
        server:stop()
      end)
      local registry = generic(server.url)
      local result = assert(registry:decide(nil, request_of()))
      assert.are.equal("wait", result.tool)
      assert.are.same({ ms = 60000 }, result.args)
      local asked = #server.requests
      assert.is_true(asked >= 2 and asked <= 4)
      local body = server.requests[asked].body
      assert.is_nil(body.tools)
      assert.is_nil(body.tool_choice)
      assert.is_nil(body.parallel_tool_calls)
      assert.is_truthy(body.messages[1].content:find('"tool": "take_snapshot"', 1, true))
      assert(registry:decide(nil, request_of()))
      assert.are.equal(asked + 1, #server.requests)
    end))
  end

  it("is one by its option", with_server({ CALL }, function(server)
    assert.are.equal("wait", assert(generic(server.url, { tools = false })
      :decide(nil, request_of())).tool)
    assert.are.equal(1, #server.requests)
    assert.is_nil(server.requests[1].body.tools)
  end))

  it("sees its calls and their results as text", with_server({ CALL }, function(server)
    assert(generic(server.url, { tools = false }):decide(nil, request_of({ messages = {
      { role = "user", text = "One." },
      { role = "assistant", call = { id = "a", name = "wait", args = { ms = 5 } } },
      { role = "tool", id = "a", name = "wait", text = "too short", is_error = true },
      { role = "user", text = "Go on." },
    } })))
    local messages = server.requests[1].body.messages
    table.remove(messages, 1)
    assert.are.same({
      { role = "user", content = "One." },
      { role = "assistant", content = '{"tool":"wait","ms":5}' },
      { role = "user", content = "Error of wait:\ntoo short\n\nGo on." },
    }, messages)
  end))

  local function kind_of(reply)
    local server = anthropic_server.start({ replies = { reply } })
    local result, err, kind = generic(server.url, { tools = false }):decide(nil, request_of())
    server:stop()
    return kind or result.tool, err
  end

  it("is not believed when its answer was cut", support.async(function()
    assert.are.equal("truncated",
      (kind_of(replies.text('{"tool": "wait", "ms": 60000}', "length"))))
    assert.are.equal("bad_tool_call", (kind_of(replies.text('{"tool": "wait", "ms": 60000'))))
    assert.are.equal("bad_tool_call", (kind_of(replies.text('{"tool": "wait", "no": "a'))))
  end))

  it("may choose one tool, and one that exists", support.async(function()
    local kind, err = kind_of(replies.text('{"tool": "wait", "ms": 60000}\n{"tool": "wait", '
      .. '"ms": 5000}'))
    assert.are.equal("bad_tool_call", kind)
    assert.are.equal("the model called wait and wait at once; one is allowed", err)
    kind, err = kind_of(replies.text('{"tool": "reboot"}'))
    assert.are.equal("bad_tool_call", kind)
    assert.are.equal('the model chose "reboot", which is no tool', err)
    assert.are.equal("no_tool_call", (kind_of(replies.text("I would wait {a while}."))))
  end))

  it("chooses what the tools of a watcher take", support.async(function()
    local text = '{"tool": "set_state", "reason": "Queues are short.", "state": "healthy"}'
    local server = anthropic_server.start({ replies = { replies.text(text) } })
    local request = request_of({ tools = tools.for_request() })
    local result = generic(server.url, { tools = false }):decide(nil, request)
    server:stop()
    assert.are.same({ reason = "Queues are short.", state = "healthy" },
      (assert(tools.validate(result.tool, result.args))))
  end))
end)

describe("a choice that nobody could force", function()
  local AUTO = { tool_choice = "auto" }

  it("may be made in words", with_server({
    replies.text('<think>{"name":"x"}</think><tool_call>{"name": "wait", "arguments": '
      .. '{"ms": 60000}}</tool_call>'),
  }, function(server)
    local result = assert(generic(server.url, AUTO):decide(nil, request_of()))
    assert.are.equal("wait", result.tool)
    assert.are.same({ ms = 60000 }, result.args)
  end))

  it("is none when the words choose nothing", with_server({ replies.text("All is well.") },
    function(server)
      local _, _, kind, detail = generic(server.url, AUTO):decide(nil, request_of())
      assert.are.equal("no_tool_call", kind)
      assert.are.equal("All is well.", detail.text)
    end))

  it("is read from words where a server may not keep to it, not from OpenAI's", with_server({
    replies.text('{"tool": "wait", "ms": 60000}'), replies.text('{"tool": "wait", "ms": 60000}'),
  }, function(server)
    assert.are.equal("wait", assert(generic(server.url):decide(nil, request_of())).tool)
    local _, _, kind = registry_of("openai", { base_url = server.url })
      :decide(nil, request_of())
    assert.are.equal("no_tool_call", kind)
  end))

  it("is none in thoughts", with_server({
    replies.text('Let me see.\n{"tool": "wait", "ms": 1}</think>\n\nAll is well.'),
    replies.text('<think>{"tool": "wait", "ms": 1}'),
  }, function(server)
    local registry = generic(server.url)
    local _, _, kind, detail = registry:decide(nil, request_of())
    assert.are.equal("no_tool_call", kind)
    assert.are.equal("All is well.", detail.text)
    _, _, kind = registry:decide(nil, request_of())
    assert.are.equal("no_tool_call", kind)
  end))

  it("must be the forced one, called or in words", with_server({
    replies.call("take_snapshot"), replies.text('{"tool": "take_snapshot"}'),
  }, function(server)
    for _, options in ipairs({ AUTO, { tools = false } }) do
      local _, err, kind = generic(server.url, options):decide(nil, request_of({ force = "wait" }))
      assert.are.equal("bad_tool_call", kind)
      assert.are.equal("the model called take_snapshot where wait was forced", err)
    end
  end))
end)

describe("an error of chat completions", function()
  it("shows no part of a key", support.async(function()
    for echoed, shown in pairs({
      ["Incorrect API key provided: " .. KEY .. "."] = "Incorrect API key provided: [key].",
      ["Incorrect API key: gsk-0123********WXYZ."] = "Incorrect API key: [key]",
      ["The key beginning with gsk-01234567 is wrong"] = "The key beginning with [key] is wrong",
      ["The key ending in WXYZ is wrong"] = "The key ending in [key] is wrong",
      ["The key ...abcdefghij-WXYZ is wrong"] = "The key ...[key] is wrong",
    }) do
      local server = anthropic_server.start({ replies = { replies.refused(401,
        { message = echoed, code = "invalid_api_key" }) } })
      local _, err, kind, detail = generic(server.url):decide(nil, request_of())
      server:stop()
      assert.are.equal("auth", kind)
      assert.are.equal(shown, err)
      assert.are.equal("invalid_api_key", detail.provider_code)
      assert.is_nil(json.encode(detail):find("WXYZ", 1, true))
    end
  end))

  for _, case in ipairs({
    { 400, { message = "Input is too long for this model" }, "context_length" },
    { 400, { message = "loaded with context length of only 4096 tokens" }, "context_length" },
    { 500, { message = "the request exceeds the available context size", type = "server_error" },
      "context_length" },
    { 413, { message = "Request too large for model m-1: Limit 6000, Requested 9000",
      code = "rate_limit_exceeded" }, "context_length" },
    { 402, { message = "Insufficient Balance" }, "quota" },
    { 403, { message = "flagged", code = 403, metadata = { reasons = { "violence" } } },
      "content_filter" },
    { 403, { message = "no", code = 403 }, "permission" },
    { 408, { message = "late" }, "timeout" },
    { 409, { message = "busy" }, "server" },
    { 425, { message = "early" }, "server" },
    { 502, { message = "Bad Gateway" }, "server" },
  }) do
    it(("with status %d is %s: %s"):format(case[1], case[3], case[2].message), with_server({
      replies.refused(case[1], case[2]),
    }, function(server)
      local _, _, kind, detail = generic(server.url):decide(nil, request_of())
      assert.are.equal(case[3], kind)
      local can_succeed = case[3] == "server" or case[3] == "timeout"
      assert.are.equal(can_succeed, detail.retryable)
    end))
  end

  it("of an unexpected shape is a failure and no error", support.async(function()
    for _, body in ipairs({
      "[]", "7", "null", "{}", '{"choices":7}', '{"choices":[]}', '{"choices":[{}]}',
      '{"choices":[{"message":7}]}',
      '{"choices":[{"message":{"tool_calls":[7]},"delta":{"tool_calls":[7]},'
        .. '"finish_reason":"stop"}]}',
    }) do
      local server = anthropic_server.start({ replies = { { body = body },
        { headers = { ["content-type"] = "text/event-stream" }, body = "data: " .. body .. "\n\n" },
        { status = 400, body = body } } })
      local registry = generic(server.url)
      for _ = 1, 3 do
        local ok, result, _, kind = async.pcall(registry.decide, registry, nil, request_of())
        assert.is_true(ok, result)
        assert.is_nil(result)
        assert.is_true(kind == "parse" or kind == "stream_cut" or kind == "invalid_request",
          body .. " is " .. tostring(kind))
      end
      server:stop()
    end
  end))

  it("says what the provider behind a router said", with_server({
    replies.refused(429, { message = "Provider returned error", code = 429,
      metadata = { provider_name = "P", raw = "m-1 is busy" } }),
  }, function(server)
    local _, err, kind, detail = registry_of("openrouter", { base_url = server.url })
      :decide(nil, request_of())
    assert.are.equal("rate_limit", kind)
    assert.are.equal("Provider returned error (P: m-1 is busy)", err)
    assert.are.equal("429", detail.provider_code)
  end))
end)
