local anthropic_server = require("support.anthropic_server")
local clients = require("runtime.clients")
local json = require("runtime.json")
local ollama = require("runtime.providers.ollama")
local replies = require("support.chat_replies")
local support = require("support")

local TOOLS = {
  { name = "wait", description = "Waits.", schema = { type = "object",
    properties = { ms = { type = "integer" } }, required = { "ms" } } },
  { name = "take_snapshot", description = "Takes one.", schema = { type = "object",
    properties = json.object({}) } },
}
local WAIT = replies.ollama({ role = "assistant", content = "", tool_calls = { {
  ["function"] = { name = "wait", arguments = { ms = 60000 } } } } })

local function request_of(more)
  local request = { system = "You watch a node.", tools = TOOLS,
    messages = { { role = "user", text = "Now." } } }
  for name, value in pairs(more or {}) do
    request[name] = value
  end
  return request
end

local function registry_of(url, options, env)
  options = options or {}
  options.model, options.base_url = "m-1", url
  return assert(clients.new({
    config = { clients = { { name = "C", provider = "ollama", options = options } } },
    env = function(name)
      return (env or {})[name]
    end,
  }))
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

describe("a request to Ollama", function()
  it("is its own API's, with the size of the context", with_server({ WAIT }, function(server)
    local result = assert(registry_of(server.url, { context_tokens = 8192, temperature = 0,
      think = false, keep_alive = "10m" }):decide(nil, request_of()))
    assert.are.equal("wait", result.tool)
    assert.are.same({ ms = 60000 }, result.args)
    assert.are.same({ input = 100, output = 20 }, result.usage)
    local sent = server.requests[1]
    assert.are.equal("/api/chat", sent.path)
    assert.is_nil(sent.headers.authorization)
    assert.are.same({ num_ctx = 8192, num_predict = 4096, temperature = 0 }, sent.body.options)
    assert.is_false(sent.body.think)
    assert.are.equal("10m", sent.body.keep_alive)
    assert.is_true(sent.body.stream)
    assert.is_nil(sent.body.tool_choice)
    assert.is_nil(sent.body.format)
    assert.are.equal(2, #sent.body.tools)
  end))

  it("carries calls as objects and results by the tool's name", with_server({ WAIT },
    function(server)
      assert(registry_of(server.url .. "/v1"):decide(nil, request_of({ messages = {
        { role = "user", text = "One." },
        { role = "assistant", call = { id = "a", name = "take_snapshot", args = {} } },
        { role = "tool", id = "a", name = "take_snapshot", text = "{}" },
        { role = "user", text = "Two." },
        { role = "user", text = "Three." },
      } })))
      local sent = server.requests[1]
      assert.are.equal("/api/chat", sent.path)
      assert.are.same({
        { role = "system", content = "You watch a node." },
        { role = "user", content = "One." },
        { role = "assistant", content = "", tool_calls = { { ["function"] = {
          name = "take_snapshot", arguments = {} } } } },
        { role = "tool", tool_name = "take_snapshot", content = "{}" },
        { role = "user", content = "Two.\n\nThree." },
      }, sent.body.messages)
      assert.is_truthy(sent.text:find('"arguments":{}', 1, true))
    end))

  it("offers a forced tool alone", with_server({ WAIT }, function(server)
    assert(registry_of(server.url):decide(nil, request_of({ force = "wait" })))
    assert.are.equal(1, #server.requests[1].body.tools)
  end))

  it("goes where OLLAMA_HOST says", function()
    for host, url in pairs({
      [""] = "http://127.0.0.1:11434/api/chat",
      ["0.0.0.0"] = "http://127.0.0.1:11434/api/chat",
      ["0.0.0.0:8080"] = "http://127.0.0.1:8080/api/chat",
      ["gpu1"] = "http://gpu1:11434/api/chat",
      ["gpu1:80"] = "http://gpu1:80/api/chat",
      ["https://gpu1/"] = "https://gpu1/api/chat",
      ["https://gpu1/ollama/"] = "https://gpu1/ollama/api/chat",
    }) do
      assert.are.equal(url, ollama.new({ model = "m", max_tokens = 1 }, function(name)
        return name == "OLLAMA_HOST" and host or nil
      end).url)
    end
  end)

  it("sends a key only where one is meant", with_server({ WAIT }, function(server)
    assert(registry_of(server.url, { api_key = "k-0123456789" }):decide(nil, request_of()))
    assert.are.equal("Bearer k-0123456789", server.requests[1].headers.authorization)
    local env = { OLLAMA_API_KEY = "k-0123456789" }
    local function key_of(base)
      return ollama.new({ model = "m", base_url = base }, function(name)
        return env[name]
      end).key
    end
    assert.are.equal("k-0123456789", key_of("https://ollama.com"))
    assert.is_nil(key_of("http://127.0.0.1:11434"))
    assert.is_nil(key_of("https://ollama.com.evil.test"))
  end))
end)

describe("a model of Ollama without tools", function()
  it("is asked for one JSON object, and again", support.async(function()
    local server = anthropic_server.start({ on_request = function(request)
      if request.body.tools then
        return { status = 400, body = '{"error":"m-1 does not support tools"}' }
      end
      return replies.ollama({ role = "assistant", content = '{"tool":"wait","ms":60000}' })
    end })
    support.on_cleanup(function()
      server:stop()
    end)
    local registry = registry_of(server.url)
    assert.are.equal("wait", assert(registry:decide(nil, request_of())).tool)
    assert.are.equal(2, #server.requests)
    assert.are.equal("json", server.requests[2].body.format)
    assert.is_nil(server.requests[2].body.tools)
    assert(registry:decide(nil, request_of()))
    assert.are.equal(3, #server.requests)
  end))
end)

describe("a faulty server of Ollama's API", function()
  local function kind_of(reply, options)
    local server = anthropic_server.start({ replies = { reply } })
    local _, _, kind, detail = registry_of(server.url, options):decide(nil, request_of())
    server:stop()
    return kind, detail
  end

  it("is stopped when a line has no end", support.async(function()
    local kind, detail = kind_of({ headers = { ["content-type"] = "application/x-ndjson" },
      body = '{"model":"' .. ("x"):rep(17 * 1024 * 1024), chunk_bytes = 65536 })
    assert.are.equal("parse", kind)
    assert.is_truthy(detail.message:find("ETOOBIG", 1, true))
  end))

  it("may be a proxy's page, or silence", support.async(function()
    local html = { ["content-type"] = "text/html" }
    assert.are.equal("server",
      (kind_of({ status = 502, headers = html, body = "<html>Bad</html>" })))
    assert.are.equal("parse", (kind_of({ headers = html, body = "<html>Hello</html>" })))
    assert.are.equal("timeout", (kind_of({ hang = true }, { idle_timeout_ms = 100 })))
  end))
end)
