-- The host's watch over itself, over real watchers on a moved clock; what the process uses is made
-- up.

local async = require("runtime.async")
local guardian = require("runtime.guardian")
local limits = require("runtime.guardian.limits")
local support = require("support")
local watched = require("support.watched")

local MIB = 1024 ^ 2
local LOOK_MS = 5000

-- A unit over a watched watcher, with a sampler that remembers its cadence.
local function unit_of(name, clock)
  local it_is = watched.new({})
  it_is.watcher.meta = { watcher = name, domain = "beam", node = "shop@db1" }
  it_is.watcher.clock = clock
  local unit = { meta = it_is.watcher.meta, watcher = it_is.watcher, meter = async.meter(),
    domain = { metrics = { {}, {} } }, count = 0, telemetry = it_is.telemetry, it_is = it_is }
  unit.detector = {
    history = { count = function()
      return unit.count
    end },
    sharers = function()
      return 1
    end,
    slow = function(_, times)
      unit.sample_ms = times * unit.watcher.policy.sample_ms
    end,
  }
  function unit.run_ms()
    return unit.meter.run_ms
  end
  return unit
end

local function setup(opts)
  local clock = watched.new({}).clock
  local units = {}
  for i, name in ipairs(opts.watchers or { "one", "two" }) do
    units[i] = unit_of(name, clock)
  end
  -- All on one bus.
  local bus = units[1].telemetry
  for _, unit in ipairs(units) do
    unit.watcher.telemetry = bus
  end
  local it_is = { units = units, clock = clock, used = { rss_bytes = 100 * MIB, cpu_ms = 0 },
    host = units[1].it_is }
  it_is.guardian = guardian.new({ app = { units = units }, telemetry = bus, clock = clock,
    limits = opts.limits, measure = function()
      return it_is.used
    end })
  -- Looks `count` times; `cpu_pct` is used meanwhile.
  function it_is.look(count, cpu_pct)
    for _ = 1, count do
      clock.advance(LOOK_MS)
      it_is.used.cpu_ms = it_is.used.cpu_ms + (cpu_pct or 0) / 100 * LOOK_MS
      it_is.guardian:check()
    end
  end
  it_is.guardian:check()
  return it_is
end

describe("the guardian", function()
  it("tells of memory that stays over its limit, and pauses the watcher that keeps most",
    support.async(function()
      local it_is = setup({ limits = { rss_bytes = 500 * MIB } })
      local one, two = it_is.units[1], it_is.units[2]
      one.count, two.count = 100, 400
      it_is.used.rss_bytes = 501 * MIB
      it_is.look(6)
      assert.is_nil(it_is.host:last("host.over_limit"))
      it_is.look(1)
      local told = it_is.host:last("host.over_limit")
      assert.are.same({ 501 * MIB, 500 * MIB, 30000 }, { told.measurements.value,
        told.measurements.limit, told.measurements.held_ms })
      assert.are.same({ "memory", "two" }, { told.metadata.resource, told.metadata.watcher })
      assert.is_falsy(one.watcher.paused)
      local pause = two.watcher.paused
      assert.are.same({ "guardian", 600000 }, { pause.by, pause.ends_ms - it_is.clock.now_ms() })
      assert.are.equal("the host uses 501.0 MiB, its limit is 500.0 MiB, and this watcher costs "
        .. "most", pause.reason)
      assert.are.equal(10 * two.watcher.policy.sample_ms, two.sample_ms)

      it_is.look(6) -- half a minute later it is the next one's turn
      assert.are.equal("guardian", one.watcher.paused.by)
      it_is.look(6)
      assert.are.equal(3, #it_is.host:all("host.over_limit"))
      assert.is_nil(it_is.host:last("host.over_limit").metadata.watcher)

      it_is.used.rss_bytes = 400 * MIB
      it_is.look(1)
      local recovered = it_is.host:last("host.recovered")
      assert.are.same({ 400 * MIB, 95000 }, { recovered.measurements.value,
        recovered.measurements.duration })
    end))

  it("does not mind a spike", support.async(function()
    local it_is = setup({ limits = { rss_bytes = 500 * MIB, cpu_pct = 80 } })
    for _ = 1, 10 do
      it_is.used.rss_bytes = 900 * MIB
      it_is.look(5, 100)
      it_is.used.rss_bytes = 100 * MIB
      it_is.look(1, 10)
    end
    assert.is_nil(it_is.host:last("host.over_limit"))
    assert.is_nil(it_is.host:last("host.recovered"))
  end))

  it("pauses the watcher whose tasks and scripts run most when the CPU stays over its limit",
    support.async(function()
      local it_is = setup({ limits = { cpu_pct = 80 }, watchers = { "one", "two", "three" } })
      local one, two, three = unpack(it_is.units)
      it_is.guardian:start()
      for _ = 1, 13 do
        one.meter.run_ms = one.meter.run_ms + 1000
        two.meter.run_ms = two.meter.run_ms + 500
        two.watcher:emit("beamlens.watcher.execute_complete", {}, { cpu_ms = 600 })
        three.meter.run_ms = three.meter.run_ms + 700
        it_is.look(1, 90)
      end
      local told = it_is.host:last("host.over_limit")
      assert.are.same({ "cpu", "two" }, { told.metadata.resource, told.metadata.watcher })
      assert.are.equal(60000, told.measurements.held_ms)
      assert.is_true(math.abs(told.measurements.value - 90) < 1e-6)
      assert.matches("^the host uses 90 %% of a core, its limit is 80 %% of a core",
        two.watcher.paused.reason)
      assert.are.equal(1, #it_is.host:all("watcher.paused"))
      it_is.guardian:stop()
    end))

  it("blames no watcher for CPU time that is not theirs", support.async(function()
    local it_is = setup({ limits = { cpu_pct = 80 } })
    for _ = 1, 13 do
      it_is.units[1].meter.run_ms = it_is.units[1].meter.run_ms + 100
      it_is.look(1, 100)
    end
    assert.are.equal(1, #it_is.host:all("host.over_limit"))
    assert.are.equal(0, #it_is.host:all("watcher.paused"))
  end))

  it("samples a watcher as its policy says again when its pause is over", support.async(function()
    local it_is = setup({ limits = { rss_bytes = 50 * MIB }, watchers = { "one" } })
    local one = it_is.units[1]
    one.count = 1
    it_is.guardian:start()
    it_is.look(6)
    assert.are.equal(10 * one.watcher.policy.sample_ms, one.sample_ms)
    one.watcher:resume()
    assert.are.equal(one.watcher.policy.sample_ms, one.sample_ms)
    one.sample_ms = nil
    one.watcher:pause()
    one.watcher:resume() -- one of the operator's own, which has not changed the cadence
    assert.is_nil(one.sample_ms)
    it_is.guardian:stop()
  end))

  it("leaves all alone without limits", support.async(function()
    local it_is = setup({ limits = {} })
    it_is.used.rss_bytes = 2 ^ 50
    it_is.look(50, 100)
    assert.is_nil(it_is.host:last("host.over_limit"))
    assert.are.same({ over = {} }, it_is.guardian:report())
  end))

  it("measures this process", function()
    local before = guardian.measure()
    assert.is_true(before.rss_bytes > MIB)
    local until_ms = async.now_ms() + 20
    while async.now_ms() < until_ms or guardian.measure().cpu_ms == before.cpu_ms do end
    assert.is_true(guardian.measure().cpu_ms > before.cpu_ms)
  end)
end)

describe("a limit of the host", function()
  local function read(opts, values, constrained)
    local told = {}
    local found = limits.read(opts, function(name)
      return values[name]
    end, function(text)
      told[#told + 1] = text
    end, constrained or 0)
    return found, told
  end

  it("is that of the command line, of the environment, or one that is plenty", function()
    assert.are.same({ rss_bytes = 512 * MIB, cpu_pct = 80 }, (read({}, {})))
    assert.are.same({ rss_bytes = 64 * MIB, cpu_pct = 50 },
      (read({}, { BEAMLENS_MAX_RSS = "64MiB", BEAMLENS_MAX_CPU = "50%" })))
    assert.are.same({ rss_bytes = 1, cpu_pct = 2 }, (read({ ["max-rss"] = 1, ["max-cpu"] = 2 },
      { BEAMLENS_MAX_RSS = "64MiB", BEAMLENS_MAX_CPU = "50" })))
    assert.are.same({}, (read({ ["max-rss"] = false }, { BEAMLENS_MAX_CPU = "none" })))
  end)

  it("of memory is less where the system's own is near", function()
    assert.are.equal(80 * MIB, (read({}, {}, 100 * MIB)).rss_bytes)
    assert.are.equal(512 * MIB, (read({}, {}, 64 * 1024 * MIB)).rss_bytes)
  end)

  it("of the system is the smallest of its control groups", function()
    local function found(files, older)
      return limits.group_bytes(function(path)
        return files[path]
      end, older or 0)
    end
    local own = { ["/proc/self/cgroup"] = "12:cpu:/old\n0::/kube/pod/one\n" }
    assert.are.equal(0, found(own))
    own["/sys/fs/cgroup/kube/pod/one/memory.max"] = "max\n"
    assert.are.equal(0, found(own))
    own["/sys/fs/cgroup/kube/memory.max"] = "1000\n"
    own["/sys/fs/cgroup/kube/pod/memory.max"] = "2000\n"
    assert.are.equal(1000, found(own))
    assert.are.equal(700, found(own, 700))
    own["/sys/fs/cgroup/memory.max"] = "500"
    assert.are.equal(500, found(own))
    -- As a container sees its own.
    assert.are.equal(268435456, found({ ["/proc/self/cgroup"] = "0::/\n",
      ["/sys/fs/cgroup/memory.max"] = "268435456\n" }))
    assert.are.equal(0, found({}))
    assert.is_number(limits.group_bytes())
  end)

  it("that cannot be read is told, and the default holds", function()
    local found, told = read({}, { BEAMLENS_MAX_RSS = "much", BEAMLENS_MAX_CPU = "0" })
    assert.are.same({ rss_bytes = 512 * MIB, cpu_pct = 80 }, found)
    assert.are.equal(2, #told)
    assert.matches("BEAMLENS_MAX_RSS: .* is not a size", told[1])
    assert.matches("BEAMLENS_MAX_CPU: .* write 80, or none; the default holds", told[2])
  end)
end)
