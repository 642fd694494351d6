local async = require("runtime.async")
local clock = require("runtime.clock")
local cluster = require("runtime.cluster")
local node = require("support.node")
local support = require("support")
local target = require("runtime.target")
local telemetry = require("runtime.telemetry")

-- A membership over real nodes and real connections. Its own clock is moved by hand.
local function setup(opts)
  local t = { clock = clock.manual(), bus = telemetry.new(), found = {}, left = {}, ignored = {} }
  t.bus:attach("spec", "beamlens.node.ignored", function(_, _, metadata)
    t.ignored[#t.ignored + 1] = metadata
  end)
  t.targets = {}
  function t.target(name)
    if not t.targets[name] then
      t.targets[name] = target.new({ node = name, epmd_port = opts.seed.epmd_port,
        telemetry = t.bus, cookie = function()
          return opts.seed.cookie
        end, backoff_ms = { first = 20, max = 100 } })
      t.targets[name]:start()
    end
    return t.targets[name]
  end
  t.cluster = cluster.new({ clock = t.clock, telemetry = t.bus, epmd_port = opts.seed.epmd_port,
    limit = opts.limit,
    on_member = function(name, seed)
      t.found[#t.found + 1] = name .. " by " .. seed
      return t.target(name)
    end,
    on_left = function(name)
      t.left[#t.left + 1] = name
      t.targets[name]:stop()
      t.targets[name] = nil
    end })
  support.on_cleanup(function()
    t.cluster:stop()
    for _, one in pairs(t.targets) do
      one:stop()
    end
  end)
  t.cluster:add(opts.seed.name, t.target(opts.seed.name), true)
  t.cluster:follow(opts.seed.name)
  assert(t.target(opts.seed.name):wait_up(support.patience_ms()))
  --- One round of questions, all of them answered.
  function t.round()
    t.cluster:ask_all()
    support.wait_until(function()
      for _, member in pairs(t.cluster.members) do
        if member.asking then
          return false
        end
      end
      return true
    end)
  end
  --- Rounds, with a look each, over so much of the moved clock.
  function t.pass(minutes)
    for _ = 1, minutes * 2 do
      t.clock.advance(30000)
      t.round()
      t.cluster:check()
    end
  end
  return t
end

local function ping(from, to)
  assert.equal("pong", from:eval(("net_adm:ping('%s')."):format(to.name)))
end

describe("a followed cluster", function()
  it("finds peers, and the peers of those that a node joins later", support.async(function()
    local a, b = node.start({ name = "cl1a" }), node.start({ name = "cl1b" })
    local t = setup({ seed = a })
    t.round()
    assert.same({}, t.found)
    ping(a, b)
    t.round()
    assert.same({ "cl1b@localhost by cl1a@localhost" }, t.found)
    assert(t.target(b.name):wait_up(support.patience_ms()))

    -- Known to b alone: the seed is asked not to connect to it.
    local c = node.start({ name = "cl1c", args = { "-connect_all", "false" } })
    a:eval("application:set_env(kernel, dist_auto_connect, never).")
    ping(c, b)
    support.wait_until(function()
      t.round()
      return t.found[2]
    end)
    assert.equal("cl1c@localhost by cl1a@localhost", t.found[2])
    assert.equal(2, #t.found)
  end))

  it("says that a member has left 10 min after all forgot it, and finds it again",
    support.async(function()
      local a, b = node.start({ name = "cl2a" }), node.start({ name = "cl2b" })
      ping(a, b)
      local t = setup({ seed = a })
      t.round()
      assert(t.target(b.name):wait_up(support.patience_ms()))
      t.pass(15)
      assert.same({}, t.left)

      b:eval("spawn(fun() -> timer:sleep(50), init:stop() end).")
      b:wait_exit()
      support.wait_until(function()
        return a:eval("nodes().") == "[]" and t.target(b.name):status().status == "down"
      end)
      t.pass(9.5)
      assert.same({}, t.left)
      t.pass(1)
      assert.same({ b.name }, t.left)
      assert.is_nil(t.cluster.members[b.name])
      assert.equal(1, t.cluster.count)

      local again = node.start({ name = "cl2b" })
      ping(a, again)
      t.round()
      assert.equal(2, #t.found)
      assert(t.target(b.name):wait_up(support.patience_ms()))
    end, 40))

  it("keeps a member that is out of reach but registered, or that we cannot judge",
    support.async(function()
      local a, b = node.start({ name = "cl3a" }), node.start({ name = "cl3b" })
      ping(a, b)
      local t = setup({ seed = a })
      t.round()
      assert(t.target(b.name):wait_up(support.patience_ms()))
      -- Stopped, the operating system keeps its connections; the seed lets go of it.
      b:kill("sigstop")
      t.target(b.name):stop()
      a:eval(("erlang:disconnect_node('%s')."):format(b.name))
      assert.equal("[]", a:eval("nodes()."))
      t.pass(20)
      assert.same({}, t.left)

      -- Nobody is left to say that it is gone.
      b:kill("sigkill")
      b:wait_exit()
      a:stop()
      support.wait_until(function()
        return t.target(a.name):status().status == "down"
      end)
      t.pass(20)
      assert.same({}, t.left)
    end, 40))

  it("takes only names that are ones, and says which it does not", support.async(function()
    local a = node.start({ name = "cl4a" })
    local t = setup({ seed = a })
    local seed = t.cluster.members[a.name]
    t.cluster:learn(seed, { "ok@localhost", "no-host", "a b@localhost", "x@localhost:4369",
      "evil\27[2J@localhost", ("n"):rep(300) .. "@h", true, 17, "it's@localhost", "x@y@z" })
    assert.same({ "ok@localhost by " .. a.name }, t.found)
    assert.equal(9, #t.ignored)
    assert.equal(a.name, t.ignored[1].via)
    for _, ignored in ipairs(t.ignored) do
      assert.is_true(#ignored.node <= 64)
      assert.is_nil(ignored.node:find("%c"))
    end
    t.cluster:learn(seed, { "no-host" })
    assert.equal(9, #t.ignored)
  end))

  it("takes no more members than the limit, and says so once", support.async(function()
    local a = node.start({ name = "cl5a" })
    local t = setup({ seed = a, limit = 4 })
    local seed = t.cluster.members[a.name]
    local names = {}
    for i = 1, 10 do
      names[i] = ("nobody%d@localhost"):format(i)
    end
    t.cluster:learn(seed, names)
    t.cluster:learn(seed, names)
    assert.equal(3, #t.found)
    assert.equal(4, t.cluster.count)
    assert.is_true(#t.ignored >= 1 and #t.ignored <= 4)
    assert.matches("^ELIMIT: 4 members", t.ignored[1].error)
  end))

  it("asks each member once a round, whoever follows it", support.async(function()
    local a, b = node.start({ name = "cl6a" }), node.start({ name = "cl6b" })
    ping(a, b)
    local t = setup({ seed = a })
    t.cluster:add(b.name, t.target(b.name), true)
    t.cluster:follow(b.name)
    assert(t.target(b.name):wait_up(support.patience_ms()))
    local asked = 0
    for _, one in pairs(t.targets) do
      local call = one.call
      function one.call(...)
        asked = asked + 1
        return call(...)
      end
    end
    t.round()
    assert.equal(2, asked)
    async.sleep(0)
    -- Each was found through the other; both are known already.
    table.sort(t.found)
    assert.same({ "cl6a@localhost by cl6b@localhost", "cl6b@localhost by cl6a@localhost" },
      t.found)
  end))
end)
