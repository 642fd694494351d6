-- beam_top_processes(10, "memory") on nodes of three sizes, against sorting a list on the node:
-- time, bytes over the wire, and how much the node's memory grows meanwhile. What the callback
-- tells is the last pass of the sweep, so that each of these calls is a pass of its own. Growth is
-- that of the first, on a node that nobody has asked anything yet, to its highest point.

local beam = require("support.beam")
local node = require("support.node")
local proc = require("bench.proc")

-- BEAMLENS_BENCH_SIZES="10000 100000" for a quick look.
local SIZES = {}
for size in (os.getenv("BEAMLENS_BENCH_SIZES") or "10000 100000 1000000"):gmatch("%d+") do
  SIZES[#SIZES + 1] = tonumber(size)
end

local function best_of(times, fn)
  local best
  for _ = 1, times do
    local value = fn()
    best = math.min(best or value, value)
  end
  return best
end

local function fresh_top(ctx, d)
  local started = ctx.clock.now_ms()
  assert(ctx.sweep:once())
  local ok, top = d:invoke(ctx, "beam_top_processes", { 10, "memory" })
  assert(ok, top)
  assert(#top.processes == 10 and top.skipped == 0)
  return ctx.clock.now_ms() - started
end

local function traffic(ctx, fn)
  local conn = ctx.target.link.conn
  local before = conn:stats()
  fn()
  local after = conn:stats()
  return after.received_bytes - before.received_bytes, after.sent_bytes - before.sent_bytes
end

-- The first pass as a caller meets it: with the second between two readings of rates.
local function first(report, label, n, d)
  local ctx = beam.attach(n)
  local ms
  local growth = proc.peak_growth_mb(n.pid, function()
    ms = fresh_top(ctx, d)
  end)
  report(label .. "a caller that finds no pass waits", ms, "ms", "with a second for the rates")
  ctx.target:stop()
  return growth
end

local function measure(report, size)
  local n = node.start({ name = "bench1", args = { "+P", "2000000", "+sbwt", "none" } })
  n.eval_timeout_ms = 120000
  n:eval(("bench:idle(%d)."):format(size))
  local d = beam.domain("beam")
  local label = ("%d processes: "):format(size)
  local growth = first(report, label, n, d)

  local ctx = beam.attach(n, { gap_ms = 0 })
  fresh_top(ctx, d) -- parses the source on the node
  local received, sent = traffic(ctx, function()
    fresh_top(ctx, d)
  end)
  local ours = best_of(3, function()
    return fresh_top(ctx, d)
  end)
  local naive_growth = proc.peak_growth_mb(n.pid, function()
    n:eval("bench:naive_top(10).")
  end)
  local naive = best_of(2, function()
    return n:number("bench:naive_top(10).")
  end)
  report(label .. "one pass and the answer", ours, "ms", "without that second")
  report(label .. "sorted on the node", naive, "ms", ("ratio %.2f"):format(ours / naive))
  report(label .. "bytes from the node", received, "B", "all orders, not only memory")
  report(label .. "bytes to the node", sent, "B", "the expression, parsed")
  report(label .. "the node's peak growth", growth, "MiB",
    ("sorted on the node: %.0f MiB"):format(naive_growth))
  n:stop()
end

return function(report)
  for _, size in ipairs(SIZES) do
    measure(report, size)
  end
end
