-- The registries that docs/providers.md shows for clouds are loaded as a user's file is, and every
-- option that these providers have is in the page.

local clients = require("runtime.clients")
local clouds = require("support.clouds")
local exchange = require("runtime.providers.exchange")
local suggest = require("runtime.suggest")
local support = require("support")

local MODULES = {
  ["google-ai"] = "runtime.providers.google_ai",
  ["vertex-ai"] = "runtime.providers.vertex_ai",
  ["aws-bedrock"] = "runtime.providers.aws_bedrock",
}

local REPLIES = {
  ["google-ai"] = clouds.gemini_reply("wait", { ms = 5000 }),
  ["vertex-ai"] = clouds.gemini_reply("wait", { ms = 5000 }),
  ["aws-bedrock"] = clouds.bedrock_reply("wait", { ms = 5000 }),
}

local function section_of(provider)
  local file = assert(io.open("docs/providers.md"))
  local page = file:read("*a") .. "\n## "
  file:close()
  local start = select(2, page:find("\n## " .. provider .. "\n", 1, true))
  assert(start, "docs/providers.md has no section " .. provider)
  return page:sub(start + 1, page:find("\n## ", start, true))
end

describe("docs/providers.md", function()
  for provider, module in pairs(MODULES) do
    it("shows registries that load, whose clients decide: " .. provider, clouds.with_server({
      on_request = function()
        return REPLIES[provider]
      end,
    }, function(server)
      local count = 0
      for block in section_of(provider):gmatch("```lua\n(.-)\n```") do
        count = count + 1
        local path = support.write_file(support.tmp_path("page.lua"), block)
        local config, err = clients.load(path, function() end)
        os.remove(path)
        assert(config, err)
        assert.are.equal(provider, config.clients[1].provider)
        local options = config.clients[1].options
        options.base_url, options.api_key, options.stream = server.url, "k-0123456789", false
        local registry = assert(clients.new({ config = config, env = function() end }))
        assert.are.equal("wait", assert(registry:decide(nil, clouds.request())).tool)
      end
      assert.is_true(count >= 1)
      assert.are.equal(count, #server.requests)
    end))

    it("names every option of its own: " .. provider, function()
      local section = section_of(provider)
      for _, name in ipairs(suggest.keys(require(module).options)) do
        if not exchange.COMMON[name] then
          assert(section:find("`" .. name .. "`", 1, true), name)
        end
      end
    end)
  end
end)
