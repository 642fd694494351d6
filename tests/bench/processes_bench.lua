-- beam_top_processes(10, "memory") on nodes of three sizes, against sorting a list on the node:
-- time, bytes over the wire, and how much the node's memory grows meanwhile.

local beam = require("support.beam")
local node = require("support.node")
local proc = require("bench.proc")

local SIZES = { 10000, 100000, 1000000 }

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

local function measure(report, size)
  local n = node.start({ name = "bench1", args = { "+P", "2000000", "+sbwt", "none" } })
  n:eval(("bench:idle(%d)."):format(size))
  local ctx = beam.attach(n, { gap_ms = 0 })
  local d = beam.domain("beam")
  fresh_top(ctx, d) -- parses the source on the node
  local label = ("%d processes: "):format(size)

  local before = ctx.target.link.conn:stats().received_bytes
  fresh_top(ctx, d)
  local received = ctx.target.link.conn:stats().received_bytes - before
  local growth = proc.peak_growth_mb(n.pid, function()
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
  report(label .. "one pass and the answer", ours, "ms", "without the second between two readings")
  report(label .. "sorted on the node", naive, "ms", ("ratio %.2f"):format(ours / naive))
  report(label .. "bytes over the wire", received, "B", "of the pass: all orders, not only memory")
  report(label .. "the node's peak growth", growth, "MiB",
    ("sorted on the node: %.0f MiB"):format(naive_growth))
  n:stop()
end

return function(report)
  for _, size in ipairs(SIZES) do
    measure(report, size)
  end
end
