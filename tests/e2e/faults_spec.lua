-- Everything that can go wrong with a model in one decision of the real binary: a fallback over
-- servers on loopback that each fail in their own way, and one that answers.

local anthropic_server = require("support.anthropic_server")
local beamlens = require("support.beamlens")
local frames = require("support.frames")
local json = require("runtime.json")
local support = require("support")
local tree = require("support.tree")

local KEY = "sesame-0123456789"

local DOMAIN = [[
return {
  name = "calm", target = "none", title = "Calm",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function() return { level = 1 } end,
  callbacks = {}, rules = {},
}
]]

local function stream(body, more)
  local reply = { headers = { ["content-type"] = "text/event-stream" }, body = body,
    chunk_bytes = 64 }
  for name, value in pairs(more or {}) do
    reply[name] = value
  end
  return reply
end

local DENIED = { status = 401, error = "authentication_error",
  message = "invalid x-api-key " .. KEY }
local OVERLOADED = { status = 529, error = "overloaded_error", message = "Overloaded" }
local START = "event: message_start\ndata: " .. json.encode({ type = "message_start",
  message = { id = "m", type = "message", role = "assistant", model = "m", content = {},
    usage = { input_tokens = 1, output_tokens = 1 } } }) .. "\n\n"

-- A frame of which one byte is another than its checksum says.
local function bad_frame()
  local good = frames.frame({ { ":message-type", "event" }, { ":event-type", "messageStart" },
    { ":content-type", "application/json" } }, '{"role":"assistant"}')
  return (good:gsub("assistant", "assistent"))
end

-- In their order: the name, which is in the path; the replies; the kinds of failure that follow;
-- more of the client.
local FAULTS = {
  { "overloaded", { OVERLOADED, OVERLOADED, DENIED }, { "overloaded", "overloaded", "auth" } },
  { "limited", { { status = 429, headers = { ["retry-after-ms"] = "250" }, body = "{}" },
    { status = 400, body = "{}" } }, { "rate_limit", "invalid_request" } },
  { "denied", { DENIED }, { "auth" } },
  { "quota", { { status = 429, headers = { ["retry-after"] = "1" }, body = json.encode({
    error = { message = "You exceeded your quota", type = "insufficient_quota",
      code = "insufficient_quota" } }) } }, { "quota" }, { provider = "openai" } },
  { "inner", { stream(START .. "event: error\ndata: " .. json.encode({ type = "error",
    error = { type = "overloaded_error", message = "Overloaded" } }) .. "\n\n"), DENIED },
    { "overloaded", "auth" } },
  { "cut", { { cut = true, tool = "wait", input = { ms = 1000 } }, DENIED },
    { "stream_cut", "auth" } },
  { "checksum", { stream(bad_frame(), { headers = {
    ["content-type"] = "application/vnd.amazon.eventstream" } }),
    { status = 403, body = "{}" } }, { "parse", "permission" },
    { provider = "aws-bedrock", options = { region = "eu-west-1" } } },
  { "silent", { { hang = true }, DENIED }, { "timeout", "auth" },
    { options = { idle_timeout_ms = 3000 } } },
  { "trickle", { stream(START:rep(100), { chunk_bytes = 1, pause_ms = 100 }), DENIED },
    { "timeout", "auth" }, { options = { timeout_ms = 4000 } } },
  { "page", { { status = 502, body = "<html><h1>502 Bad Gateway</h1></html>",
    headers = { ["content-type"] = "text/html" } }, DENIED }, { "server", "auth" } },
  { "huge", { stream("data: " .. ("x"):rep(100 * 2 ^ 20), { chunk_bytes = 2 ^ 18 }),
    DENIED }, { "parse", "auth" } },
  { "moved", { { status = 307, body = "", headers = {} } }, { "invalid_request" } },
  { "refused", {}, { "connect", "connect", "connect", "connect" } },
}

local function clients_text(server, nobody_url)
  local list, names = {}, {}
  for i, fault in ipairs(FAULTS) do
    local more = fault[4] or {}
    local options = { model = "m", base_url = server.url .. "/" .. fault[1], api_key = KEY }
    if fault[1] == "refused" then
      options.base_url = nobody_url
    elseif more.provider == "aws-bedrock" then
      options.api_key = nil
    end
    for name, value in pairs(more.options or {}) do
      options[name] = value
    end
    names[i] = fault[1]
    list[i] = { name = fault[1], provider = more.provider or "anthropic", options = options,
      retry_policy = "DefaultRetry" }
  end
  names[#names + 1] = "good"
  list[#list + 1] = { name = "good", provider = "anthropic", options = { model = "m",
    base_url = server.url .. "/good", api_key = KEY } }
  list[#list + 1] = { name = "Main", provider = "fallback", options = { strategy = names } }
  return ("return require('runtime.json').decode(%q)"):format(json.encode({ primary = "Main",
    clients = list }))
end

describe("the host", function()
  it("makes a decision whatever the models before the last one do", support.async(function()
    local other, nobody = anthropic_server.start({}), anthropic_server.start({})
    nobody:stop()
    local replies, asked = { good = { { tool = "wait", input = { ms = 1800000 } } } }, {}
    for _, fault in ipairs(FAULTS) do
      replies[fault[1]] = fault[2]
    end
    replies.moved[1].headers.location = other.url .. "/v1/messages"
    local server = anthropic_server.start({ on_request = function(request)
      local name = request.path:match("^/(%w+)/")
      asked[name] = (asked[name] or 0) + 1
      return replies[name][asked[name]]
    end })
    support.on_cleanup(function()
      server:stop()
      other:stop()
    end)
    local root = tree.make({ ["domains/calm.lua"] = DOMAIN,
      ["watchers/w.lua"] = [[return { name = "w", domain = "calm", sample = "1s" }]],
      ["clients.lua"] = clients_text(server, nobody.url) })
    local b = beamlens.start({ "run", root .. "/watchers/w.lua", "--log", "json" }, { cwd = root,
      env = { "AWS_BEARER_TOKEN_BEDROCK=" .. KEY } })
    local stop = b:wait_for("llm.stop", nil, 60000)
    b:wait_for("watcher.wait")
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit())

    assert.are.equal("good", stop.metadata.client)
    local kinds = {}
    for _, event in ipairs(b:all("beamlens.llm.exception")) do
      local name = event.metadata.client
      kinds[name] = kinds[name] or {}
      table.insert(kinds[name], event.metadata.kind)
    end
    for _, fault in ipairs(FAULTS) do
      assert.are.same(fault[3], kinds[fault[1]], fault[1])
      assert.are.equal(#fault[2] > 0 and #fault[3] or nil, asked[fault[1]], fault[1])
    end
    assert.are.equal(0, #other.requests)
    assert.are.equal(0, #b:all("beamlens.watcher.llm_error"))
    assert.is_nil((b:stdout() .. b:stderr()):find(KEY, 1, true))
    assert.are.equal("", b:stderr())
  end, 90))
end)
