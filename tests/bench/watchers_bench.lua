-- Ten thousand watchers on ten real nodes in one real host, with a store: what they take while all
-- of them wait, and how soon a thousand that wake at the same moment have asked the model, a stub.
--
-- They take their 100 samples at a cadence of a second and are reloaded with the usual one.
-- BEAMLENS_BENCH_NODES, BEAMLENS_BENCH_WATCHERS (on each node) and BEAMLENS_BENCH_SAMPLES make it
-- smaller.

local async = require("runtime.async")
local client = require("runtime.control.client")
local crowd = require("bench.crowd")
local node = require("support.node")
local parts = require("bench.llm_parts")
local proc = require("bench.proc")

local NODES = tonumber(os.getenv("BEAMLENS_BENCH_NODES")) or 10
local WATCHERS = tonumber(os.getenv("BEAMLENS_BENCH_WATCHERS")) or 1000
local SAMPLES = tonumber(os.getenv("BEAMLENS_BENCH_SAMPLES")) or 100
local HOUR_MS = 3600000
local SETTLE_S, IDLE_S = 30, 60
local START_WITHIN_S, SAMPLES_WITHIN_S, WAKE_WITHIN_S = 600, 600, 60

local function start_nodes()
  local nodes, names = {}, {}
  for i = 1, NODES do
    nodes[i] = node.start({ name = "crowd" .. i, args = { "+S", "1:1", "+SDcpu", "1:1",
      "+SDio", "1", "+A", "1", "+sbwt", "none" } })
    names[i] = nodes[i].name
  end
  return nodes, names
end

-- The seconds until the stub has had so many requests.
local function await_requests(host, url, count, within_s)
  local started_ms = async.now_ms()
  crowd.wait_until(host, function()
    return parts.count(url) >= count
  end, within_s, ("%d requests"):format(count))
  return (async.now_ms() - started_ms) / 1000
end

local function await_samples(host)
  crowd.wait_until(host, function()
    return host.said("sampled")
  end, SAMPLES_WITHIN_S, ("%d samples"):format(SAMPLES))
end

local function idle(report, host, what)
  async.sleep(SETTLE_S * 1000)
  local before, from_ms = proc.cpu_s(host.pid), async.now_ms()
  async.sleep(IDLE_S * 1000)
  local cpu_s = proc.cpu_s(host.pid) - before
  report(what .. "memory", proc.rss_mb(host.pid), "MiB", "target: under 150 MB (143 MiB)")
  report(what .. "processor time", cpu_s / (async.now_ms() - from_ms) * 1e5, "%",
    ("of a core over %d s; target: under 1"):format(IDLE_S))
end

local function turn(report, host, when, from_ms)
  -- A turn is written down when the next one begins, in which this is answered.
  assert(client.ask(host.socket(), { command = "host" }, WAKE_WITHIN_S * 1000))
  local longest_ms, most_ms = host.longest_ms(from_ms)
  report("the longest turn of the loop " .. when, longest_ms, "ms",
    ("at most %.0f ms of processor time; target: under 100"):format(most_ms))
end

local function wake(report, host, url, node_name)
  local asked, from_ms, cpu_s = parts.count(url), async.now_ms(), proc.cpu_s(host.pid)
  local woken, err = client.ask(host.socket(), { command = "wake", watcher = "*",
    node = node_name }, WAKE_WITHIN_S * 1000)
  assert(woken, err)
  await_requests(host, url, asked + WATCHERS, WAKE_WITHIN_S)
  local took_s = (async.now_ms() - from_ms) / 1000
  report(("%d that wake at the same moment: all requests sent"):format(WATCHERS), took_s, "s",
    "target: within 2")
  report("processor time for it", (proc.cpu_s(host.pid) - cpu_s), "s")
  turn(report, host, "meanwhile", from_ms)
end

return function(report)
  local nodes, names = start_nodes()
  local count = NODES * WATCHERS
  local url = parts.stub({ parts.answer("wait", { ms = HOUR_MS, note = "calm",
    reason = "All figures are as they were an hour ago, and no rule holds anything." }) })
  local what = ("%d watchers on %d nodes, "):format(count, NODES)
  local host = crowd.start({ url = url, names = names, epmd_port = nodes[1].epmd_port,
    cookie = nodes[1].cookie, watchers = WATCHERS, samples = SAMPLES })
  local took_s = await_requests(host, url, count, START_WITHIN_S)
  report(what .. "each has decided", took_s, "s", "from the start of the process")
  await_samples(host)
  turn(report, host, "since the first watcher started", 0)
  local from_ms = async.now_ms()
  host.reload()
  turn(report, host, "in the reload of all", from_ms)
  idle(report, host, what .. "waiting: ")
  wake(report, host, url, names[1])
  report("the Lua heap, and what of it is in use", host.heap(), "MiB")
  assert(host.stop() == 0, host.stderr())
end
