local async = require("runtime.async")
local clock = require("runtime.clock")
local detection = require("support.detection")
local sampler = require("runtime.sampler")
local support = require("support")

local function setup(opts)
  opts = opts or {}
  local t = detection.bus()
  t.clock = opts.clock or clock.manual(1.7e12)
  t.target = opts.target
  t.sweep = { latest = function()
    return t.pass
  end }
  t.samples, t.taken = {}, 0
  t.domain = { snapshot = function()
    t.taken = t.taken + 1
    return t.snapshot()
  end }
  t.snapshot = function()
    return { mono_ms = t.taken, n = t.taken }
  end
  t.sampler = sampler.new({
    meta = { domain = "beam", node = "shop@db1" },
    who = function()
      return "shop"
    end,
    domain = t.domain, ctx = { target = t.target, sweep = t.sweep },
    sample_ms = opts.sample_ms or 3600000, telemetry = t.bus, clock = t.clock,
    timeout_ms = opts.timeout_ms, spread = opts.spread,
    on_sample = function(sample)
      if t.refuse then
        return nil, "ECLOCK: no", "ECLOCK"
      end
      t.samples[#t.samples + 1] = sample
      return true
    end,
  })
  return t
end

local function failures(t)
  local list = {}
  for i, e in ipairs(t.events) do
    list[i] = ("%s %d %s"):format(e.name, e.measurements.in_a_row, tostring(e.metadata.code))
  end
  return table.concat(list, ", ")
end

describe("a sampler", function()
  it("takes a sample at once on start, and says so", support.async(function()
    local t = setup()
    local seen
    t.bus:attach("own", "beamlens.sampler.sample", function(_, measurements, metadata)
      seen = { measurements.duration, metadata.watcher, metadata.snapshot_id, metadata.data.n }
    end)
    t.pass = { mono_ms = 1 }
    t.sampler:start()
    assert.equal(1, #t.samples)
    local sample = t.samples[1]
    assert.same({ 0, "shop", sample.id, 1 }, seen)
    assert.equal(16, #sample.id)
    assert.equal(1.7e12, sample.at_ms)
    assert.equal(1, sample.mono_ms)
    assert.equal(t.pass, sample.sweep)
    assert.is_nil(sample.after_gap)
    assert.is_nil(sample.host_clock)
    t.sampler:stop()
  end))

  it("is spread: late with the first sample, early with the second; who asks meanwhile waits",
    support.async(function()
      local t = setup({ clock = clock.system(), sample_ms = 400,
        spread = { delay_ms = 60, early_ms = 200 } })
      local began_ms = async.now_ms()
      t.sampler:start()
      assert.equal(0, t.taken)
      local sample = assert(t.sampler:sample_now())
      assert.is_true(async.now_ms() - began_ms >= 59)
      assert.equal(1, t.taken)
      assert.equal(sample, t.samples[1])
      local at_ms = {}
      for i = 2, 3 do
        support.wait_until(function()
          return t.taken == i
        end)
        at_ms[i] = async.now_ms() - began_ms
      end
      -- Due at 200 ms and 600 ms.
      assert.is_true(at_ms[2] >= 199 and at_ms[3] >= 599)
      t.sampler:stop()
    end))

  it("goes on at its cadence, and takes none after a stop", support.async(function()
    local t = setup({ clock = clock.system(), sample_ms = 5 })
    local began_ms = clock.system().wall_ms()
    t.sampler:start()
    support.wait_until(function()
      return #t.samples >= 4
    end)
    -- Any may be late; the fourth is due after 15 ms.
    assert.is_true(t.samples[4].at_ms - began_ms >= 13)
    t.sampler:stop()
    local taken = t.taken
    async.sleep(20)
    assert.equal(taken, t.taken)
  end))

  it("never takes two at a time: who asks joins the one under way", support.async(function()
    local t = setup()
    local go = async.signal()
    t.snapshot = function()
      go:wait()
      return { mono_ms = 1 }
    end
    t.sampler:start()
    local got = {}
    for i = 1, 3 do
      async.spawn(function()
        got[i] = t.sampler:sample_now()
      end)
    end
    assert.equal(1, t.taken)
    go:fire()
    assert.equal(1, #t.samples)
    assert.equal(t.samples[1], got[1])
    assert.equal(t.samples[1], got[3])
    async.spawn(function()
      got[4] = t.sampler:sample_now()
    end)
    go:fire()
    assert.equal(2, t.taken)
    assert.equal(t.samples[2], got[4])
    t.sampler:stop()
  end))

  it("finishes a sample for others when the one who asked is cancelled", support.async(function()
    local t = setup()
    local go = async.signal()
    t.snapshot = function()
      go:wait()
      return { mono_ms = 1 }
    end
    local asker = async.spawn(function()
      t.sampler:sample_now()
    end)
    local got
    async.spawn(function()
      got = t.sampler:sample_now()
    end)
    asker:cancel()
    go:fire()
    assert.equal(t.samples[1], got)
    assert.equal("", failures(t))
  end))

  it("does not emit its own event for a sample that was asked for", support.async(function()
    local t = setup()
    local own = 0
    t.bus:attach("own", "beamlens.sampler.sample", function()
      own = own + 1
    end)
    assert.is_truthy(t.sampler:sample_now())
    assert.equal(0, own)
  end))

  it("counts failures in a row", support.async(function()
    local t = setup()
    t.snapshot = function()
      return nil, "ETIMEDOUT: no answer within 5000 ms", "ETIMEDOUT"
    end
    local sample, err, code = t.sampler:sample_now()
    assert.is_nil(sample)
    assert.equal("ETIMEDOUT: no answer within 5000 ms", err)
    assert.equal("ETIMEDOUT", code)
    t.snapshot = function()
      error("a bug", 0)
    end
    assert.equal("ELUA", select(3, t.sampler:sample_now()))
    t.snapshot = function()
      return "nonsense"
    end
    assert.equal("ESNAPSHOT", select(3, t.sampler:sample_now()))
    t.snapshot = function()
      return { mono_ms = 1 }
    end
    assert.is_truthy(t.sampler:sample_now())
    t.refuse = true
    assert.equal("ECLOCK", select(3, t.sampler:sample_now()))
    assert.equal("sampler.failed 1 ETIMEDOUT, sampler.failed 2 ELUA, sampler.failed 3 ESNAPSHOT, "
      .. "sampler.failed 1 ECLOCK", failures(t))
  end))

  it("gives up a snapshot that does not come back, and goes on", support.async(function()
    local t = setup({ timeout_ms = 10 })
    t.snapshot = function()
      async.sleep(60000)
    end
    assert.equal("ETIMEDOUT", select(3, t.sampler:sample_now()))
    t.snapshot = function()
      return { mono_ms = 1 }
    end
    assert.is_truthy(t.sampler:sample_now())
  end))

  it("tells those who wait that it was stopped", support.async(function()
    local t = setup()
    t.snapshot = function()
      async.sleep(60000)
    end
    t.sampler:start()
    local code
    async.spawn(function()
      code = select(3, t.sampler:sample_now())
    end)
    t.sampler:stop()
    assert.equal("ECANCELED", code)
    assert.equal("", failures(t))
  end))

  it("uses the host's monotonic clock where the domain has none", support.async(function()
    local t = setup()
    t.snapshot = function()
      return { n = 1 }
    end
    t.clock.advance(1234)
    local sample = t.sampler:sample_now()
    assert.equal(1234, sample.mono_ms)
    assert.is_true(sample.host_clock)
  end))

  it("is silent while the node is down, and samples at once when it is up", support.async(function()
    local t = setup({ target = detection.target("connecting") })
    t.sampler:start()
    assert.equal(0, t.taken)
    t.target:emit("down")
    assert.equal("EDOWN", select(3, t.sampler:sample_now()))
    t.target:emit("up")
    assert.equal(1, #t.samples)
    assert.is_true(t.samples[1].after_gap)
    assert.is_nil(t.sampler:sample_now().after_gap)
    assert.equal("", failures(t))
    t.sampler:stop()
    t.target:emit("up")
    assert.equal(2, t.taken)
  end))

  it("says nothing when the connection ends under a snapshot", support.async(function()
    local t = setup({ target = detection.target() })
    t.snapshot = function()
      return nil, "EDOWN: gone", "EDOWN"
    end
    assert.equal("EDOWN", select(3, t.sampler:sample_now()))
    assert.equal("", failures(t))
  end))

  it("goes on trying a node that does not answer", support.async(function()
    local t = setup({ target = detection.target("unresponsive") })
    assert.is_truthy(t.sampler:sample_now())
  end))

  it("takes a new cadence at once", support.async(function()
    local t = setup({ clock = clock.system() })
    t.sampler:start()
    assert.equal(1, t.taken)
    t.sampler:set_sample_ms(5)
    support.wait_until(function()
      return t.taken >= 3
    end)
    t.sampler:stop()
  end))

  it("samples again when the node came up during a try that failed", support.async(function()
    local t = setup({ target = detection.target() })
    local go = async.signal()
    t.snapshot = function()
      if t.taken == 1 then
        go:wait()
        return nil, "EDOWN: gone", "EDOWN"
      end
      return { mono_ms = 1 }
    end
    t.sampler:start()
    t.target:emit("down")
    t.target:emit("up")
    go:fire()
    support.wait_until(function()
      return #t.samples == 1
    end)
    t.sampler:stop()
  end))
end)
