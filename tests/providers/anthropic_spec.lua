local anthropic = require("runtime.providers.anthropic")
local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local clients = require("runtime.clients")
local json = require("runtime.json")
local support = require("support")
local uv = require("luv")

local KEY = "sk-ant-test-0123456789"

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
    meta = { watcher = "beam", domain = "beam", node = "t1@localhost", trace_id = ("0"):rep(32) },
  }
  for name, value in pairs(more or {}) do
    request[name] = value
  end
  return request
end

-- A registry with one client at this address, without retries.
local function registry_of(url, options, env)
  options = options or {}
  options.model = options.model or "claude-haiku-4-5-20251001"
  options.base_url = url
  return assert(clients.new({
    config = {
      primary = "C",
      clients = { { name = "C", provider = "anthropic", options = options } },
    },
    env = function(name)
      return (env or { ANTHROPIC_API_KEY = KEY })[name]
    end,
  }))
end

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

local WAIT = { tool = "wait", input = { ms = 10000 } }

describe("the request to anthropic", function()
  local function body_of(request, options)
    local provider = anthropic.new(options or { model = "m", max_tokens = 100, stream = true },
      function()
        return KEY
      end)
    return assert(provider:request(request)).body
  end

  it("has its URL, headers and body as the API wants them", with_server({
    replies = { WAIT },
  }, function(server)
    assert(registry_of(server.url .. "/"):decide(nil, request_of()))
    local sent = server.requests[1]
    assert.are.equal("POST", sent.method)
    assert.are.equal("/v1/messages", sent.path)
    assert.are.equal(KEY, sent.headers["x-api-key"])
    assert.are.equal("2023-06-01", sent.headers["anthropic-version"])
    assert.are.equal("application/json", sent.headers["content-type"])
    assert.are.equal("claude-haiku-4-5-20251001", sent.body.model)
    assert.are.equal(4096, sent.body.max_tokens)
    assert.is_true(sent.body.stream)
    assert.are.same({ { type = "text", text = "You watch a node.",
      cache_control = { type = "ephemeral" } } }, sent.body.system)
    assert.are.same({ type = "any", disable_parallel_tool_use = true }, sent.body.tool_choice)
    assert.are.equal("wait", sent.body.tools[1].name)
    assert.are.same(TOOLS[1].schema, sent.body.tools[1].input_schema)
    assert.is_nil(sent.body.tools[1].cache_control)
    assert.are.same({ type = "ephemeral" }, sent.body.tools[2].cache_control)
    assert.is_truthy(sent.text:find('"properties":{}', 1, true))
    assert.are.same({ { role = "user", content = { { type = "text", text = "Now." } } } },
      sent.body.messages)
  end))

  it("is the same bytes for the same question, so that the prompt cache holds", with_server({
    replies = { WAIT, WAIT },
  }, function(server)
    local registry = registry_of(server.url)
    assert(registry:decide(nil, request_of()))
    assert(registry:decide(nil, request_of()))
    assert.are.equal(server.requests[1].text, server.requests[2].text)
  end))

  it("can force one tool", function()
    assert.are.same({ type = "tool", name = "wait", disable_parallel_tool_use = true },
      body_of(request_of({ force = "wait" })).tool_choice)
  end)

  it("forces nothing where the model refuses it, or the client says so", function()
    local auto = { type = "auto", disable_parallel_tool_use = true }
    for _, options in ipairs({ { model = "claude-opus-5-5" }, { model = "claude-sonnet-5-5" },
      { model = "claude-fable-5-1" }, { model = "claude-haiku-4-5", tool_choice = "auto" } }) do
      for _, force in ipairs({ false, "wait" }) do
        assert.are.same(auto, body_of(request_of({ force = force or nil }), options).tool_choice)
      end
    end
    assert.are.equal("any", body_of(request_of(), { model = "claude-opus-5-5",
      tool_choice = "any" }).tool_choice.type)
    assert.are.equal("any", body_of(request_of(), { model = "claude-opus-4-5" }).tool_choice.type)
  end)

  it("carries calls and their results, and merges neighbours of the same role", function()
    local messages = body_of(request_of({ messages = {
      { role = "user", text = "One." },
      { role = "user", text = "Two." },
      { role = "assistant", text = "Looking.", call = { id = "t:1", name = "take_snapshot",
        args = {} } },
      { role = "tool", id = "t:1", name = "take_snapshot", text = "{}" },
      { role = "user", text = "Budget left: 3." },
      { role = "assistant", text = "", call = { name = "wait", args = { ms = 5 } } },
      { role = "tool", name = "wait", text = "too short", is_error = true },
    } })).messages
    assert.are.same({
      { role = "user", content = { { type = "text", text = "One." },
        { type = "text", text = "Two." } } },
      { role = "assistant", content = { { type = "text", text = "Looking." },
        { type = "tool_use", id = "t_1", name = "take_snapshot", input = {} } } },
      { role = "user", content = { { type = "tool_result", tool_use_id = "t_1", content = "{}" },
        { type = "text", text = "Budget left: 3." } } },
      { role = "assistant", content = { { type = "tool_use", id = "call_6", name = "wait",
        input = { ms = 5 } } } },
      { role = "user", content = { { type = "tool_result", tool_use_id = "call_6",
        content = "too short", is_error = true } } },
    }, messages)
    assert.is_truthy(json.encode(messages):find('"input":{}', 1, true))
  end)

  it("takes options: plain answers, limits, headers and further fields", with_server({
    replies = { WAIT },
  }, function(server)
    local result = assert(registry_of(server.url .. "/v1", {
      stream = false,
      max_tokens = 77,
      temperature = 0,
      headers = { ["anthropic-beta"] = "b1", ["X-Api-Key"] = "of-the-proxy" },
      extra = { service_tier = "auto" },
    }):decide(nil, request_of()))
    assert.are.equal("wait", result.tool)
    local sent = server.requests[1]
    assert.are.equal("/v1/messages", sent.path)
    assert.is_false(sent.body.stream)
    assert.are.equal(77, sent.body.max_tokens)
    assert.are.equal(0, sent.body.temperature)
    assert.are.equal("auto", sent.body.service_tier)
    assert.are.equal("b1", sent.headers["anthropic-beta"])
    assert.are.equal("of-the-proxy", sent.headers["x-api-key"])
  end))

  it("takes address and bearer token from the environment", with_server({
    replies = { WAIT },
  }, function(server)
    assert(registry_of(nil, nil, {
      ANTHROPIC_BASE_URL = server.url,
      ANTHROPIC_AUTH_TOKEN = "tok\n",
    }):decide(nil, request_of()))
    assert.are.equal("Bearer tok", server.requests[1].headers.authorization)
    assert.is_nil(server.requests[1].headers["x-api-key"])
  end))

  it("is not made without a key", support.async(function()
    local result, err, kind = registry_of("http://127.0.0.1:1", nil, {}):decide(nil, request_of())
    assert.is_nil(result)
    assert.are.equal("auth", kind)
    assert.are.equal("no key: ANTHROPIC_API_KEY is not set", err)
  end))
end)

describe("anthropic's answer", function()
  for _, stream in ipairs({ true, false }) do
    it(("is one call with usage and cost (stream = %s)"):format(tostring(stream)), with_server({
      replies = { { tool = "wait", input = { ms = 30000, reason = "ü😀" }, text = "Calm.",
        id = "toolu_x", usage = { input_tokens = 100, output_tokens = 20,
          cache_read_input_tokens = 1000, cache_creation_input_tokens = 10 } } },
    }, function(server)
      local result = assert(registry_of(server.url, { stream = stream }):decide(nil, request_of()))
      assert.are.equal("wait", result.tool)
      assert.are.same({ ms = 30000, reason = "ü😀" }, result.args)
      assert.are.equal("toolu_x", result.id)
      assert.are.equal("Calm.", result.text)
      assert.are.equal("tool_use", result.stop)
      assert.are.same({ input = 100, output = 20, cache_read = 1000, cache_write = 10 },
        result.usage)
      assert.is_true(math.abs(result.cost_usd - 312.5e-6) < 1e-12)
      assert.are.equal("C", result.client)
      assert.are.equal("anthropic", result.provider)
      assert.are.equal("claude-haiku-4-5-20251001", result.model)
      assert.are.equal("req_test", result.request_id)
    end))
  end

  it("has {} as the arguments of a call without any", with_server({
    replies = { { tool = "take_snapshot" } },
  }, function(server)
    local result = assert(registry_of(server.url):decide(nil, request_of()))
    assert.are.same({}, result.args)
    assert.are.equal("{}", json.encode(result.args))
  end))

  local function failure_of(reply, options)
    local server = anthropic_server.start({ replies = { reply } })
    local result, err, kind, detail = registry_of(server.url, options):decide(nil, request_of())
    server:stop()
    assert.is_nil(result)
    assert.are.equal(err, detail.message)
    assert.are.equal(kind, detail.kind)
    return detail
  end

  it("is refused with two calls, however good each is", support.async(function()
    local detail = failure_of({ calls = { { "wait", { ms = 1 } }, { "take_snapshot" } } })
    assert.are.equal("bad_tool_call", detail.kind)
    assert.is_false(detail.retryable)
    assert.are.equal("the model called 2 tools at once (wait, take_snapshot); one is allowed",
      detail.message)
    assert.are.equal(50, detail.usage.output)
    assert.is_true(detail.cost_usd > 0)
  end))

  it("is refused without a call, with what the model wrote", support.async(function()
    local detail = failure_of({ text = "All is well." })
    assert.are.equal("no_tool_call", detail.kind)
    assert.are.equal("All is well.", detail.text)
  end))

  it("is refused when cut at max_tokens, even if the call looks whole", support.async(function()
    local detail = failure_of({ tool = "wait", input = { ms = 1 }, stop_reason = "max_tokens" })
    assert.are.equal("truncated", detail.kind)
    assert.is_false(detail.retryable)
  end))

  it("counts by its call, not by its stop reason", with_server({
    replies = { { tool = "wait", input = { ms = 1 }, stop_reason = "end_turn" } },
  }, function(server)
    assert.are.equal("wait", assert(registry_of(server.url):decide(nil, request_of())).tool)
  end))

  it("is refused with a stop reason that nobody knows", support.async(function()
    assert.are.equal("stream_cut",
      failure_of({ tool = "wait", input = {}, stop_reason = "novel" }).kind)
  end))

  it("is a cut stream when the connection ends first", support.async(function()
    local detail = failure_of({ cut = true, tool = "wait", input = { ms = 1 } })
    assert.are.equal("stream_cut", detail.kind)
    assert.is_true(detail.retryable)
  end))

  it("is a timeout when the server falls silent", support.async(function()
    local detail = failure_of({ hang = true }, { idle_timeout_ms = 100 })
    assert.are.equal("timeout", detail.kind)
    assert.is_true(detail.retryable)
  end))

  it("is connect when nobody listens", support.async(function()
    local server = anthropic_server.start({})
    server:stop()
    local _, _, kind, detail = registry_of(server.url):decide(nil, request_of())
    assert.are.equal("connect", kind)
    assert.is_true(detail.retryable)
  end))

  it("is no event stream just because one was asked for", support.async(function()
    local detail = failure_of({ status = 502, body = "<html>Bad Gateway</html>",
      headers = { ["content-type"] = "text/html" } })
    assert.are.equal("server", detail.kind)
    assert.are.equal(502, detail.http)
    assert.are.equal("HTTP 502", detail.message)
    assert.matches("^HTTP 404 at http://127%.0%.0%.1:%d+/v1/messages; check base_url and model$",
      failure_of({ status = 404, body = "<html>nginx</html>" }).message)
    local page = failure_of({ body = "<html>Hello</html>",
      headers = { ["content-type"] = "text/html; charset=utf-8" } })
    assert.are.equal("parse", page.kind)
    assert.are.equal("the answer is no JSON object but text/html; check base_url", page.message)
    assert.are.equal("the answer is empty; check base_url",
      failure_of({ headers = { ["content-type"] = "application/json" }, body = " " }).message)
  end))

  local function stream_of(...)
    local events = {}
    for i, data in ipairs({ ... }) do
      events[i] = ("data: %s\n\n"):format(data)
    end
    return { body = table.concat(events), headers = { ["content-type"] = "text/event-stream" } }
  end

  local START = '{"type":"message_start","message":{"id":"m","usage":{"input_tokens":1}}}'
  local CALL = '{"type":"content_block_start","index":0,"content_block":{"type":"tool_use",'
    .. '"id":"a","name":"wait","input":{"ms":7}}}'
  local STOP = '{"type":"message_delta","delta":{"stop_reason":"tool_use"}}'

  it("of an unexpected shape is a failure and no error", support.async(function()
    for _, reply in ipairs({
      stream_of("[1,2]"), stream_of("null"), stream_of("7"), stream_of("{broken"),
      stream_of('{"type":"message_start"}'),
      stream_of(START, '{"type":"content_block_start","index":0}'),
      stream_of(START, '{"type":"content_block_delta","index":3,"delta":{"type":"text_delta"}}'),
      stream_of(START, '{"type":"content_block_delta","index":3}', '{"type":"message_stop"}'),
      stream_of(START, '{"type":"content_block_start","index":0,"content_block":{"type":"text"}}',
        '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":{}}}',
        '{"type":"message_stop"}'),
      { body = "[]" }, { body = "7" }, { body = "null" }, { body = "{}" },
      { body = '{"type":"message","content":7}' },
      { body = '{"type":"message","content":[7],"stop_reason":"tool_use"}' },
    }) do
      local kind = failure_of(reply).kind
      assert.is_true(kind == "parse" or kind == "stream_cut", reply.body .. " is " .. kind)
    end
    assert.are.equal("bad_tool_call", failure_of(stream_of(START,
      '{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","name":"wait"}}',
      '{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta",'
        .. '"partial_json":"[1]"}}',
      '{"type":"message_delta","delta":{"stop_reason":"tool_use"}}',
      '{"type":"message_stop"}')).kind)
  end))

  it("keeps arguments that came whole in the start of the block", with_server({
    replies = { {
      headers = { ["content-type"] = "text/event-stream" },
      body = 'data: {"type":"message_start","message":{"id":"m","usage":{}}}\n\n'
        .. 'data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use",'
        .. '"id":"a","name":"wait","input":{"ms":7}}}\n\n'
        .. 'data: : keepalive\n\ndata: {"type":"novel"}\n\n'
        .. 'data: {"type":"message_delta","delta":{"stop_reason":"tool_use"}}\n\n'
        .. 'data: {"type":"message_stop"}\n\ndata: [DONE]\n\n',
    } },
  }, function(server)
    assert.are.same({ ms = 7 }, assert(registry_of(server.url):decide(nil, request_of())).args)
  end))

  it("is told by its first byte when the server names no type", support.async(function()
    local plain = { headers = { ["content-type"] = "" }, body = ' {"type":"message","content":[],'
      .. '"stop_reason":"refusal"}' }
    assert.are.equal("refusal", failure_of(plain).kind)
    local stream = stream_of(START, CALL)
    stream.headers["content-type"] = ""
    assert.are.equal("stream_cut", failure_of(stream).kind)
  end))

  it("does not count without the end of the message, even with its stop reason",
    support.async(function()
      assert.are.equal("stream_cut", failure_of(stream_of(START, CALL, STOP)).kind)
    end))

  it("survives a start that is repeated in its middle", with_server({
    replies = { stream_of(START, CALL, START, STOP, '{"type":"message_stop"}') },
  }, function(server)
    assert.are.equal(7, assert(registry_of(server.url):decide(nil, request_of())).args.ms)
  end))

  it("maps every error to its kind", support.async(function()
    for _, case in ipairs({
      { 400, "invalid_request_error", "tools.0: bad", "invalid_request", false },
      { 400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum",
        "context_length", false },
      { 400, "invalid_request_error", "Your credit balance is too low", "quota", false },
      { 401, "authentication_error", "invalid x-api-key", "auth", false },
      { 402, "billing_error", "pay", "quota", false },
      { 403, "permission_error", "no", "permission", false },
      { 404, "not_found_error", "model: x", "not_found", false },
      { 413, "request_too_large", "big", "context_length", false },
      { 429, "rate_limit_error", "slow", "rate_limit", true },
      { 500, "api_error", "oops", "server", true },
      { 503, "novel_error", "later", "overloaded", true },
      { 529, "overloaded_error", "Overloaded", "overloaded", true },
    }) do
      local detail = failure_of({ status = case[1], error = case[2], message = case[3] })
      assert.are.equal(case[4], detail.kind)
      assert.are.equal(case[5], detail.retryable)
      assert.are.equal(case[3], detail.message)
      assert.are.equal(case[2], detail.provider_code)
      assert.are.equal(case[1], detail.http)
      assert.are.equal("req_test", detail.request_id)
    end
  end))

  it("says when to come back, and whether at all", support.async(function()
    local function limited(headers)
      return failure_of({ status = 429, error = "rate_limit_error", headers = headers })
    end
    assert.are.equal(1500, limited({ ["retry-after"] = "1.5" }).retry_after_ms)
    assert.are.equal(250, limited({ ["retry-after-ms"] = "250", ["retry-after"] = "9" })
      .retry_after_ms)
    assert.are.equal(1000, limited({ ["retry-after-ms"] = "0", ["retry-after"] = "1" })
      .retry_after_ms)
    assert.is_nil(limited({}).retry_after_ms)
    local s = uv.gettimeofday()
    local at = limited({ ["retry-after"] = os.date("!%a, %d %b %Y %H:%M:%S GMT", s + 100) })
    assert.is_true(at.retry_after_ms > 90000 and at.retry_after_ms <= 100000)
    assert.is_false(limited({ ["x-should-retry"] = "false" }).retryable)
    assert.is_true(failure_of({ status = 400, error = "invalid_request_error",
      headers = { ["x-should-retry"] = "true" } }).retryable)
  end))

  it("may be an error although the status is good", support.async(function()
    local detail = failure_of({ status = 200, error = "overloaded_error", message = "Overloaded" })
    assert.are.equal("overloaded", detail.kind)
    assert.is_true(detail.retryable)
  end))

  it("never shows a key that the server echoes", support.async(function()
    local detail = failure_of({ status = 401, error = "authentication_error",
      message = "bad key " .. KEY .. " or sk-other-abc123\nsee docs" })
    assert.are.equal("bad key [key] or [key] see docs", detail.message)
    local proxied = failure_of({ status = 403, error = "permission_error",
      message = "Bearer sesame-open is refused" },
      { headers = { authorization = "Bearer sesame-open" } })
    assert.are.equal("[key] is refused", proxied.message)
  end))
end)
