-- The strategies of docs/providers.md do what the page says of them.

local anthropic_server = require("support.anthropic_server")
local clients = require("runtime.clients")
local replies = require("support.chat_replies")
local support = require("support")

local REQUEST = {
  system = "s",
  tools = { { name = "wait", description = "d", schema = { type = "object" } } },
  messages = { { role = "user", text = "u" } },
}
local BROKEN = { status = 500, body = "{}" }
local DENIED = { status = 401, body = "{}" }

local function env(name)
  return name:find("_KEY$") and "k-0123456789" or nil
end

-- An answer as the server of this path gives it.
local function decided(path)
  if path == "/api/chat" then
    return replies.ollama({ role = "assistant", content = "", tool_calls = { {
      ["function"] = { name = "wait", arguments = { ms = 5000 } } } } })
  elseif path == "/v1/messages" then
    return { tool = "wait", input = { ms = 5000 } }
  end
  return replies.call("wait", { ms = 5000 })
end

-- The registry of a section of the page, its clients at servers of ours. `answer(name, count)` is
-- what a client gets: a reply, or nil for a decision. Returns it, who was asked, and the pauses.
local function open(title, answer)
  local file = assert(io.open("docs/providers.md"))
  local page = file:read("*a")
  file:close()
  local block = page:match("\n## " .. title:gsub("%-", "%%-") .. "\n\n```lua\n(.-)\n```")
  local path = support.write_file(support.tmp_path("strategy.lua"), block)
  local config = assert(clients.load(path, env))
  os.remove(path)
  local order, pauses, counts = {}, {}, {}
  for _, client in ipairs(config.clients) do
    if not client.options.strategy then
      local server = anthropic_server.start({ on_request = function(request)
        local name = client.name
        order[#order + 1], counts[name] = name, (counts[name] or 0) + 1
        return answer(name, counts[name]) or decided(request.path)
      end })
      support.on_cleanup(function()
        server:stop()
      end)
      client.options.base_url = server.url
    end
  end
  local registry = assert(clients.new({ config = config, env = env, sleep = function(ms)
    pauses[#pauses + 1] = ms
  end, random = function()
    return 1
  end }))
  return registry, order, pauses
end

describe("docs/providers.md", function()
  it("shows a fallback within a fallback", support.async(function()
    local registry, order, pauses = open("fallback", function(name)
      return name == "Haiku" and BROKEN or name == "GPT" and DENIED or nil
    end)
    assert.are.equal("Local", assert(registry:decide(nil, REQUEST)).client)
    -- GPT refused for good; Haiku's breaker opens at its fifth failure.
    assert.are.same({ "Haiku", "Haiku", "Haiku", "Haiku", "GPT", "Haiku", "Local" }, order)
    assert.are.same({ 200, 300, 450, 500 }, pauses)
  end))

  it("shows a fallback that ends with the first decision", support.async(function()
    local registry, order = open("fallback", function(name)
      return name == "Haiku" and DENIED or nil
    end)
    assert.are.equal("GPT", assert(registry:decide(nil, REQUEST)).client)
    assert.are.same({ "Haiku", "GPT" }, order)
  end))

  it("shows a round-robin that takes turns", support.async(function()
    local registry, order, pauses = open("round-robin", function(name, count)
      return name == "GPT" and count == 1 and BROKEN or name == "GPT" and count == 2 and DENIED
    end)
    local deciders = {}
    for i = 1, 4 do
      deciders[i] = assert(registry:decide(nil, REQUEST)).client
    end
    assert.are.same({ "Haiku", "Haiku", "Haiku", "GPT" }, deciders)
    -- The second decision waits and takes the next turn, the third takes it at once.
    assert.are.same({ "Haiku", "GPT", "Haiku", "GPT", "Haiku", "GPT" }, order)
    assert.are.same({ 200 }, pauses)
  end))

  it("shows a retry policy", support.async(function()
    local registry, order, pauses = open("Retries", function(_, count)
      return count <= 4 and BROKEN or nil
    end)
    assert.are.equal(5, assert(registry:decide(nil, REQUEST)).attempts)
    assert.are.equal(5, #order)
    assert.are.same({ 500, 1000, 2000, 4000 }, pauses)
  end))
end)
