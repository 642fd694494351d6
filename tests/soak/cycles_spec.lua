-- Ten thousand cycles of one watcher: nothing is kept that is not needed.

local cycles = require("support.cycles")
local support = require("support")

local CYCLES = 10000
local GROWTH = 1.05
-- Of those that are to be: what is drawn is not exact.
local MOST = 0.7

describe("ten thousand cycles", function()
  it("keep nothing, and end what they began", support.async(function()
    local life = cycles.live({ cycles = CYCLES, settled = 500, reload_every = 100,
      restart_every = 1000, each = 100, on_look = function(cycle, now)
        print(("%5d cycles: %s"):format(cycle, cycles.text(now)))
      end })
    local model, counts = life.model, life.counts
    print(("%d answers, %d of them no valid call; %d failures"):format(model.answered,
      model.invalid, model.failed))
    assert.are.same({}, cycles.leaks(life))
    assert.is_true(life.now.rss_bytes <= GROWTH * life.settled.rss_bytes, ("RSS: %d, then %d")
      :format(life.settled.rss_bytes, life.now.rss_bytes))
    assert.are.same({}, life.open)
    assert.is_nil(counts["watcher.crashed"])
    assert.is_true(model.invalid >= MOST * CYCLES / 100 and model.failed >= MOST * CYCLES / 100)
    assert.is_true(counts["watcher.execute_complete"] >= CYCLES / 40)
  end, 7200))
end)
