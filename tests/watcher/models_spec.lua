-- A watcher with models of every kind behind a real registry: one with tools, one without, one that
-- cannot be made to use its own.

local anthropic_server = require("support.anthropic_server")
local clients = require("runtime.clients")
local replies = require("support.chat_replies")
local support = require("support")
local watched = require("support.watched")

-- The session: look, wait too short, and again as told.
local STEPS = {
  { "take_snapshot", { reason = "a first look" } },
  { "wait", { reason = "calm", ms = 30 } },
  { "wait", { reason = "calm", ms = 60000, note = "all well" } },
}

local function written(step)
  local args = ""
  for _, name in ipairs({ "reason", "ms", "note" }) do
    local value = step[2][name]
    if value then
      value = type(value) == "string" and ("'%s'"):format(value) or value
      args = args .. (", %s: %s"):format(name, value)
    end
  end
  return ("I will do this:\n```json\n{tool: '%s'%s,}\n```"):format(step[1], args)
end

local KINDS = {
  ["with tools"] = { "openai", {}, function(step)
    return replies.call(step[1], step[2])
  end },
  ["without tools"] = { "openai-generic", { tools = false }, function(step)
    return replies.text(written(step))
  end },
  ["of Ollama"] = { "ollama", {}, function(step)
    return replies.ollama({ role = "assistant", content = "", tool_calls = { {
      ["function"] = { name = step[1], arguments = step[2] } } } })
  end },
}

local function registry_of(kind, url)
  local options = { model = "m-1", base_url = url }
  for name, value in pairs(kind[2]) do
    options[name] = value
  end
  return assert(clients.new({
    config = { clients = { { name = "Main", provider = kind[1], options = options } } },
    env = function(name)
      return name == "OPENAI_API_KEY" and "k-0123456789" or nil
    end,
  }))
end

describe("a watcher with a model", function()
  for name, kind in pairs(KINDS) do
    it(("%s looks, is corrected, and waits"):format(name), support.async(function()
      local server = anthropic_server.start({ on_request = function(_, index)
        return kind[3](STEPS[index])
      end })
      local it_is = watched.new({})
      support.on_cleanup(function()
        it_is:stop()
        server:stop()
      end)
      local registry = registry_of(kind, server.url)
      it_is.registry.decide = function(_, client, request, opts)
        return registry:decide(client, request, opts)
      end
      it_is:start()
      it_is:asleep()
      assert.are.equal(3, #server.requests)
      assert.are.equal(1, #it_is:all("watcher.take_snapshot"))
      assert.are.equal("30 ms; did you mean 30000?",
        it_is:last("watcher.invalid_tool").metadata.error)
      assert.are.equal(60000, it_is:last("watcher.wait").measurements.ms)
      local told = server.requests[3].text
      assert.is_truthy(told:find("did you mean 30000?", 1, true))
      assert.is_truthy(server.requests[2].text:find("take_snapshot", 1, true))
    end))
  end
end)
