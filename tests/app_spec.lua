-- The running host over real nodes.

local alerts = require("runtime.alerts")
local app = require("runtime.app")
local async = require("runtime.async")
local clients = require("runtime.clients")
local clock = require("runtime.clock")
local loader = require("runtime.loader")
local node = require("support.node")
local policy = require("runtime.policy")
local sandbox = require("runtime.sandbox")
local support = require("support")
local telemetry = require("runtime.telemetry")

-- A host for the watchers of `source`, started; stopped when the case ends.
local function host(n, source, opts)
  opts = opts or {}
  local t = { events = {}, bus = telemetry.new(), clock = clock.system() }
  t.bus:attach_many("spec", telemetry.event_names(), function(event, _, metadata)
    t.events[#t.events + 1] = { event = event:match("^beamlens%.(.*)"), metadata = metadata }
  end)
  function t.all(event, node_name)
    local found = {}
    for _, e in ipairs(t.events) do
      if e.event == event and (not node_name or e.metadata.node == node_name) then
        found[#found + 1] = e.metadata
      end
    end
    return found
  end
  function t.wait(event, node_name, timeout_ms)
    return support.wait_until(function()
      return t.all(event, node_name)[1]
    end, timeout_ms, event)
  end
  local policies, errors = policy.parse(source, "watchers/spec.lua", { env = function() end })
  assert(policies, table.concat(errors or {}, "\n"))
  t.alerts = alerts.new({ telemetry = t.bus, clock = t.clock })
  local box = sandbox.new({ telemetry = t.bus })
  t.app, t.errors = app.new({
    policies = policies,
    registry = assert(clients.new({ telemetry = t.bus, clock = t.clock, env = function() end })),
    loader = loader.new({}),
    sandbox = box,
    alerts = t.alerts, telemetry = t.bus, clock = t.clock,
    cookie = function()
      return function()
        return n.cookie
      end
    end,
    epmd_port = n.epmd_port,
    cluster = opts.cluster or { ask_ms = 200, leave_ms = 2000 },
  })
  if t.app then
    t.refused = {}
    support.on_cleanup(function()
      t.app:stop("spec")
    end)
    t.app:start({ on_refused = function(err)
      t.refused[#t.refused + 1] = err
    end })
  else
    box:close()
  end
  return t
end

local function ping(from, to)
  assert.equal("pong", from:eval(("net_adm:ping('%s')."):format(to.name)))
end

-- Counts what is evaluated on a node: sources by their beginning.
local function count_evals(one)
  local counts = {}
  local eval = one.evaluator.run
  function one.evaluator.run(self, source, ...)
    local key = source:match("process_count =>") and "snapshot"
      or source:match("ScanItems") and "sweep" or "other"
    counts[key] = (counts[key] or 0) + 1
    return eval(self, source, ...)
  end
  return counts
end

describe("the running host", function()
  it("samples a node once for all watchers of a domain, and sweeps it once",
    support.async(function()
      local n = node.start({ name = "app1" })
      local watchers = {}
      for i = 1, 5 do
        watchers[i] = ('{ name = "w%d", domain = "beam", node = %q, sample = "1h" }'):format(i,
          n.name)
      end
      local begun_ms = async.now_ms()
      local t = host(n, "return {" .. table.concat(watchers, ",") .. "}")
      assert.equal(1, #t.app.order)
      local counts = count_evals(t.app.nodes[n.name].target)
      local sample = t.wait("sampler.sample")
      assert.equal("w1", sample.watcher)
      assert.same({ "w1", "w2", "w3", "w4", "w5" }, sample.watchers)
      support.wait_until(function()
        return t.app.nodes[n.name].sweep:latest()
      end)
      -- Openings share what is under way, or has just been taken.
      local function opened()
        for _, unit in ipairs(t.app.units) do
          if unit.watcher.status ~= "waiting" then
            return false
          end
        end
        return true
      end
      support.wait_until(opened, nil, "all watchers to wait")
      assert.equal(1, #t.all("sampler.sample"))
      -- A pass is due every 10 s.
      assert.is_true(counts.sweep >= 1
        and counts.sweep <= 1 + (async.now_ms() - begun_ms) / 10000, counts.sweep)
      assert.equal(1, #t.all("node.up"))
    end))

  it("tells of one fault once: of full ports by beam only where no watcher of ports is",
    support.async(function()
      local function full(name)
        local n = node.start({ name = name, args = { "+Q", "1024" } })
        n:eval("fl:ports(900), timer:sleep(100).")
        return n
      end
      local both, alone = full("app3a"), full("app3b")
      local rules = 'sample = "1s", rules = { port_limit = { hold = "1s" } }'
      local t = host(both, ([[return {
        { name = "beam", domain = "beam", node = { "%s", "%s" }, %s },
        { name = "ports", domain = "ports", node = "%s", %s },
      }]]):format(both.name, alone.name, rules, both.name, rules))
      t.wait("watcher.alert_fired", alone.name)
      t.wait("watcher.alert_fired", both.name)
      local before = #t.all("sampler.sample", both.name)
      support.wait_until(function()
        return #t.all("sampler.sample", both.name) >= before + 4
      end, 15000, "further samples")
      local function told(n)
        local list = {}
        for i, fired in ipairs(t.all("watcher.alert_fired", n.name)) do
          list[i] = fired.watcher .. " " .. fired.alert.type
        end
        return table.concat(list, ", ")
      end
      assert.equal("ports port_limit", told(both))
      assert.equal("beam port_limit", told(alone))
    end, 60))

  it("follows a cluster: members join, leave with their alerts, and come back anew",
    support.async(function()
      local a, b = node.start({ name = "app2a" }), node.start({ name = "app2b" })
      ping(a, b)
      local t = host(a, ([[return {
        { name = "beam", domain = "beam", node = { "cluster:%s", "%s" }, sample = "1s",
          rules = { node_down = { hold = "1s" } } },
        { name = "own", domain = "beam", node = "%s" },
      }]]):format(a.name, a.name, a.name), { cluster = { ask_ms = 200, leave_ms = math.huge } })
      assert.equal(2, #t.app.units)
      t.wait("sampler.sample", b.name)
      assert.equal(1, #t.all("node.joined"))
      assert.same({ a.name, b.name }, { t.app.order[1].name, t.app.order[2].name })
      assert.equal(3, #t.app.units)

      local c = node.start({ name = "app2c" })
      ping(c, b)
      t.wait("sampler.sample", c.name)
      -- A model's alert, which no rule ends.
      t.alerts:fire({ watcher = "beam", domain = "beam", node = b.name, type = "other",
        subject = "x", severity = "warning", source = "model", summary = "s", title = "t" })
      local gone = setmetatable({ t.app.nodes[b.name], t.app.nodes[b.name].units[1] },
        { __mode = "v" })
      b:eval("spawn(fun() -> timer:sleep(50), init:stop() end).")
      b:wait_exit()
      support.wait_until(function()
        return #t.alerts:firing({ node = b.name }) == 2 -- the model's and node_down
      end, nil, "the node to be down")
      t.app.cluster.leave_ms = 2000
      t.wait("node.left", b.name)
      assert.is_nil(t.app.nodes[b.name])
      assert.same({}, t.alerts:firing({ node = b.name }))
      local resolved = t.all("watcher.alert_resolved", b.name)
      assert.equal(2, #resolved)
      for _, metadata in ipairs(resolved) do
        assert.equal("left", metadata.alert.resolved_by)
      end
      assert.equal("left", t.wait("watcher.loop_stopped", b.name).reason)
      support.wait_until(function()
        jit.flush() -- compiled code holds on to what it was compiled for
        collectgarbage()
        collectgarbage()
        return next(gone) == nil
      end, 30000, "the memory of a node that left to be free")
      assert.same({}, t.all("node.down", a.name))
      assert.same({}, t.all("node.down", c.name))

      t.events = {}
      local again = node.start({ name = "app2b" })
      ping(a, again)
      t.wait("sampler.sample", b.name)
      assert.equal(1, #t.all("node.joined", b.name))
      assert.equal(1, #t.all("watcher.started", b.name))
      assert.same({}, t.all("node.restarted"))
    end, 120))

  it("tells of a peer whose host is not to be found, and of nobody else", support.async(function()
    local a, b = node.start({ name = "app3a" }), node.start({ name = "app3b" })
    ping(a, b)
    local t = host(a, ([[return { domain = "beam", node = "cluster:%s", sample = "1s" }]])
      :format(a.name), { cluster = { ask_ms = 60000, leave_ms = 600000 } })
    t.wait("node.up", b.name)
    t.app.cluster:learn(t.app.cluster.members[a.name], { "lost@no-such-host.invalid", b.name })
    local down = t.wait("node.down", "lost@no-such-host.invalid")
    assert.equal("EHOST", down.code)
    assert.is_false(down.was_up)
    t.events = {}
    t.wait("sampler.sample", a.name)
    t.wait("sampler.sample", b.name)
    assert.same({}, t.all("node.down", a.name))
    assert.same({}, t.all("node.down", b.name))
    assert.same({}, t.refused)
  end, 40))

  it("ends at the start only when every node that the files name refuses for good",
    support.async(function()
      local a, b = node.start({ name = "app4a" }), node.start({ name = "app4b" })
      ping(a, b)
      local t = host({ cookie = "wrong", epmd_port = a.epmd_port },
        ('return { domain = "beam", node = { "cluster:%s", "%s" } }'):format(a.name, b.name))
      support.wait_until(function()
        return t.refused[1]
      end)
      assert.matches("ECOOKIE", t.refused[1])
      assert.equal(1, #t.refused)
    end))

  it("refuses two watchers of one name on one node, but not one that is listed and followed",
    support.async(function()
      local n = { cookie = "c" }
      local t = host(n, [[return {
        { name = "w", domain = "beam", node = "a@h" },
        { name = "w", domain = "beam", node = "cluster:a@h" },
      }]])
      assert.is_nil(t.app)
      assert.matches("watcher w on a@h is defined twice", t.errors[1])
    end))

  it("introduces a watcher in one line, however many nodes it watches", function()
    local introduction = require("runtime.app.introduction")
    local names = {}
    for i = 1, 50 do
      names[i] = ('"n%d@h"'):format(i)
    end
    local list = assert(policy.parse(([[return {
      { domain = "beam", node = { %s } }, { domain = "beam", name = "c", node = "cluster:a@h" },
    }]]):format(table.concat(names, ",")), "x.lua", { env = function() end }))
    local units = {}
    local registry = assert(require("runtime.clients").new({ config = { primary = "rules" } }))
    for i, one in ipairs(list) do
      units[i] = { policy = one, registry = registry }
    end
    local lines = introduction.lines(units)
    assert.equal(2, #lines)
    assert.matches("^watcher x%-beam on n1@h, n2@h, n3@h and 47 more: domain beam, ", lines[1])
    assert.matches("^watcher c on the cluster of a@h: domain beam, ", lines[2])
  end)
end)
