-- A scripted model drives one watcher through all eight tools on a real node.

local anthropic_server = require("support.anthropic_server")
local node = require("support.node")
local support = require("support")
local watch = require("support.watch")

local TOOLS = { "execute", "fire_alert", "get_alerts", "get_snapshot", "get_snapshots",
  "set_state", "take_snapshot", "wait" }

local CODE = [[
local memory = beam_get_memory()
local processes = beam_get_processes()
local top = beam_top_processes(3, "memory")
return { total_mb = memory.total_mb, count = processes.process_count, showing = top.showing }
]]

-- The text of the newest tool result in a request.
local function last_result(request)
  local messages = request.body.messages
  for _, block in ipairs(messages[#messages].content) do
    if block.type == "tool_result" then
      local content = block.content
      return type(content) == "table" and content[1].text or content, block
    end
  end
end

-- The session: each step is a tool call, made from the answer to the one before.
local function script(seen)
  return {
    function()
      return { tool = "take_snapshot", input = { reason = "a first look" } }
    end,
    function(result)
      seen.snapshot_id = assert(result:match('"id":%s*"(%x+)"'), result)
      return { tool = "execute", input = { reason = "who uses the memory?", code = CODE } }
    end,
    function(result)
      seen.execution = result
      return { tool = "set_state", input = { reason = "worth watching", state = "observing" } }
    end,
    function()
      return { tool = "fire_alert", input = { reason = "told to", type = "memory_growth",
        subject = "orders_cache", severity = "critical", summary = "orders_cache keeps growing",
        snapshot_ids = { seen.snapshot_id } } }
    end,
    function(result)
      seen.alert = result
      return { tool = "get_alerts", input = { reason = "check" } }
    end,
    function(result)
      seen.alerts = result
      return { tool = "get_snapshot", input = { reason = "look again", id = seen.snapshot_id } }
    end,
    function(result)
      seen.snapshot = result
      return { tool = "get_snapshots", input = { reason = "and the others", limit = 5 } }
    end,
    function(result)
      seen.snapshots = result
      return { tool = "wait", input = { reason = "done", ms = 60000, note = "orders_cache" } }
    end,
  }
end

local function check_request(request, stream)
  assert.are.equal("POST", request.method)
  assert.are.equal("/v1/messages", request.path)
  assert.are.equal("sk-spec-key", request.headers["x-api-key"])
  assert.are.equal("2023-06-01", request.headers["anthropic-version"])
  assert.are.equal("application/json", request.headers["content-type"])
  local body = request.body
  assert.are.equal(stream, body.stream == true)
  assert.are.same({ type = "any", disable_parallel_tool_use = true }, body.tool_choice)
  local names = {}
  for i, tool in ipairs(body.tools) do
    names[i] = tool.name
    assert.are.equal("object", tool.input_schema.type)
    assert.is_table(tool.input_schema.properties.reason)
    assert.is_true(#tool.description > 20)
  end
  table.sort(names)
  assert.are.same(TOOLS, names)
  assert.is_true(body.max_tokens > 0)
end

-- What came of the session, in events and in what the model was told.
local function check_outcome(b, seen)
  assert.matches('"showing":%s*3', seen.execution)
  assert.matches("orders_cache", seen.alerts)
  assert.matches(seen.snapshot_id, seen.snapshot)
  assert.matches('"total":%s*%d', seen.snapshots)

  local fired = b:wait_for("watcher.alert_fired").metadata.alert
  assert.are.equal("model", fired.source)
  assert.are.equal("memory_growth", fired.type)
  assert.are.equal("orders_cache", fired.subject)
  -- No finding supports it: it counts as a warning at most.
  assert.is_false(fired.corroborated)
  assert.are.equal("warning", fired.severity)
  assert.are.equal("orders_cache keeps growing", fired.summary)
  assert.are.equal(1, #fired.snapshots)
  assert.are.equal(seen.snapshot_id, fired.snapshots[1].id)
  assert.is_number(fired.snapshots[1].data.memory_utilization_pct)
  assert.are.equal(1, #fired.executions)
  assert.are.equal(3, fired.executions[1].value.showing)

  local change = b:wait_for("watcher.state_change")
  assert.are.equal("healthy", change.metadata.from)
  assert.are.equal("observing", change.metadata.to)
  local executed = b:wait_for("watcher.execute_complete").measurements
  assert.are.equal(3, executed.callbacks)

  local trace = fired.trace_id
  assert.matches("^%x+$", trace)
  assert.are.equal(32, #trace)
  for _, name in ipairs({ "watcher.iteration_start", "tool.start", "tool.stop", "llm.start",
    "llm.stop", "watcher.take_snapshot", "watcher.execute_start", "watcher.get_alerts",
    "watcher.get_snapshot", "watcher.get_snapshots", "watcher.wait" }) do
    local event = b:wait_for(name)
    assert.are.equal(trace, event.metadata.trace_id, name)
    assert.are.equal("beam", event.metadata.watcher)
    assert.are.equal("beam", event.metadata.domain)
  end
end

local function session(stream)
  local n = node.start({ name = "session1" })
  local seen = {}
  local steps = script(seen)
  local server = anthropic_server.start({ on_request = function(request, count)
    local step = steps[count]
    if not step then
      return { tool = "wait", input = { ms = 60000 } }
    end
    return step(last_result(request))
  end })
  local registry = support.write_file(support.tmp_path("clients.lua"), ([[return {
    primary = "Main",
    clients = { { name = "Main", provider = "anthropic",
      options = { model = "claude-haiku-4-5-20251001", base_url = %q, stream = %s } } },
  }]]):format(server.url, tostring(stream)))
  local b = watch.start({ node = n, args = { "--clients", registry },
    env = { "ANTHROPIC_API_KEY=sk-spec-key" } })
  b:wait_for("watcher.wait", nil, 20000)

  check_outcome(b, seen)
  assert.are.equal(8, #server.requests)
  for i, request in ipairs(server.requests) do
    check_request(request, stream)
    -- The conversation grows by a call and its result each time, after the opening message.
    local messages = request.body.messages
    assert.are.equal(1 + 2 * (i - 1), #messages)
    local opening = messages[1].content[1].text
    assert.matches("healthy", opening)
    assert.matches("memory_utilization_pct", opening)
    assert.matches("%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d", opening)
    if i > 1 then
      local call = messages[#messages - 1].content
      local _, result = last_result(request)
      assert.are.equal("tool_use", call[#call].type)
      assert.are.equal(call[#call].id, result.tool_use_id)
    end
  end
  b:kill("sigterm")
  assert.are.equal(0, b:wait_exit())
  assert.are.equal("", b:stderr())
  assert.is_nil(b:stdout():find("sk-spec-key", 1, true))
  assert.is_nil(b:stdout():find(n.cookie, 1, true))
  server:stop()
  os.remove(registry)
end

describe("a session of a model", function()
  it("uses all eight tools, streaming", support.async(function()
    session(true)
  end, 60))

  it("uses all eight tools without streaming", support.async(function()
    session(false)
  end, 60))
end)
