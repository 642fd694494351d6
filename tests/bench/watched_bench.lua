-- What it costs a node of 100 000 processes to be watched: the processor time of its OS process
-- over some minutes with watchers of all five domains, against the same node before, in percent of
-- one scheduler. The figures are the kernel's, so nothing of ours measures itself.
--
-- BEAMLENS_BENCH_SECONDS is how long each is measured: 180 if not given, some passes of the sweep.

local async = require("runtime.async")
local beamlens = require("support.beamlens")
local node = require("support.node")
local proc = require("bench.proc")

local SECONDS = tonumber(os.getenv("BEAMLENS_BENCH_SECONDS")) or 180
local SETTLE_S = 40 -- the attach, the first pass and the sources' first parse

-- Percent of a core over some seconds.
local function share(n, seconds)
  local before, from = proc.cpu_s(n.pid), async.now_ms()
  async.sleep(seconds * 1000)
  return (proc.cpu_s(n.pid) - before) / (async.now_ms() - from) * 100000
end

return function(report)
  local n = node.start({ name = "bench1", args = { "+P", "400000", "+sbwt", "none",
    "+sbwtdcpu", "none", "+sbwtdio", "none" } })
  n.eval_timeout_ms = 60000
  n:eval("bench:idle(100000).")
  async.sleep(5000)
  local alone = share(n, SECONDS)
  local cpu_s = proc.cpu_s(n.pid)
  local b = beamlens.start({ "run", "watchers", "--node", n.name, "--log", "json" }, { env = {
    "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. n.cookie } })
  async.sleep(SETTLE_S * 1000)
  local begin_s = proc.cpu_s(n.pid) - cpu_s
  local host_s, seen = proc.cpu_s(b.pid), #b:all("beamlens.sampler.sample")
  local watched = share(n, SECONDS)
  host_s = proc.cpu_s(b.pid) - host_s
  local samples = #b:all("beamlens.sampler.sample") - seen
  b:kill("sigterm")
  b:wait_exit()
  report("100000 processes, five domains: the node's processor time", watched - alone, "%",
    ("of one scheduler over %d s, %d samples"):format(SECONDS, samples))
  report("100000 processes, nobody watches", alone, "%")
  report(("the first %d s of watching"):format(SETTLE_S), begin_s * 1000, "ms")
  report("the host's own processor time", host_s / SECONDS * 100, "%", "of one core")
end
