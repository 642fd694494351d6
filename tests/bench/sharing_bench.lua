-- What one more watcher of a node takes where samples and rules are shared: bytes of the heap, and
-- time at each sample, with the snapshots and the sweep of a real node and the rules of beam. The
-- clock is moved; the samples are as old as a history gets.

local alerts = require("runtime.alerts")
local beam = require("support.beam")
local clock = require("runtime.clock")
local detector = require("runtime.detector")
local feeds = require("runtime.detector.feeds")
local node = require("support.node")
local sweep = require("runtime.sweep")
local telemetry = require("runtime.telemetry")

local WATCHERS, EVERY_MS = 1000, 10000
local OLD, MEASURED = 430, 100 -- samples

local function bytes()
  collectgarbage()
  collectgarbage()
  return collectgarbage("count") * 1024
end

-- A node whose snapshots are a real one, later and later, with a pass of the sweep in each minute.
local function setup()
  local n = node.start({ name = "sharing1" })
  local ctx = beam.attach(n, { parts = sweep.PARTS })
  local pass = assert(ctx.sweep:once())
  local domain = beam.domain("beam")
  local data = assert(domain:snapshot(ctx))
  data.uptime_s = 86400 -- no rule is silent any more
  local bench = { clock = clock.manual(1.8e12), telemetry = telemetry.new(), feeds = feeds.new(),
    users = {} }
  bench.alerts = alerts.new({ telemetry = bench.telemetry, clock = bench.clock })
  bench.domain = setmetatable({ snapshot = function()
    local copy, now_ms = {}, bench.clock.now_ms()
    for key, value in pairs(data) do
      copy[key] = value
    end
    copy.mono_ms, copy.uptime_s = data.mono_ms + now_ms, data.uptime_s + now_ms / 1000
    copy.memory_total_mb = data.memory_total_mb + now_ms / 1000 % 7 / 10
    copy.atom_utilization_pct = bench.is_sick and 95 or data.atom_utilization_pct
    return copy
  end }, { __index = domain })
  bench.sweep = { hasten = function() end, latest = function()
    local minute = math.floor(bench.clock.now_ms() / 60000)
    if bench.minute ~= minute then
      local later = {}
      for name, part in pairs(pass) do
        later[name] = part
      end
      later.mono_ms = pass.mono_ms + minute * 60000
      bench.minute, bench.pass = minute, later
    end
    return bench.pass
  end }
  return bench
end

local function watch(bench, index)
  local meta = { watcher = "w" .. index, domain = "beam", node = "a@h" }
  local made = detector.new({ meta = meta, domain = bench.domain, feeds = bench.feeds,
    policy = bench.policy, ctx = { sweep = bench.sweep, node = "a@h", clock = bench.clock },
    executor = bench.executor, alerts = bench.alerts, telemetry = bench.telemetry,
    clock = bench.clock,
    guard = function(request)
      return meta and request
    end })
  bench.users[index] = made
  made:on_finding(function()
    return meta
  end)
end

-- Takes samples; returns the time of the CPU that each takes, in us.
local function pass(bench, count)
  local began_s = os.clock()
  for _ = 1, count do
    bench.clock.advance(EVERY_MS)
    assert(bench.users[1]:sample_now())
  end
  return (os.clock() - began_s) * 1e6 / count
end

return function(report)
  local bench = setup()
  bench.policy = { sample_ms = EVERY_MS, renotify_ms = 3600000, mute = {},
    rules = { atom_limit = { hold_ms = 0 } } }
  bench.executor = { run = function(_, code)
    return { id = "e", code = code, value = 1, source = "rule", calls = 1 }
  end }
  watch(bench, 1)
  pass(bench, OLD)
  report("a sample and its rules, 1 watcher", pass(bench, MEASURED), "us")
  local before = bytes()
  for i = 2, WATCHERS do
    watch(bench, i)
  end
  report("each further watcher keeps", (bytes() - before) / (WATCHERS - 1), "bytes")
  report(("the same, %d watchers"):format(WATCHERS), pass(bench, MEASURED), "us")
  bench.is_sick = true
  local fired_us = pass(bench, 1)
  report(("a finding begins and fires for %d watchers"):format(WATCHERS), fired_us / 1000, "ms")
  report("the same while it fires", pass(bench, MEASURED), "us",
    ("%d alerts"):format(#bench.alerts:firing()))
  bench.is_sick = false
  report("bytes a watcher while it fires", (bytes() - before) / (WATCHERS - 1), "bytes")
  for _, user in ipairs(bench.users) do
    user:stop()
  end
end
