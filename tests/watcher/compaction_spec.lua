local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local clients = require("runtime.clients")
local compaction = require("runtime.watcher.compaction")
local json = require("runtime.json")
local support = require("support")
local watched = require("support.watched")

local HEX16 = ("%x"):rep(16)
local WAIT = { tool = "wait", input = { ms = 1800000 } }

local function big(mark)
  return { tool = "execute", input = { code = ("return '%s %s'"):format(mark, ("x"):rep(5000)) } }
end

local function registry_of(server, options)
  local client = { model = "m", api_key = "spec-key", base_url = server.url, max_tokens = 1000 }
  for name, value in pairs(options) do
    client[name] = value
  end
  return assert(clients.new({ env = function() end, config = { primary = "Main",
    clients = { { name = "Main", provider = "anthropic", options = client } } } }))
end

-- A watcher whose model is a server on loopback; `reply(request, index)` answers as it does.
local function case(options, reply, body)
  return support.async(function()
    local server = anthropic_server.start({ on_request = reply })
    local it_is = watched.new({})
    it_is.watcher.registry = registry_of(server, options)
    local ok, err = async.pcall(body, it_is, server)
    it_is:stop()
    server:stop()
    assert(ok, err)
  end)
end

local function forced(request)
  return request.body.tool_choice.name
end

local function text_of(request)
  return json.encode(request.body.messages)
end

-- The calls of a cycle that fills its context, and fires an alert with its first snapshot after.
local function session(summarize)
  local count, snapshot_id = 0, nil
  return function(request)
    if forced(request) then
      return summarize()
    end
    count = count + 1
    if count == 2 then
      local last = request.body.messages[#request.body.messages].content
      snapshot_id = last[#last].content:match('"id":"(' .. HEX16 .. ')"')
    end
    return ({ { tool = "take_snapshot", input = { reason = "orders grew" } }, big("first"),
      big("second"), { tool = "fire_alert", input = { type = "other", severity = "warning",
        summary = "odd", snapshot_ids = { snapshot_id } } } })[count] or WAIT
  end
end

local function check_session(it_is, server, by)
  it_is:start()
  support.wait_until(function()
    return it_is.watcher.status == "waiting"
  end, 10000, "the end of the cycle")
  local event = it_is:last("watcher.compaction")
  assert.are.equal(by, event.metadata.by)
  assert.is_true(event.measurements.after_bytes < event.measurements.before_bytes)
  local alert = it_is:last("watcher.alert_fired").metadata.alert
  assert.are.equal(0, #it_is:all("watcher.llm_error"))

  local shorter
  for i, request in ipairs(server.requests) do
    if forced(request) then
      assert.are.equal("summarize", forced(request))
      assert.are.equal(1, #request.body.tools)
      shorter = server.requests[i + 1]
    end
  end
  assert.are.equal("assistant", shorter.body.messages[2].role)
  assert.are.equal(3, #shorter.body.messages)
  local text = text_of(shorter)
  assert.is_truthy(text:find("calls of this cycle were taken out to make room", 1, true))
  assert.is_truthy(text:find(alert.snapshots[1].id, 1, true))
  assert.is_truthy(text:find("return 'second", 1, true))
  assert.is_nil(text:find("return 'first " .. ("x"):rep(200), 1, true))
  -- What opened the cycle is as it was.
  assert.are.equal(server.requests[1].body.messages[1].content[1].text,
    shorter.body.messages[1].content[1].text)
  return text
end

describe("a conversation that fills the model's context", function()
  it("is replaced by the model's summary, without secrets; ids of snapshots still hold",
    case({ context_tokens = 13000 }, session(function()
      return { tool = "summarize", input = { summary = "orders grew by 12, says al@example.com" } }
    end), function(it_is, server)
      local text = check_session(it_is, server, "model")
      assert.is_truthy(text:find("orders grew by 12, says [redacted:email]", 1, true))
    end))

  it("is replaced by a line for each call when the model writes no summary",
    case({ context_tokens = 13000 }, session(function()
      return { status = 500, error = "api_error", headers = { ["x-should-retry"] = "false" } }
    end), function(it_is, server)
      local text = check_session(it_is, server, "rule")
      assert.is_truthy(text:find('take_snapshot {\\\\\\"reason\\\\\\":\\\\\\"orders grew', 1, true))
    end))

  it("shrinks its last result too, and asks for no summary, where the prompt fills nearly all",
    case({ context_tokens = 5000 }, function(request, index)
      assert.is_nil(forced(request))
      return ({ big("first"), big("second") })[index] or WAIT
    end, function(it_is, server)
      it_is:start()
      support.wait_until(function()
        return it_is.watcher.status == "waiting"
      end, 10000, "the end of the cycle")
      assert.are.equal(3, #server.requests)
      for i = 2, 3 do
        local messages = server.requests[i].body.messages
        local result = messages[#messages].content[1]
        assert.are.equal("tool_result", result.type)
        assert.is_true(#result.content < 1200)
      end
      assert.are.equal("rule", it_is:last("watcher.compaction").metadata.by)
    end))

  it("stays short where there is never room, counts all calls, and keeps ids of snapshots",
    case({ context_tokens = 2000 }, function(_, index)
      return index == 1 and { tool = "take_snapshot", input = { reason = "orders grew" } }
        or index < 9 and { tool = "get_snapshots", input = { limit = index } } or WAIT
    end, function(it_is, server)
      it_is:start()
      support.wait_until(function()
        return it_is.watcher.status == "waiting"
      end, 10000, "the end of the cycle")
      local last = server.requests[9]
      local first = server.requests[2].body.messages[3].content[1].content
      local snapshot_id = first:match('"id":"(' .. HEX16 .. ')"')
      local text = last.body.messages[1].content[2].text
      assert.matches("^7 calls of this cycle were taken out to make room", text)
      assert.is_truthy(text:find("may still use: [%x, ]*" .. snapshot_id), text)
      assert.is_truthy(text:find('get_snapshots {\\"limit\\":7} -> ', 1, true), text)
      -- A summary of a summary is no text within a text.
      assert.is_nil(text:find("\\\\\\", 1, true), text)
      assert.are.equal(3, #last.body.messages)
    end))

  it("is left alone while there is room", case({ context_tokens = 200000 }, session(error),
    function(it_is, server)
      it_is:start()
      support.wait_until(function()
        return it_is.watcher.status == "waiting"
      end, 10000, "the end of the cycle")
      assert.are.equal(5, #server.requests)
      assert.are.equal(9, #server.requests[5].body.messages)
      for _, event in ipairs(it_is:all("watcher.compaction")) do
        assert.are.equal("age", event.metadata.by)
      end
    end))

  it("is made shorter when the server says that it is too long, and asked again at once",
    case({ context_tokens = 200000 }, function(request, index)
      if index == 3 then
        return { status = 400, error = "invalid_request_error",
          message = "prompt is too long: 210000 tokens > 200000 maximum" }
      end
      assert.is_nil(forced(request))
      return ({ big("first"), big("second") })[index] or WAIT
    end, function(it_is, server)
      it_is:start()
      support.wait_until(function()
        return it_is.watcher.status == "waiting"
      end, 10000, "the end of the cycle")
      assert.are.equal(4, #server.requests)
      assert.is_true(#server.requests[4].text < #server.requests[3].text - 5000)
      assert.are.equal("rule", it_is:last("watcher.compaction").metadata.by)
      assert.are.equal(0, #it_is:all("watcher.llm_error"))
    end))
end)

describe("the room of a client", function()
  it("is that of the smallest model it may ask, less its answer, with a default by provider",
    function()
      local registry = assert(clients.new({ env = function() end, config = { primary = "Main",
        clients = {
          { name = "Far", provider = "anthropic", options = { model = "m", max_tokens = 4000 } },
          { name = "Near", provider = "ollama",
            options = { model = "m", context_tokens = 8000, max_tokens = 4000 } },
          { name = "Main", provider = "fallback", options = { strategy = { "Far", "Near",
            "rules" } } },
        } } }))
      assert.are.equal((200000 - 4000) * 0.8, compaction.limit(registry, "Far"))
      assert.are.equal((8000 - 2000) * 0.8, compaction.limit(registry, "Near"))
      assert.are.equal(compaction.limit(registry, "Near"), compaction.limit(registry))
      assert.is_nil(compaction.limit(registry, "rules"))
    end)
end)
