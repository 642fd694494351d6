-- The host as a process: how it ends, what it leaves on the node, and watchers beside each other.

local anthropic_server = require("support.anthropic_server")
local beamlens = require("support.beamlens")
local node = require("support.node")
local support = require("support")
local watch = require("support.watch")

-- What a node looks like from inside, without the evaluating process's own ups and downs.
local STATE = [[
{lists:sort([P || P <- processes(), P =/= self()]), lists:sort(nodes(hidden)),
 lists:sort(erlang:ports())}.
]]

local function modules(n)
  local loaded = {}
  for name in n:eval("[M || {M, _} <- code:all_loaded()]."):gmatch("[%w_]+") do
    loaded[name] = true
  end
  return loaded
end

describe("the host", function()
  it("leaves nothing on the node when it is told to end", support.async(function()
    local n = node.start({ name = "traces1" })
    local before_modules = modules(n)
    local before = n:eval(STATE)
    local b = watch.start({ node = n })
    b:wait_for("sampler.sample")
    b:wait_for("watcher.wait")
    assert.matches("beamlens1@localhost", n:eval("nodes(hidden)."))
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit(10000))
    assert.matches("loop_stopped", b:stdout())

    support.wait_until(function()
      return n:eval("nodes(hidden).") == "[]"
    end, 5000, "the node to see us leave")
    support.wait_until(function()
      return n:eval(STATE) == before
    end, 5000, "the node's processes and ports to be as before")
    assert.are.equal("", n:log())
    for name in pairs(modules(n)) do
      if not before_modules[name] then
        local path = n:eval(("code:which(%s)."):format(name))
        assert.is_truthy(path == "preloaded" or path:find("/lib/erlang/lib/", 1, true),
          name .. " " .. path)
      end
    end
  end, 30))

  it("ends with 0 when its stdout is closed", support.async(function()
    local n = node.start({ name = "traces1" })
    local path = watch.file({ 'name = "beam", domain = "beam", sample = "1s"' })
    local code, text = node.run_program("sh", { "-c", ([[
      { "%s" run "%s" --node %s --log json; echo "status $?" >&2; } | head -3]]):format(
      require("luv").exepath(), path, n.name) }, { "PATH=" .. os.getenv("PATH"),
      "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. n.cookie,
      "ASAN_OPTIONS=" .. (os.getenv("ASAN_OPTIONS") or "") })
    assert.are.equal(0, code)
    assert.matches("status 0", text)
    assert.are.equal(3, select(2, text:gsub('{"event"', "")))
    support.wait_until(function()
      return n:eval("nodes(hidden).") == "[]"
    end)
    assert.are.equal("", n:log())
  end, 30))

  it("stops after --for and after --iterations", support.async(function()
    local n = node.start({ name = "traces1" })
    local b = watch.start({ node = n, args = { "--for", "1s" } })
    assert.are.equal(0, b:wait_exit())
    assert.are.equal("time is over",
      b:wait_for("watcher.loop_stopped").metadata.reason)

    local server = anthropic_server.start({ on_request = function()
      return { tool = "get_alerts", input = { reason = "look" } }
    end })
    local limited = watch.start({ node = n, args = { "--iterations", "2" }, env = {
      "ANTHROPIC_API_KEY=sk-spec", "ANTHROPIC_BASE_URL=" .. server.url } })
    assert.are.equal(0, limited:wait_exit())
    assert.are.equal(2, #server.requests)
    server:stop()
  end, 30))

  it("says what is wrong with its command line and its files, and ends with 2",
    support.async(function()
      local function problem(...)
        local status, stdout, stderr = beamlens.run({ ... })
        assert.are.equal(2, status)
        assert.are.equal("", stdout)
        return stderr
      end
      assert.matches('unknown command "rnu"', problem("rnu"))
      assert.matches("no watcher file given", problem("run"))
      assert.matches("nothing%.lua: no such file", problem("run", "nothing.lua"))
      assert.matches('did you mean "node"', problem("run", "x.lua", "--nod", "x"))
      local path = watch.file({ 'name = "x", domain = "baem", node = "a@h"' })
      assert.matches(path:gsub("%p", "%%%0") .. ':2: no domain "baem"; did you mean "beam"%?',
        problem("run", path))
      local prompt = watch.file({ 'domain = "beam", node = "a@h", prompt = "wacther"' })
      assert.matches('no prompt "wacther"; did you mean "watcher"%?', problem("run", prompt))
      local client = watch.file({ 'domain = "beam", node = "a@h", client = "rule"' })
      assert.matches('no client "rule"; did you mean "rules"%?', problem("run", client))
    end))

  it("keeps watchers apart: a hook that raises, a model that hangs", support.async(function()
    local n = node.start({ name = "apart1" })
    local hanging = anthropic_server.start({ on_request = function()
      return { hang = true }
    end })
    local b = watch.start({ node = n, watchers = {
      ([[name = "hung", domain = "beam", sample = "1s", client = "Slow",
        clients = { primary = "Slow", clients = { { name = "Slow", provider = "anthropic",
          options = { model = "m", api_key = "sk-spec", base_url = %q } } } }]])
        :format(hanging.url),
      [[name = "raises", domain = "beam", sample = "1s", client = "rules",
        guard = function() error("guard is broken") end]],
      [[name = "fine", domain = "beam", sample = "1s", client = "rules"]],
    } })
    local failed = b:wait_for("watcher.hook_failed")
    assert.are.equal("raises", failed.metadata.watcher)
    assert.matches("guard is broken", failed.metadata.error)
    -- Their samples are the same.
    local function samples_of_all()
      return #b:all("beamlens.sampler.sample", function(event)
        return table.concat(event.metadata.watchers, " ") == "hung raises fine"
      end)
    end
    support.wait_until(function()
      return samples_of_all() >= 3
    end, nil, "samples of all three")
    for _, name in ipairs({ "raises", "fine" }) do
      b:wait_for("watcher.wait", function(event)
        return event.metadata.watcher == name
      end)
    end
    assert.are.equal(0, #b:all("beamlens.watcher.crashed"))
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit(60000))
    hanging:stop()
  end, 200))
end)
