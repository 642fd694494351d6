local anthropic_server = require("support.anthropic_server")
local beamlens = require("support.beamlens")
local support = require("support")

local PONG = { tool = "pong", input = { ok = true },
  usage = { input_tokens = 40, output_tokens = 5 } }

local function start_server(on_request)
  local server = anthropic_server.start({ on_request = on_request })
  support.on_cleanup(function()
    server:stop()
  end)
  return server
end

local function write_registry(url)
  local path = support.write_file(support.tmp_path("ping.lua"), ([[
return {
  primary = "Main",
  clients = {
    { name = "Good", provider = "anthropic", retry_policy = "DefaultRetry",
      options = { model = "claude-haiku-4-5", base_url = %q, api_key = "sesame-0123456789" } },
    { name = "Bad", provider = "openai", retry_policy = "DefaultRetry",
      options = { model = "m-1", base_url = %q, api_key = "env.NO_SUCH_KEY" } },
    { name = "Main", provider = "fallback", options = { strategy = { "Good", "Bad" } } },
  },
}]]):format(url, url))
  support.on_cleanup(function()
    os.remove(path)
  end)
  return path
end

describe("beamlens clients", function()
  it("lists the registry, asks nobody and shows no key", support.async(function()
    local server = start_server()
    local status, out, err = beamlens.run({ "clients", "--clients", write_registry(server.url) })
    assert.are.equal(table.concat({
      "  Bad    openai     m-1, no key: NO_SUCH_KEY is not set, no known price",
      "  Good   anthropic  claude-haiku-4-5, key set",
      "* Main   fallback   Good, Bad",
      "  rules  rules      no model",
    }, "\n"), (out:gsub("\n$", "")))
    assert.are.same({ 0, "" }, { status, err })
    assert.are.equal(0, #server.requests)
  end))

  it("pings each model once", support.async(function()
    local server = start_server(function(request)
      return request.path == "/v1/messages" and PONG
        or { status = 503, body = '{"error":{"message":"the model is loading"}}' }
    end)
    local status, out = beamlens.run({ "clients", "--ping", "--clients",
      write_registry(server.url) }, { env = { "NO_SUCH_KEY=sesame-9876543210" } })
    assert.are.equal(1, status)
    assert.matches("\n  Good   anthropic  claude%-haiku%-4%-5, key set; ok: answered in [^\n]*, "
      .. "45 tokens\n", out)
    assert.matches("^  Bad    openai     m%-1, key set, no known price; FAIL: overloaded: the "
      .. "model is loading\n", out)
    assert.is_nil(out:find("sesame", 1, true))
    assert.are.equal(2, #server.requests)
  end))

  it("asks with no other key where the one that is named is not there", support.async(function()
    local server = start_server()
    local status, out = beamlens.run({ "clients", "--ping", "--clients",
      write_registry(server.url) }, { env = { "OPENAI_API_KEY=sesame-9876543210" } })
    assert.are.equal(1, status)
    assert.is_truthy(out:find("no key: NO_SUCH_KEY is not set, no known price; FAIL: auth: no key: "
      .. "NO_SUCH_KEY is not set", 1, true), out)
    assert.are.equal(1, #server.requests)
  end))

  it("is content when all models answer", support.async(function()
    local server = start_server(function()
      return PONG
    end)
    assert.are.equal(0, (beamlens.run({ "clients", "--ping" }, { env = {
      "ANTHROPIC_API_KEY=k-0123456789", "ANTHROPIC_BASE_URL=" .. server.url } })))
    assert.are.equal(1, #server.requests)
  end))

  it("says what is wrong with its file or its command line", support.async(function()
    local path = support.write_file(support.tmp_path("bad.lua"),
      'return {\n  primary = "X",\n  clients = { { name = "A", provider = "openay" } },\n}')
    local status, out, err = beamlens.run({ "clients", "--clients", path })
    os.remove(path)
    assert.are.same({ 2, "" }, { status, out })
    assert.is_truthy(err:find(path .. ':2: primary: unknown client "X"', 1, true), err)
    assert.is_truthy(err:find(path .. ':3: client "A": unknown provider "openay"', 1, true), err)
    local result = { beamlens.run({ "clients", "Good" }) }
    assert.are.equal(2, result[1])
    assert.matches('clients takes no argument "Good"', result[3])
  end))
end)
