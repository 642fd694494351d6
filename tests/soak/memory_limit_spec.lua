local beam = require("support.beam")
local detect = require("support.detect")
local node = require("support.node")
local support = require("support")

-- How much more than at the start a node may take, by a limit that is made up: the machine's own is
-- not to be reached.
local ROOM_MB = 150

local function start(name)
  local n = node.start({ name = name })
  local ctx = beam.attach(n, { min_interval_ms = 2000 })
  ctx.sweep:start()
  local limit_mb
  local d = detect.start(ctx, "beam", { memory_limit = { hold_ms = 3000, clear_hold_ms = 3000 } },
    function(data)
      if type(data.memory_rss_mb) == "number" then
        limit_mb = limit_mb or data.memory_rss_mb + ROOM_MB
        data.memory_limit_mb = limit_mb
        data.memory_utilization_pct = data.memory_rss_mb / limit_mb * 100
      end
    end)
  support.wait_until(function()
    return d.history:latest()
  end, 20000, "a sample")
  return n, d
end

describe("memory_limit on real nodes", function()
  it("is found before it is reached, half of it is not, and it ends", support.async(function()
    local n, d = start("memory1")
    local healthy, quiet = start("memory2")
    healthy:eval("fl_ets:heap(batch, 3000000).")
    n:eval("fl_ets:leak(leaky, 8000).")
    support.wait_until(function()
      local firing = d.store:firing()[1]
      return firing and firing.severity == "critical"
    end, 120000, "the limit")
    assert.are.equal("memory_limit memory", detect.alerts(d, "firing"))
    n:eval("exit(ets:info(leaky, owner), kill).")
    support.wait_until(function()
      return #d:findings() == 0
    end, 60000, "the memory to be given back")
    assert.are.equal("memory_limit memory", detect.alerts(d, "resolved"))
    assert.are.same({}, quiet:findings())
    local samples = quiet.history:samples()
    local rise_mb = samples[#samples].data.memory_rss_mb - samples[1].data.memory_rss_mb
    assert.is_true(rise_mb > 20, rise_mb)
  end, 240))
end)
