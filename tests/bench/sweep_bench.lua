-- A pass of the sweep over 100 000 processes, part by part.

local beam = require("support.beam")
local node = require("support.node")
local sweep = require("runtime.sweep")

return function(report)
  local n = node.start({ name = "bench1", args = { "+P", "400000", "+sbwt", "none" } })
  n:eval("bench:idle(100000).")
  local ctx = beam.attach(n, { gap_ms = 0, parts = sweep.PARTS })
  assert(ctx.sweep:once())
  local best = {}
  for _ = 1, 5 do
    local pass = assert(ctx.sweep:once())
    for _, part in ipairs(sweep.PARTS) do
      best[part] = math.min(best[part] or math.huge, pass[part].work_ms)
    end
  end
  for _, part in ipairs(sweep.PARTS) do
    report("100000 processes: the pass over " .. part, best[part], "ms")
  end
end
