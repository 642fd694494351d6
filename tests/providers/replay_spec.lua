local clients = require("runtime.clients")
local format = require("runtime.session.format")
local json = require("runtime.json")
local sessions = require("support.sessions")
local support = require("support")
local values = require("runtime.session.values")

local HEADER = { version = "0", seed = "00", t = 1, w = 2, arguments = json.array({}),
  files = json.array({}), env = json.object({}) }

local FAILURE = { kind = "overloaded", message = "Overloaded", retryable = true }

-- An answer as a recording has it: a tool's name, or a failure.
local function answer(n, watcher, at, what)
  local result = type(what) == "string" and { tool = what, args = json.object({ n = n }), id = "x",
    text = "", stop = "tool_use", usage = { input = 10, output = 1 } } or nil
  return { n = n, kind = "model", of = { "Main", watcher, at, "#1", "#2", "#3" }, t = n, w = n,
    v = json.array(values.encode(true, result, not result and what or nil)) }
end

local function write(entries, header)
  local lines = { json.encode(format.header(header or HEADER)) }
  for _, entry in ipairs(entries) do
    lines[#lines + 1] = json.encode(entry)
  end
  return support.write_file(sessions.path(), table.concat(lines, "\n") .. "\n")
end

local function open(path)
  return clients.new({ config = { clients = {
    { name = "Again", provider = "replay", retry_policy = "DefaultRetry",
      options = { file = path } },
  } }, env = function() end, sleep = function() end })
end

local function request(watcher, at)
  return { system = "s", tools = {}, messages = { { role = "user", text = "u" } },
    meta = { watcher = watcher, node = at } }
end

local function tools(registry, watcher, at, count)
  local list = {}
  for i = 1, count do
    list[i] = assert(registry:decide(nil, request(watcher, at))).tool
  end
  return list
end

describe("the provider replay", function()
  it("gives each watcher the answers that it was given, in their order", support.async(function()
    local registry = assert(open(write({
      answer(1, "beam", "a@h", "take_snapshot"),
      answer(2, "ets", "a@h", "execute"),
      { n = 3, kind = "timer", of = { "5" }, t = 3, w = 3, v = json.array({}) },
      answer(4, "beam", "a@h", FAILURE),
      answer(5, "beam", "a@h", "set_state"),
      answer(6, "beam", "b@h", "get_alerts"),
      answer(7, "beam", "a@h", "wait"),
    })))
    assert.are.same({ "take_snapshot" }, tools(registry, "beam", "a@h", 1))
    assert.are.same({ "get_alerts" }, tools(registry, "beam", "b@h", 1))
    assert.are.same({ "execute" }, tools(registry, "ets", "a@h", 1))
    local result = assert(registry:decide(nil, request("beam", "a@h")))
    assert.are.equal("set_state", result.tool)
    assert.are.same({ n = 5 }, result.args)
    assert.are.equal(10, result.usage.input)
    assert.are.equal(0, result.cost_usd)
    assert.are.equal("wait", tools(registry, "beam", "a@h", 1)[1])
  end))

  it("gives them to a watcher of its name when its node was another", support.async(function()
    local registry = assert(open(write({ answer(1, "beam", "a@h", "execute"),
      answer(2, "beam", "b@h", "wait") })))
    assert.are.same({ "execute", "wait" }, tools(registry, "beam", "new@h", 2))
  end))

  it("says at once when there are no more, and for which watcher", support.async(function()
    local path = write({ answer(1, "beam", "a@h", "wait") })
    local registry = assert(open(path))
    tools(registry, "beam", "a@h", 1)
    local result, err, kind, failure = registry:decide(nil, request("beam", "a@h"))
    assert.is_nil(result)
    assert.are.equal(path .. ": all 1 answers to the watcher \"beam\" are given", err)
    assert.are.equal("not_found", kind)
    assert.are.equal(1, failure.attempts)
    result, err = registry:decide(nil, request("gc", "a@h"))
    assert.is_nil(result)
    assert.are.equal(path .. ": no model answers the watcher \"gc\" in it", err)
  end))

  it("is checked before anything runs", support.async(function()
    for expected, path in pairs({
      ["cannot be read"] = "/proc/none",
      ["it is no recording of a session"] = support.write_file(sessions.path(), "no\n"),
      ["no model answers in it"] = write({ answer(1, "beam", "a@h", FAILURE) }),
      [":3: it is no entry"] = write({ answer(1, "beam", "a@h", "wait"), { n = 2 } }),
    }) do
      local registry, err = open(path)
      assert.is_nil(registry, expected)
      assert.is_truthy(err:find(expected, 1, true), err)
    end
    local _, err = open(nil)
    assert.is_truthy(err:find("options.file is missing", 1, true), err)
  end))

  it("is what docs/providers.md shows", support.async(function()
    local page = sessions.read("docs/providers.md")
    local block = assert(page:match("\n## replay\n.-```lua\n(.-)\n```"))
    local recording = write({ answer(1, "beam", "a@h", "execute") })
    local path = support.write_file(support.tmp_path("replay-registry.lua"),
      (block:gsub('"session%.jsonl"', ("%q"):format(recording))))
    local config = assert(clients.load(path, function() end))
    os.remove(path)
    local registry = assert(clients.new({ config = config, sleep = function() end }))
    assert.are.equal("execute", tools(registry, "beam", "a@h", 1)[1])
    -- The next one of the fallback, which needs the watcher's context.
    local asked = request("beam", "a@h")
    asked.context = { findings = {}, alerts = {}, state = "healthy", wait = { max_ms = 5000 } }
    assert.are.equal("rules", assert(registry:decide(nil, asked)).client)
  end))
end)
