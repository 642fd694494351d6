-- `beamlens status`, `pause`, `resume`, `wake`, as an operator types them, beside running hosts.

local beamlens = require("support.beamlens")
local control = require("support.control")
local json = require("runtime.json")
local node = require("support.node")
local support = require("support")
local tree = require("support.tree")
local units = require("runtime.units")
local uv = require("luv")
local watch = require("support.watch")

local DOMAIN = [[
return {
  name = "calm", target = "none", title = "Calm",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function() return { level = 1 } end,
  callbacks = {}, rules = {},
}
]]

local WATCHERS = [[return {
  { name = "one", domain = "calm", sample = "1s", wait = { min = "1s", max = "1s" } },
  { name = "two", domain = "calm", sample = "1s", wait = { min = "1s", max = "1h" } },
}]]

-- A folder for the sockets of this case, and the environment that names it.
local function session()
  local folder = control.folder()
  return { "BEAMLENS_RUNTIME_DIR=" .. folder }, folder
end

local function start_calm(env)
  local root = tree.make({ ["domains/calm.lua"] = DOMAIN, ["watchers/w.lua"] = WATCHERS,
    ["clients.lua"] = 'return { primary = "rules", clients = {} }' })
  return beamlens.start({ "run", root .. "/watchers/w.lua", "--log", "json" },
    { cwd = root, env = env })
end

-- Waits until both of its watchers wait.
local function calm(b)
  for _, name in ipairs({ "one", "two" }) do
    b:wait_for("watcher.wait", function(event)
      return event.metadata.watcher == name
    end, 60000)
  end
  return b
end

local function run(env, ...)
  return beamlens.run({ ... }, { env = env, timeout_ms = 60000 })
end

-- The status as a script reads it.
local function status(env, ...)
  local code, stdout, stderr = run(env, "status", "--json", ...)
  assert.are.equal(0, code, stderr)
  return assert(json.decode(stdout))
end

local function count(b, name, watcher)
  return #b:all("beamlens." .. name, function(event)
    return event.metadata.watcher == watcher
  end)
end

local function has_more(b, name, watcher)
  local before = count(b, name, watcher)
  support.wait_until(function()
    return count(b, name, watcher) > before
  end, 60000, ("another %s of %s"):format(name, watcher))
end

local function stop(b)
  b:kill("sigterm")
  assert.are.equal(0, b:wait_exit(60000))
  assert.are.equal("", b:stderr())
end

describe("beamlens status", function()
  it("tells of watchers, node, spending and the host itself, and no secret", support.async(
    function()
      local env = session()
      local n = node.start({ name = "status1", cookie = "very-secret-cookie" })
      local clients = support.tmp_path("control-clients.lua")
      support.on_cleanup(function()
        os.remove(clients)
      end)
      support.write_file(clients, [[return { primary = "rules", clients = { { name = "Main",
        provider = "anthropic", options = { model = "m", api_key = "sk-very-secret" } } },
        limits = { usd_per_day = 5 } }]])
      env[2] = "ANTHROPIC_API_KEY=sk-other-secret"
      local b = watch.start({ node = n, env = env, args = { "--clients", clients }, watchers = {
        'name = "beam", domain = "beam", sample = "1s", limits = { tokens_per_hour = 9000 }',
      } })
      b:wait_for("watcher.wait", nil, 60000)
      local seen = status(env)
      assert.are.equal(b.pid, seen.host.pid)
      assert.is_true(seen.host.rss_bytes > 2 ^ 20)
      assert.is_true(seen.host.uptime_ms > 0 and seen.host.cpu_ms > 0)
      assert.are.equal("run", seen.host.args[2])
      assert.are.equal(5, seen.spending.limits[1].limit)
      local up = seen.nodes[1]
      assert.are.same({ n.name, "up", "beamlens1@localhost" }, { up.node, up.status, up.own_name })
      assert.matches("^%d+$", up.otp_release)
      local watcher = seen.watchers[1]
      assert.are.same({ "beam", "beam", n.name, "rules", "healthy" }, { watcher.watcher,
        watcher.domain, watcher.node, watcher.client, watcher.state.name })
      assert.are.equal("wait", watcher.last_decision.tool)
      assert.is_true(watcher.iteration >= 1)
      assert.are.equal(9000, watcher.spending.limits[1].left)

      local code, text = run(env, "status")
      assert.are.equal(0, code)
      assert.is_truthy(text:find(("node %s up for "):format(n.name), 1, true), text)
      assert.is_truthy(text:find(("beam on %s: healthy (as of "):format(n.name), 1, true), text)
      assert.is_truthy(text:find("left 9 000 of 9 000 tokens until ", 1, true), text)
      assert.is_nil((text .. json.encode(seen)):find("secret", 1, true))
      stop(b)
    end, 130))

  it("says where it looked when no host runs, also beside a dead one's socket", support.async(
    function()
      local env, folder = session()
      local b = calm(start_calm(env))
      b:kill("sigkill")
      b:wait_exit()
      assert.is_table(uv.fs_stat(("%s/%d.sock"):format(folder, b.pid)))
      for _, args in ipairs({ { "status" }, { "status", "--pid", tostring(b.pid) },
        { "pause", "one", "--socket", folder .. "/1.sock" } }) do
        local code, stdout, stderr = run(env, unpack(args))
        assert.are.equal(1, code)
        assert.are.equal("", stdout)
        assert.matches("no beamlens", stderr)
        assert.is_truthy(stderr:find(folder, 1, true) or args[2] == "--pid", stderr)
      end
    end, 130))

  it("tells of a host that does not answer", support.async(function()
    local env = session()
    local b = calm(start_calm(env))
    b:kill("sigstop")
    local code, stdout, stderr = run(env, "status", "--timeout", "1s")
    assert.are.equal(1, code)
    assert.are.equal("", stdout)
    assert.are.equal(("beamlens: the beamlens with pid %d does not answer: no answer within "
      .. "1000 ms\n"):format(b.pid), stderr)
    b:kill("sigcont")
    stop(b)
  end, 130))

  it("wants to know which of several hosts, and takes a pid or a socket", support.async(function()
    local env, folder = session()
    local b, other = calm(start_calm(env)), calm(start_calm(env))
    local code, stdout, stderr = run(env, "status")
    assert.are.equal(2, code)
    assert.are.equal("", stdout)
    for _, each in ipairs({ b, other }) do
      assert.matches(("%%-%%-pid %d  .* run .*w%%.lua"):format(each.pid), stderr)
    end
    assert.are.equal(other.pid, status(env, "--pid", tostring(other.pid)).host.pid)
    local socket = ("%s/%d.sock"):format(folder, b.pid)
    assert.are.equal(b.pid, status(env, "--socket", socket).host.pid)
    stop(other)
    assert.are.equal(b.pid, status(env).host.pid)
    stop(b)
    assert.is_nil((uv.fs_stat(socket)))
  end, 130))
end)

describe("beamlens pause", function()
  it("stops the decisions of one watcher, until resume; sampling and the others go on",
    support.async(function()
      local env = session()
      local b = calm(start_calm(env))
      local code, stdout = run(env, "pause", "one")
      assert.are.equal(0, code)
      assert.are.equal("paused one on calm", stdout)
      local seen
      support.wait_until(function()
        seen = status(env)
        return seen.watchers[1].status == "paused"
      end, 60000, "the watcher to pause")
      -- What was told before that has been read when something later has.
      b:wait_for("sampler.sample", function(event)
        return event.time > units.format_time(seen.host.now_ms)
      end, 60000)
      local decisions = count(b, "watcher.iteration_start", "one")
      has_more(b, "sampler.sample", "one")
      has_more(b, "sampler.sample", "one")
      assert.are.equal(decisions, count(b, "watcher.iteration_start", "one"))
      seen = status(env)
      assert.are.equal("paused", seen.watchers[1].state.text)
      assert.are.equal("operator", seen.watchers[1].paused.by)
      assert.is_nil(seen.watchers[2].paused)
      assert.are.equal(2, (run(env, "wake", "oen")))
      assert.are.equal(1, (run(env, "wake", "one")))

      -- The other one sleeps for an hour, unless it is woken.
      decisions = count(b, "watcher.iteration_start", "two")
      assert.are.equal(0, (run(env, "wake", "two@calm")))
      support.wait_until(function()
        return count(b, "watcher.iteration_start", "two") > decisions
      end, 60000, "a decision of the woken watcher")

      decisions = count(b, "watcher.iteration_start", "two")
      code, stdout = run(env, "wake", "*")
      assert.are.equal(0, code)
      assert.are.equal("woke 1 watcher, 1 left out", stdout)
      support.wait_until(function()
        return count(b, "watcher.iteration_start", "two") > decisions
      end, 60000, "a decision of the watcher that is no longer named alone")
      code, stdout = run(env, "pause", "t*", "--node", "calm")
      assert.are.equal(0, code)
      assert.are.equal("paused 1 watcher", stdout)
      assert.are.equal(0, (run(env, "resume", "t*")))

      assert.are.equal(0, (run(env, "resume", "one", "--node", "calm")))
      has_more(b, "watcher.iteration_start", "one")
      stop(b)
    end, 130))

  it("ends by itself after --for", support.async(function()
    local env = session()
    local b = calm(start_calm(env))
    local code, stdout = run(env, "pause", "one", "--for", "1s")
    assert.are.equal(0, code)
    assert.matches("^paused one on calm until %d%d:%d%d:%d%d UTC$", stdout)
    local resumed = b:wait_for("watcher.resumed", nil, 60000)
    assert.are.equal("time", resumed.metadata.by)
    has_more(b, "watcher.iteration_start", "one")
    stop(b)
  end, 130))

  it("is checked: names, options, and what may be meant", support.async(function()
    local env = session()
    local b = calm(start_calm(env))
    for _, case in ipairs({
      { { "pause" }, "usage: beamlens pause WATCHER" },
      { { "pause", "one", "two" }, "usage: beamlens pause WATCHER" },
      { { "pause", "one", "--for", "soon" }, "--for: " },
      { { "pause", "onee" }, 'no watcher onee runs; did you mean "one"?' },
      { { "pause", "one", "--node", "x@h" }, "no watcher one on x@h runs" },
      { { "status", "one" }, "usage: beamlens status" },
      { { "status", "--pid", "x" }, "--pid: " },
    }) do
      local code, stdout, stderr = run(env, unpack(case[1]))
      assert.are.equal(2, code, stderr)
      assert.are.equal("", stdout)
      assert.is_truthy(stderr:find(case[2], 1, true), stderr)
    end
    stop(b)
  end, 130))
end)
