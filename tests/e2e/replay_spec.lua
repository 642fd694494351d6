-- What `run --record` wrote, `run --replay` prints again to the byte, without node or model.

local anthropic_server = require("support.anthropic_server")
local json = require("runtime.json")
local node = require("support.node")
local sessions = require("support.sessions")
local support = require("support")
local watch = require("support.watch")

local KEY = "sk-ant-api03-very-secret-key-of-the-spec"
local HEADER = "header-value-that-nobody-may-see"
local COOKIE = "a_cookie_that_nobody_may_see"

local CODE = [[
local top = beam_top_processes(3, "memory")
local memory = beam_get_memory()
return { showing = top.showing, total = memory.total_mb, first = top.processes[1] }
]]

-- The text of the newest tool result in a request.
local function last_result(request)
  local messages = request.body.messages
  for _, block in ipairs(messages[#messages].content) do
    if block.type == "tool_result" then
      local content = block.content
      return type(content) == "table" and content[1].text or content
    end
  end
end

-- What the model does: each step is made from the answer to the one before.
local function script()
  local id
  return {
    function()
      return { tool = "take_snapshot", input = { reason = "a first look" } }
    end,
    function(result)
      id = assert(result:match('"id":%s*"(%x+)"'), result)
      return { status = 529, error = "overloaded_error", message = "Overloaded" }
    end,
    function()
      return { tool = "execute", input = { reason = "who uses the memory?", code = CODE } }
    end,
    function()
      return { tool = "execute", input = { reason = "a mistake", code = "return nothing.at_all" } }
    end,
    function()
      return { tool = "set_state", input = { reason = "worth watching", state = "observing" } }
    end,
    function()
      return { tool = "fire_alert", input = { reason = "told to", type = "memory_growth",
        subject = "orders_cache", severity = "warning", summary = "orders_cache grows – stetig",
        snapshot_ids = { id } } }
    end,
    function()
      return { tool = "wait", input = { reason = "done", ms = 1000, note = "orders_cache" } }
    end,
  }
end

-- A registry of a scripted model, which waits when its script is over.
local function registry()
  local steps, at = script(), 0
  local server = anthropic_server.start({ on_request = function(request)
    at = at + 1
    if steps[at] then
      return steps[at](last_result(request))
    end
    return { tool = "wait", input = { reason = "nothing to do", ms = 1000 } }
  end })
  support.on_cleanup(function()
    server:stop()
  end)
  local path = support.write_file(support.tmp_path("replay-clients.lua"), ([[return {
    clients = { { name = "Main", provider = "anthropic", retry_policy = "DefaultRetry",
      options = { model = "claude-haiku-4-5-20251001", base_url = %q,
        headers = { ["X-Own"] = %q } } } },
  }]]):format(server.url, HEADER))
  support.on_cleanup(function()
    os.remove(path)
  end)
  return path, server
end

local WAITS = 'wait = { min = "1s", max = "2s" }'

describe("a recorded session", function()
  it("of rules on a node replays to the identical events", support.async(function()
    local n = node.start({ name = "record1" })
    local path = sessions.path()
    local b = watch.start({ node = n, args = { "--record", path, "--iterations", "2" },
      watchers = { 'name = "beam", domain = "beam", sample = "1s", ' .. WAITS,
        'name = "tables", domain = "ets", sample = "1s", ' .. WAITS,
        'name = "sup", domain = "sup", sample = "1s", ' .. WAITS } })
    assert.are.equal(0, sessions.wait_exit(b, 30000), b:stderr())
    n:stop()
    sessions.assert_replays(path, b:stdout())
  end, 90))

  it("of a model that calls each kind of tool, and fails, replays without it", support.async(
    function()
      local n = node.start({ name = "record2" })
      local path = sessions.path()
      local clients, server = registry()
      local b = watch.start({ node = n, args = { "--record", path, "--clients", clients },
        watchers = { 'name = "beam", domain = "beam", sample = "1s", ' .. WAITS },
        env = { "ANTHROPIC_API_KEY=" .. KEY } })
      b:wait_for("llm.exception", nil, 20000)
      b:wait_for("watcher.execute_complete", nil, 20000)
      b:wait_for("watcher.execute_error", nil, 20000)
      b:wait_for("watcher.alert_fired", nil, 20000)
      b:wait_for("watcher.wait", nil, 20000)
      b:kill("sigterm")
      assert.are.equal(0, sessions.wait_exit(b, 20000), b:stderr())
      server:stop()
      n:stop()
      sessions.assert_replays(path, b:stdout())
      local text = sessions.read(path)
      assert.is_nil(text:find(KEY, 1, true))
      assert.is_nil(text:find(HEADER, 1, true))
    end, 90))

  it("of a node that goes away and comes back replays, killed or not", support.async(function()
    local n = node.start({ name = "record3", cookie = COOKIE })
    local path = sessions.path()
    local b = watch.start({ node = n, cookie = COOKIE, args = { "--record", path } })
    b:wait_for("node.up", nil, 20000)
    b:wait_for("watcher.wait", nil, 20000)
    n:stop()
    b:wait_for("node.down", function(event)
      return event.metadata.was_up
    end, 20000)
    node.start({ name = "record3", cookie = COOKIE })
    b:wait_for("node.restarted", nil, 40000)
    support.wait_until(function()
      local _, connections = sessions.read(path):gsub('"kind":"connect"[^\n]*"v":%[true', "")
      return connections == 2
    end, 20000, "the second connection in the recording")
    b:kill("sigkill")
    b:wait_exit(20000)

    local status, replayed, stderr = sessions.replay(path)
    assert.are.equal(0, status)
    assert.matches("has no end of the run: it was killed then", stderr)
    assert.matches("beamlens.node.up.*beamlens.node.down", replayed)
    -- What was printed last may be missing in the file, and what was recorded last may never have
    -- been printed.
    local common = math.min(#replayed, #b:stdout())
    assert.are.equal(b:stdout():sub(1, common), replayed:sub(1, common))
    assert.is_nil(sessions.read(path):find(COOKIE, 1, true))

    local again
    status, again = sessions.replay(path)
    assert.are.equal(0, status)
    assert.are.equal(replayed, again)
  end, 120))

  it("has each line of what was printed in it", support.async(function()
    local n = node.start({ name = "record4" })
    local path = sessions.path()
    local b = watch.start({ node = n, args = { "--record", path, "--for", "3s" } })
    assert.are.equal(0, sessions.wait_exit(b, 30000), b:stderr())
    local count = 0
    for line in sessions.read(path):gmatch("[^\n]+") do
      assert.is_table(json.decode(line))
      count = count + 1
    end
    assert.is_true(count > 10)
    sessions.assert_replays(path, b:stdout())
  end, 90))
end)
