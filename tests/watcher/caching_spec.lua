local anthropic_server = require("support.anthropic_server")
local aws_bedrock = require("runtime.providers.aws_bedrock")
local clients = require("runtime.clients")
local conversation = require("runtime.watcher.conversation")
local json = require("runtime.json")
local support = require("support")
local tools = require("runtime.tools")

local BIG = json.encode({ id = "a", text = ("x"):rep(4000) })

-- Asks `ask(request)` as a cycle does, each time with one more call and its result.
local function converse(results, ask)
  local talk = conversation.new()
  talk:open("opening")
  for i = 1, #results + 1 do
    ask({ system = "You watch.", tools = tools.for_request(), messages = talk:messages(),
      cache_to = talk:settled() })
    if results[i] then
      local call = { id = "call_" .. i, tool = "take_snapshot", args = { reason = "r" .. i } }
      talk:add_call(call)
      talk:add_result(call, results[i])
    end
  end
end

-- The blocks of all messages as text, without marks; the position of the last that is marked.
local function blocks_of(messages, is_mark)
  local blocks, marked, marks = {}, 0, 0
  for _, message in ipairs(messages) do
    for _, block in ipairs(message.content) do
      if is_mark(block) then
        marks = marks + 1
        marked = #blocks + (block.cachePoint and 0 or 1)
      end
      block.cache_control = nil
      if not block.cachePoint then
        blocks[#blocks + 1] = message.role .. json.encode(block)
      end
    end
  end
  return blocks, marked, marks
end

-- Each request begins with all that the one before it marked. Returns where the marks were.
local function check_prefixes(bodies, is_mark)
  local positions, before, upto = {}, {}, 0
  for i, body in ipairs(bodies) do
    local blocks, marked, marks = blocks_of(body.messages, is_mark)
    assert.is_true(marks <= 1)
    for at = 1, upto do
      assert.are.equal(before[at], blocks[at])
    end
    before, upto, positions[i] = blocks, marked, marked
  end
  return positions
end

describe("a conversation", function()
  it("is settled up to the first result that will still shrink", function()
    local settled = {}
    converse({ "{}", BIG, "{}", BIG, "{}", "{}" }, function(request)
      settled[#settled + 1] = request.cache_to or "none"
    end)
    assert.are.same({ "none", 3, 4, 4, 8, 8, 13 }, settled)
  end)

  it("sends Anthropic the same bytes up to the mark, and one mark more than the fixed ones",
    support.async(function()
      local replies = {}
      for i = 1, 7 do
        replies[i] = { tool = "wait", input = { ms = 60000 } }
      end
      local server = anthropic_server.start({ replies = replies })
      support.on_cleanup(function()
        server:stop()
      end)
      local registry = assert(clients.new({ env = function() end, config = { primary = "Main",
        clients = { { name = "Main", provider = "anthropic",
          options = { model = "m", base_url = server.url, api_key = "spec-key" } } } } }))
      converse({ "{}", BIG, "{}", BIG, "{}", "{}" }, function(request)
        assert(registry:decide(nil, request, { timeout_ms = 10000 }))
      end)
      assert.are.equal(7, #server.requests)
      -- Tools and system come before the messages in what is cached, whatever their order in JSON.
      local head = server.requests[1].text:match('"system":.*$')
      local bodies = {}
      for i, request in ipairs(server.requests) do
        assert.are.equal(head, request.text:match('"system":.*$'))
        bodies[i] = request.body
      end
      assert.are.same({ 0, 3, 4, 4, 8, 8, 13 }, check_prefixes(bodies, function(block)
        return block.cache_control ~= nil
      end))
    end))

  it("has cache points in what Bedrock gets, where the model has a cache", function()
    for _, caches in ipairs({ true, false }) do
      local bedrock = aws_bedrock.new({ model = "anthropic.claude-haiku-4-5", region = "us-east-1",
        prompt_cache = caches, max_tokens = 4096 }, function() end)
      local bodies, head = {}, nil
      converse({ "{}", BIG, "{}", BIG, "{}", "{}" }, function(request)
        local body = json.decode((json.encode(bedrock:body(request))))
        local fixed = json.encode({ body.toolConfig, body.system })
        head = head or fixed
        assert.are.equal(head, fixed)
        bodies[#bodies + 1] = body
      end)
      local positions = check_prefixes(bodies, function(block)
        return block.cachePoint ~= nil
      end)
      assert.are.same(caches and { 0, 3, 4, 4, 8, 8, 13 } or { 0, 0, 0, 0, 0, 0, 0 }, positions)
    end
  end)
end)
