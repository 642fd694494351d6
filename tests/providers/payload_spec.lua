-- What `run --show-payload` shows of a request is what is sent, for every provider: address, names
-- of the headers, body; without a key, a token or a signature.

local anthropic_server = require("support.anthropic_server")
local clouds = require("support.clouds")
local json = require("runtime.json")
local payload = require("runtime.providers.payload")
local support = require("support")

local KEY = "sk-" .. "spec-0123456789abcdef"
local REFUSED = { status = 400, body = '{"error":{"message":"enough seen"}}' }

local CASES = {
  anthropic = { env = { ANTHROPIC_API_KEY = KEY }, auth = { "x-api-key" } },
  ["anthropic with a token"] = { provider = "anthropic", env = { ANTHROPIC_AUTH_TOKEN = KEY },
    auth = { "authorization" } },
  openai = { env = { OPENAI_API_KEY = KEY }, auth = { "authorization" } },
  ["openai-generic"] = { options = { api_key = KEY }, auth = { "authorization" } },
  ["openai-generic without a key"] = { provider = "openai-generic", auth = {} },
  ["azure-openai"] = { env = { AZURE_OPENAI_API_KEY = KEY }, auth = { "api-key" } },
  openrouter = { env = { OPENROUTER_API_KEY = KEY }, auth = { "authorization" } },
  ollama = { auth = {} },
  ["google-ai"] = { env = { GOOGLE_API_KEY = KEY }, auth = { "x-goog-api-key" } },
  ["vertex-ai"] = { options = { api_key = KEY, project_id = "p", location = "europe-west4" },
    auth = { "authorization" } },
  ["aws-bedrock"] = { env = { AWS_ACCESS_KEY_ID = "AKIASPEC0123456789AB",
    AWS_SECRET_ACCESS_KEY = KEY, AWS_REGION = "eu-west-1" },
    auth = { "authorization", "x-amz-date" } },
  ["aws-bedrock with a session"] = { provider = "aws-bedrock", env = {
    AWS_ACCESS_KEY_ID = "ASIASPEC0123456789AB", AWS_SECRET_ACCESS_KEY = KEY,
    AWS_SESSION_TOKEN = KEY .. "-session", AWS_REGION = "eu-west-1" },
    auth = { "authorization", "x-amz-date", "x-amz-security-token" } },
  ["aws-bedrock with its own key"] = { provider = "aws-bedrock", env = {
    AWS_BEARER_TOKEN_BEDROCK = KEY, AWS_REGION = "eu-west-1" }, auth = { "authorization" } },
}

-- What the transport adds.
local OF_TRANSPORT = { host = true, ["content-length"] = true, ["user-agent"] = true,
  accept = true, ["accept-encoding"] = true, expect = true, connection = true }

local function names_of(headers)
  local names = {}
  for name in pairs(headers) do
    names[#names + 1] = not OF_TRANSPORT[name:lower()] and name:lower() or nil
  end
  table.sort(names)
  return names
end

local function registry_of(name, case, more)
  local options = { model = "claude-haiku-4-5", headers = { ["X-Team"] = "team-secret" } }
  for _, list in ipairs({ case.options or {}, more or {} }) do
    for key, value in pairs(list) do
      options[key] = value
    end
  end
  return clouds.registry(case.provider or name, options, case.env)
end

describe("what would be sent", function()
  for name, case in pairs(CASES) do
    it("is what is sent, without a secret: " .. name, support.async(function()
      local server = anthropic_server.start({ on_request = function()
        return REFUSED
      end })
      support.on_cleanup(function()
        server:stop()
      end)
      local registry = registry_of(name, case, { base_url = server.url })
      local shown = payload.of(registry, nil, clouds.request())[1]
      assert.are.equal(0, #server.requests)
      local text = json.encode(shown)
      for _, secret in ipairs({ KEY, "team-secret", "AKIASPEC", "ASIASPEC", "Signature=" }) do
        assert.is_nil(text:find(secret, 1, true), text)
      end

      registry:decide(nil, clouds.request())
      local sent = server.requests[1]
      assert.are.equal(server.url .. sent.path, shown.url)
      assert.are.same(names_of(sent.headers), names_of(shown.headers))
      assert.are.same(sent.body, json.decode((json.encode(shown.body))))
      local auth = { ["x-team"] = "[hidden]" }
      for _, header in ipairs(case.auth) do
        auth[header] = "[hidden]"
      end
      for header, value in pairs(auth) do
        local found
        for other, said in pairs(shown.headers) do
          found = other:lower() == header and said or found
        end
        assert.are.equal(value, found, header)
      end
    end))
  end

  it("has no password of an address", function()
    local registry = registry_of("ollama", {}, { base_url = "http://me:pass-word@127.0.0.1:1" })
    local shown = payload.of(registry, nil, clouds.request())[1]
    assert.are.equal("http://127.0.0.1:1/api/chat", shown.url)
  end)

  it("needs no token of Google's and no keys of the machine to be shown", support.async(function()
    local account = require("support.google_account").service_account("http://127.0.0.1:1/token")
    local vertex = registry_of("vertex-ai", { options = { credentials = account,
      location = "europe-west4" } })
    local shown = payload.of(vertex, nil, clouds.request())[1]
    assert.are.equal("[hidden]", shown.headers.authorization)
    assert.matches("^https://europe%-west4%-aiplatform%.googleapis%.com/v1beta1/projects/"
      .. "project%-of%-key/", shown.url)
    assert.is_nil(json.encode(shown):find("PRIVATE KEY", 1, true))

    local bedrock = registry_of("aws-bedrock", { env = { AWS_REGION = "eu-west-1" } })
    shown = payload.of(bedrock, nil, clouds.request())[1]
    for _, header in ipairs({ "authorization", "x-amz-date", "x-amz-security-token" }) do
      assert.are.equal("[hidden]", shown.headers[header])
    end
    assert.matches("^https://bedrock%-runtime%.eu%-west%-1%.amazonaws%.com/model/", shown.url)
  end))
end)
