-- One remote call, against Erlang's own rpc:call from a second node in the same run.

local beam = require("support.beam")
local node = require("support.node")

local COUNT = 5000

return function(report)
  local n = node.start({ name = "bench1" })
  local other = node.start({ name = "bench2" })
  local ctx = beam.attach(n)
  local function ours()
    local started = ctx.clock.now_ms()
    for _ = 1, COUNT do
      assert(ctx.target:call("erlang", "node", {}) == n.name)
    end
    return (ctx.clock.now_ms() - started) * 1000 / COUNT
  end
  local function theirs()
    return other:number(("bench:rpc_calls('%s', %d)."):format(n.name, COUNT))
  end
  ours()
  theirs()
  local us, rpc_us = math.huge, math.huge
  for _ = 1, 3 do
    us, rpc_us = math.min(us, ours()), math.min(rpc_us, theirs())
  end
  report("target:call of erlang:node/0", us, "us")
  report("rpc:call of erlang:node/0 from another node", rpc_us, "us",
    ("ratio %.2f"):format(us / rpc_us))
end
