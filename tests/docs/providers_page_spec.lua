-- Each registry of docs/providers.md but those of clouds and strategies loads without a mistake,
-- and its clients ask as the page says.

local anthropic_server = require("support.anthropic_server")
local client_config = require("runtime.clients.config")
local clients = require("runtime.clients")
local exchange = require("runtime.providers.exchange")
local replies = require("support.chat_replies")
local suggest = require("runtime.suggest")
local support = require("support")

local KEY = "k-0123456789"

local function env(name)
  return (name:find("_KEY$") or name == "HF_TOKEN") and KEY or nil
end

local function read_page()
  local file = assert(io.open("docs/providers.md"))
  local page = file:read("*a")
  file:close()
  return page
end

local REQUEST = {
  system = "s",
  tools = { { name = "wait", description = "d", schema = { type = "object" } } },
  messages = { { role = "user", text = "u" } },
}

-- Where each client of the page sends its request, and the header with its key.
local SENT = {
  Cloud = { "https://api.openai.com/v1/chat/completions", "authorization: Bearer " .. KEY },
  Local = { "http://127.0.0.1:11434/api/chat" },
  Haiku = { "https://api.anthropic.com/v1/messages", "x-api-key: " .. KEY },
  GPT = { "https://api.openai.com/v1/chat/completions", "authorization: Bearer " .. KEY },
  Groq = { "https://api.groq.com/openai/v1/chat/completions", "authorization: Bearer " .. KEY },
  Mistral = { "https://api.mistral.ai/v1/chat/completions", "authorization: Bearer " .. KEY },
  DeepSeek = { "https://api.deepseek.com/chat/completions", "authorization: Bearer " .. KEY },
  Together = { "https://api.together.xyz/v1/chat/completions", "authorization: Bearer " .. KEY },
  xAI = { "https://api.x.ai/v1/chat/completions", "authorization: Bearer " .. KEY },
  vLLM = { "http://gpu1:8000/v1/chat/completions" },
  LMStudio = { "http://127.0.0.1:1234/v1/chat/completions" },
  LlamaCpp = { "http://127.0.0.1:8080/v1/chat/completions" },
  Deployment = { "https://my-resource.openai.azure.com/openai/deployments/gpt-4o-mini"
    .. "/chat/completions?api-version=2024-10-21", "api-key: " .. KEY },
  Foundry = { "https://my-resource.services.ai.azure.com/models/chat/completions"
    .. "?api-version=2024-05-01-preview", "api-key: " .. KEY },
  Router = { "https://openrouter.ai/api/v1/chat/completions", "authorization: Bearer " .. KEY },
}

-- The parts of the page that have a spec of their own.
local ELSEWHERE = { ["google-ai"] = true, ["vertex-ai"] = true, ["aws-bedrock"] = true,
  fallback = true, ["round-robin"] = true, Retries = true, replay = true }

local function own_part(page)
  local parts = {}
  for title, section in (page .. "\n## "):gmatch("([^\n]*)\n(.-)\n## ") do
    parts[#parts + 1] = not ELSEWHERE[title] and section or nil
  end
  return table.concat(parts, "\n")
end

-- What tests/docs/clouds_page_spec.lua asks.
local CLOUDS = { ["google-ai"] = true, ["vertex-ai"] = true, ["aws-bedrock"] = true }

local function registries()
  local list = {}
  for block in own_part(read_page()):gmatch("```lua\n(.-)\n```") do
    local path = support.write_file(support.tmp_path(("registry%d.lua"):format(#list)), block)
    list[#list + 1] = assert(clients.load(path, env))
    os.remove(path)
  end
  return list
end

describe("docs/providers.md", function()
  it("shows registries without a mistake, whose clients ask where the page says", function()
    local seen = {}
    for _, config in ipairs(registries()) do
      local registry = assert(clients.new({ config = config, env = env }))
      for name, client in pairs(registry.clients) do
        if SENT[name] then
          seen[name] = true
          local call = assert(client.handler:request(REQUEST))
          local headers = table.concat(call.headers, "\n") .. "\n"
          assert.are.equal(SENT[name][1], call.url)
          assert.is_truthy(headers:find((SENT[name][2] or "") .. "\n", 1, true))
          assert.are.equal(SENT[name][2] ~= nil, headers:find(KEY, 1, true) ~= nil)
        end
      end
    end
    assert.are.same(suggest.keys(SENT), suggest.keys(seen))
  end)

  it("shows clients that decide", support.async(function()
    local server = anthropic_server.start({ on_request = function(request)
      if request.path == "/api/chat" then
        return replies.ollama({ role = "assistant", content = "", tool_calls = { {
          ["function"] = { name = "wait", arguments = { ms = 5000 } } } } })
      elseif request.path == "/v1/messages" then
        return { tool = "wait", input = { ms = 5000 } }
      end
      return request.body.tools and replies.call("wait", { ms = 5000 })
        or replies.text('{"tool": "wait", "ms": 5000}')
    end })
    support.on_cleanup(function()
      server:stop()
    end)
    local count = 0
    for _, config in ipairs(registries()) do
      for _, client in ipairs(config.clients) do
        local options = client.options
        if not options.strategy and not CLOUDS[client.provider] then
          options.base_url, options.resource_name, options.deployment_id = server.url, nil, nil
          local registry = assert(clients.new({ config = config, env = env }))
          local result = assert(registry:decide(client.name, REQUEST))
          assert.are.equal("wait", result.tool)
          assert.are.equal(5000, result.args.ms)
          count = count + 1
        end
      end
    end
    assert.are.equal(16, count)
  end))

  it("names every option and every variable of its providers", function()
    local page = read_page()
    for _, provider in ipairs({ "anthropic", "openai", "openai-generic", "azure-openai",
      "openrouter", "ollama" }) do
      local module = require(client_config.PROVIDERS[provider])
      local section = assert(page:match("\n## " .. provider:gsub("%-", "%%-") .. "\n(.-)\n## "))
      for name in pairs(module.options) do
        local text = exchange.COMMON[name] and page or section
        assert.is_truthy(text:find(("`%s`"):format(name), 1, true), provider .. ": " .. name)
      end
      if module.key_variable then
        assert.is_truthy(page:find(("`%s`"):format(module.key_variable), 1, true))
      end
    end
  end)
end)
