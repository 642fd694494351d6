local anthropic_server = require("support.anthropic_server")
local clients = require("runtime.clients")
local clock = require("runtime.clock")
local log = require("runtime.log")
local plateau = require("runtime.clients.plateau")
local replies = require("support.chat_replies")
local support = require("support")
local telemetry = require("runtime.telemetry")

local TOOLS = { { name = "wait", description = "d", schema = { type = "object" } } }

-- A request of about so many bytes.
local function request(bytes)
  return { system = ("s"):rep(1000), tools = TOOLS,
    messages = { { role = "user", text = ("x"):rep(bytes - 1000) } } }
end

-- What is found after prompts of these sizes, counted by `count(bytes)`.
local function after(sizes, count)
  local memory, found = plateau.new(), {}
  for i, bytes in ipairs(sizes) do
    local cut = memory:add(request(bytes), { input = count(bytes), output = 5 })
    found[#found + 1] = cut and { i, cut.prompt_tokens } or nil
  end
  return found
end

describe("a plateau of the count", function()
  local function cut_at(limit)
    return function(bytes)
      return math.min(limit, math.floor(bytes / 4))
    end
  end

  it("is found once, at the third prompt that is much longer for no more tokens", function()
    assert.are.same({ { 6, 4096 } },
      after({ 12000, 16000, 20000, 26000, 30000, 40000, 50000, 60000 }, cut_at(4096)))
  end)

  it("is found although the server cuts whole messages", function()
    local counts = { [20000] = 4000, [32000] = 3790, [36000] = 4050, [40000] = 3850 }
    assert.are.same({ { 4, 4050 } }, after({ 20000, 32000, 36000, 40000 }, function(bytes)
      return counts[bytes]
    end))
  end)

  it("is found when even the first prompt was cut", function()
    assert.are.same({ { 4, 2048 } }, after({ 20000, 31000, 33000, 35000 }, cut_at(2048)))
  end)

  it("counts what the cache served", function()
    local memory, found = plateau.new(), nil
    for _, bytes in ipairs({ 12000, 20000, 24000, 28000, 32000 }) do
      found = found or memory:add(request(bytes), { input = bytes / 4 - 2500, output = 1,
        cache_read = 2000, cache_write = 500 })
    end
    assert.is_nil(found)
  end)

  it("is none where tokens follow bytes, for whatever text and in whatever order", function()
    math.randomseed(7)
    for _ = 1, 200 do
      local sizes = {}
      for i = 1, 100 do
        sizes[i] = math.random(8000, 60000)
      end
      assert.are.same({}, after(sizes, function(bytes)
        return math.floor(bytes / (2.9 + 0.6 * math.random()))
      end))
    end
  end)

  it("is none where prompts are of one length, or only what is new is counted", function()
    assert.are.same({}, after({ 20000, 20100, 20200, 20300, 20400, 20500 }, cut_at(4096)))
    assert.are.same({}, after({ 20000, 24000, 28000, 32000, 36000, 40000, 44000 }, function(bytes)
      return bytes == 20000 and 5000 or 1000
    end))
  end)

  it("is none where nothing is counted", function()
    assert.are.same({}, after({ 12000, 24000, 36000, 48000, 60000 }, function() end))
    assert.are.same({}, after({ 12000, 24000, 36000, 48000, 60000 }, function()
      return 0
    end))
  end)
end)

describe("a server that cuts prompts", function()
  it("is reported once, with the cure", support.async(function()
    local server = anthropic_server.start({ on_request = function(asked)
      local reply = replies.ollama({ role = "assistant", content = "", tool_calls = { {
        ["function"] = { name = "wait", arguments = { ms = 5000 } } } } })
      local count = math.min(4096, math.floor(#asked.text / 4))
      reply.body = reply.body:gsub('"prompt_eval_count":%d+', '"prompt_eval_count":' .. count)
      return reply
    end })
    support.on_cleanup(function()
      server:stop()
    end)
    local bus, events = telemetry.new(), {}
    assert(bus:attach("spec", "beamlens.llm.prompt_cut", function(_, measurements, metadata)
      events[#events + 1] = { measurements, metadata }
    end))
    local registry = assert(clients.new({ telemetry = bus, env = function() end, config = {
      clients = { { name = "Local", provider = "ollama",
        options = { model = "m", base_url = server.url } } } } }))
    for bytes = 12000, 40000, 4000 do
      assert(registry:decide(nil, request(bytes)))
    end
    assert.are.equal(1, #events)
    assert.are.equal(4096, events[1][1].prompt_tokens)
    assert.are.equal("Local", events[1][2].client)
    assert.is_truthy(events[1][2].cure:find("set the client's context_tokens", 1, true))
  end))

  it("has a cure by what it was told", function()
    assert.matches("^set the client's context_tokens", plateau.cure("ollama", nil, 4096))
    assert.matches("less context than the client's context_tokens of 16384",
      plateau.cure("ollama", 16384, 4096))
    assert.matches("^start the server with a larger context",
      plateau.cure("openai-generic", nil, 4096))
  end)

  it("has a line for people", function()
    local bus, lines = telemetry.new(), {}
    log.new({ telemetry = bus, clock = clock.manual(), format = "text",
      key_metrics = function() end,
      extent = function()
        return { nodes = 1, up = 1, watchers = 1 }
      end,
      output = {
        write_line = function(_, line)
          lines[#lines + 1] = line:match("^%S+ (.*)$")
        end,
      } })
    bus:execute("beamlens.llm.prompt_cut", { prompt_tokens = 4096, prompt_bytes = 30000 },
      { client = "Local", watcher = "beam", node = "a@b", cure = "give it more" })
    assert.are.equal(1, #lines)
    assert.matches("model Local cuts prompts at 4 096 tokens without a word: give it more$",
      lines[1])
  end)
end)
