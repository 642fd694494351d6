-- What goes wrong between a client and a server, each fault by a real server on loopback: which
-- requests are made, after which pauses, and who answers in the end.

local anthropic_server = require("support.anthropic_server")
local clients = require("runtime.clients")
local clock = require("runtime.clock")
local frames = require("support.frames")
local json = require("runtime.json")
local support = require("support")

local WAIT = { tool = "wait", input = { ms = 10000 } }
local OVERLOADED = { status = 529, error = "overloaded_error", message = "Overloaded" }
-- Fri, 01 Jan 2027 00:00:00 GMT
local NOW_MS = 1798761600000

local function env(name)
  return (name:find("_KEY$") or name:find("BEARER")) and "sesame-0123456789" or nil
end

local function request()
  return {
    system = "s",
    tools = { { name = "wait", description = "d", schema = { type = "object" } } },
    messages = { { role = "user", text = "u" } },
  }
end

local function start_server(replies)
  local server = anthropic_server.start(type(replies) == "function"
    and { on_request = replies } or { replies = replies })
  support.on_cleanup(function()
    server:stop()
  end)
  return server
end

local function always(reply)
  return function()
    return reply
  end
end

-- A client with retries at the server of this address.
local function client_at(url, provider, more)
  local options = { model = "m", base_url = url,
    region = provider == "aws-bedrock" and "us-east-1" or nil }
  for name, value in pairs(more or {}) do
    options[name] = value
  end
  return { name = "First", provider = provider or "anthropic", retry_policy = "DefaultRetry",
    options = options }
end

-- A registry whose primary asks `first`, then a client that always answers; or `first` alone.
-- Pauses are noted, and a clock of the spec is moved by them, unless there is another. Nothing is
-- random: each is the shortest.
local function open(first, is_alone, own_clock)
  local second = not is_alone and start_server(always(WAIT))
  local list = { first }
  if second then
    list[2] = { name = "Second", provider = "anthropic",
      options = { model = "m", base_url = second.url } }
    list[3] = { name = "Main", provider = "fallback",
      options = { strategy = { "First", "Second" } } }
  end
  local pauses, moved = {}, clock.manual(NOW_MS)
  local registry = assert(clients.new({
    config = { primary = second and "Main" or "First", clients = list },
    env = env,
    clock = own_clock or moved,
    random = function()
      return 0
    end,
    sleep = function(ms)
      pauses[#pauses + 1] = ms
      moved.advance(ms)
    end,
  }))
  return registry, pauses, second
end

-- The first client answers in the end, after these pauses.
local function recovers(replies, pauses, provider, more)
  local server = start_server(replies)
  local registry, made = open(client_at(server.url, provider, more), true)
  local result = assert(registry:decide(nil, request()))
  assert.are.equal("wait", result.tool)
  assert.are.same(pauses, made)
  assert.are.equal(#pauses + 1, #server.requests)
end

-- The first client fails with this kind after so many requests; the second answers at once.
local function goes_on(first, server, kind, count)
  local registry, pauses, second = open(first)
  local result = assert(registry:decide(nil, request()))
  assert.are.equal("Second", result.client)
  assert.are.equal(1, #second.requests)
  assert.are.same({}, pauses)
  assert.are.equal(count or 1, #server.requests)
  local _, err, got, detail = registry:decide("First", request())
  assert.are.equal(kind, got)
  assert.is_nil(err:find("sesame", 1, true))
  return err, detail
end

describe("a client is asked again", function()
  it("after 529 and 529, each time after a second at least", support.async(function()
    recovers({ OVERLOADED, OVERLOADED, WAIT }, { 1000, 1000 })
  end))

  for _, status in ipairs({ 408, 409, 425, 429, 500, 502, 504 }) do
    it("after " .. status, support.async(function()
      recovers({ { status = status, body = "{}" }, WAIT }, { 0 })
    end))
  end

  it("after an error inside a good stream", support.async(function()
    local message = anthropic_server.stream_text({ id = "m", type = "message", role = "assistant",
      model = "m", stop_reason = "tool_use", usage = { input_tokens = 1, output_tokens = 1 },
      content = { { type = "tool_use", id = "t", name = "wait", input = { ms = 1 } } } })
    local start = assert(message:match("^(.*)event: message_delta"))
    recovers({ { headers = { ["content-type"] = "text/event-stream" }, chunk_bytes = 40,
      body = start .. "event: error\ndata: " .. json.encode({ type = "error",
        error = { type = "overloaded_error", message = "Overloaded" } }) .. "\n\n" }, WAIT },
      { 1000 })
  end))

  it("after a stream that was cut", support.async(function()
    recovers({ { cut = true, tool = "wait", input = { ms = 1 } }, WAIT }, { 0 })
  end))

  it("after a frame with a wrong checksum", support.async(function()
    local function event(kind, body)
      return frames.frame({ { ":message-type", "event" }, { ":event-type", kind },
        { ":content-type", "application/json" } }, json.encode(body))
    end
    local stream = event("messageStart", { role = "assistant" })
      .. event("contentBlockStart", { contentBlockIndex = 0,
        start = { toolUse = { toolUseId = "t1", name = "wait" } } })
      .. event("contentBlockDelta", { contentBlockIndex = 0,
        delta = { toolUse = { input = '{"ms":10000}' } } })
      .. event("contentBlockStop", { contentBlockIndex = 0 })
      .. event("messageStop", { stopReason = "tool_use" })
      .. event("metadata", { usage = { inputTokens = 1, outputTokens = 1 } })
    local reply = { headers = { ["content-type"] = "application/vnd.amazon.eventstream" },
      body = stream, chunk_bytes = 30 }
    local bad = { headers = reply.headers, chunk_bytes = 30,
      body = (stream:gsub('{\\"ms\\":10000}', '{\\"ms\\":90000}')) }
    assert.are_not.equal(stream, bad.body)
    recovers({ bad, reply }, { 0 }, "aws-bedrock")
  end))

  it("after an HTML page of a proxy", support.async(function()
    recovers({ { status = 502, body = "<html><h1>502 Bad Gateway</h1></html>",
      headers = { ["content-type"] = "text/html" } }, WAIT }, { 0 })
  end))

  it("after a server that accepts and says nothing", support.async(function()
    recovers({ { hang = true }, WAIT }, { 0 }, nil, { idle_timeout_ms = 2000 })
  end))

  it("after a connection that was refused", support.async(function()
    local server = anthropic_server.start({})
    server:stop()
    local registry, pauses = open(client_at(server.url), true)
    local _, _, kind, detail = registry:decide(nil, request())
    assert.are.same({ "connect", 4 }, { kind, detail.attempts })
    assert.are.same({ 0, 0, 0 }, pauses)
  end))
end)

describe("a client is asked again when its server says so", function()
  local function limited(headers, body)
    return { status = 429, headers = headers, body = body or "{}" }
  end

  for _, case in ipairs({
    { "in seconds", { ["retry-after"] = "41" }, 41000 },
    { "in parts of a second", { ["retry-after"] = "1.5" }, 1500 },
    { "in milliseconds", { ["retry-after-ms"] = "250", ["retry-after"] = "9" }, 250 },
    { "in no milliseconds but in seconds", { ["retry-after-ms"] = "0", ["retry-after"] = "1" },
      1000 },
    { "by a date", { ["retry-after"] = "Fri, 01 Jan 2027 00:00:30 GMT" }, 30000 },
    { "by a time of ISO 8601", { ["retry-after"] = "2027-01-01T00:00:30Z" }, 30000 },
    { "by a duration", { ["retry-after"] = "1m0.5s" }, 60500 },
    { "by a limit's duration", { ["x-ratelimit-remaining-tokens"] = "0",
      ["x-ratelimit-reset-tokens"] = "6.5s" }, 6500 },
    { "by a limit's time", { ["anthropic-ratelimit-requests-remaining"] = "0",
      ["anthropic-ratelimit-requests-reset"] = "2027-01-01T00:00:20Z" }, 20000 },
  }) do
    it(case[1], support.async(function()
      recovers({ limited(case[2]), WAIT }, { case[3] })
    end))
  end

  it("in its words", support.async(function()
    local server = start_server({ limited(nil, json.encode({ error = {
      code = "rate_limit_exceeded", message = "Please try again in 1m2.5s." } })) })
    local registry, pauses = open(client_at(server.url, "openai"), true)
    registry:decide(nil, request())
    assert.are.same({ 62500 }, pauses)
  end))

  it("in its error's details", support.async(function()
    local server = start_server({ limited(nil, json.encode({ error = { code = 429,
      status = "RESOURCE_EXHAUSTED", message = "Quota exceeded", details = { {
        ["@type"] = "type.googleapis.com/google.rpc.RetryInfo", retryDelay = "34.4s" } } } })) })
    local registry, pauses = open(client_at(server.url, "google-ai"), true)
    registry:decide(nil, request())
    assert.are.same({ 34400 }, pauses)
  end))

  it("but the next one at once when that is too late", support.async(function()
    local server = start_server(always(limited({ ["retry-after"] = "3600" })))
    local _, detail = goes_on(client_at(server.url), server, "rate_limit")
    -- The next decision does not ask it either.
    assert.are.same({ true, 300000, 1 },
      { detail.not_asked, detail.retry_after_ms, #server.requests })
  end))
end)

describe("the next client is asked at once", function()
  for status, kind in pairs({ [400] = "invalid_request", [401] = "auth", [403] = "permission",
    [404] = "not_found" }) do
    it("after " .. status, support.async(function()
      local server = start_server(always({ status = status, body = "{}",
        headers = { ["retry-after"] = "1" } }))
      goes_on(client_at(server.url), server, kind)
    end))
  end

  it("after a quota that is spent, although the server recommends to try again",
    support.async(function()
      local server = start_server(always({ status = 429,
        headers = { ["x-should-retry"] = "true", ["retry-after"] = "1" },
        body = json.encode({ error = { message = "You exceeded your current quota.",
          type = "insufficient_quota", code = "insufficient_quota" } }) }))
      goes_on(client_at(server.url, "openai"), server, "quota")
    end))

  it("after a redirect, which does not get the key", support.async(function()
    local other = start_server(always(WAIT))
    for _, status in ipairs({ 301, 302, 307, 308 }) do
      local server = start_server(always({ status = status, body = "",
        headers = { location = other.url .. "/v1/messages" } }))
      local err = goes_on(client_at(server.url), server, "invalid_request")
      assert.is_truthy(err:find("redirects to " .. other.url, 1, true), err)
    end
    assert.are.equal(0, #other.requests)
  end))

  it("after a body of 100 MB, of which little is read", support.async(function()
    local body = ("x"):rep(2 ^ 20):rep(100)
    for content_type, lead in pairs({ ["application/json"] = "{", ["text/event-stream"] = "data: ",
    }) do
      local server = start_server(always({ body = lead .. body, chunk_bytes = 2 ^ 18,
        headers = { ["content-type"] = content_type } }))
      local before_kb = collectgarbage("count")
      local registry, _, second = open(client_at(server.url))
      assert.are.equal("Second", assert(registry:decide(nil, request())).client)
      assert.is_true(collectgarbage("count") - before_kb < 80 * 1024)
      assert.are.equal(1, #second.requests)
      assert.is_true(#server.requests <= 4)
    end
  end))
end)

describe("the time of a decision is kept", function()
  -- What a server of this reply leaves of 8 s to the second client, by the system's clock.
  local function leaves_time(reply, more)
    local server = start_server(always(reply))
    local first = client_at(server.url, nil, more)
    local registry, _, second = open(first, false, clock.system())
    local result = assert(registry:decide(nil, request(), { timeout_ms = 8000 }))
    assert.are.equal("Second", result.client)
    assert.are.equal(1, #second.requests)
    local _, _, kind = registry:decide("First", request(), { timeout_ms = 300 })
    assert.are.equal("timeout", kind)
  end

  it("with a server that sends byte after byte", support.async(function()
    leaves_time({ tool = "wait", input = { ms = 1 }, chunk_bytes = 1, pause_ms = 100 },
      { idle_timeout_ms = 6000 })
  end))

  it("with a server that says nothing", support.async(function()
    leaves_time({ hang = true })
  end))
end)
