-- Ten thousand cycles of one watcher, over a real node whose process is killed and started again:
-- nothing is kept that is not needed.

local attached = require("support.attached")
local cycles = require("support.cycles")
local support = require("support")

local CYCLES = 10000
-- The first look at what is kept comes after the first restart.
local RESTART_EVERY = 500
local GROWTH = 1.05
-- Of those that are to be: what is drawn is not exact.
local MOST = 0.7

describe("ten thousand cycles", function()
  it("keep nothing, and end what they began", support.async(function()
    local node = attached.start("cycles1")
    local life = cycles.live({ cycles = CYCLES, settled = 500, reload_every = 100,
      restart_every = RESTART_EVERY, each = 100, sample = "5m", on = node,
      on_look = function(cycle, now)
        print(("%5d cycles: %s"):format(cycle, cycles.text(now)))
        io.stdout:flush()
      end })
    local model, counts = life.model, life.counts
    print(("%d answers, %d of them no valid call; %d failures"):format(model.answered,
      model.invalid, model.failed))
    assert.are.equal(CYCLES / RESTART_EVERY, counts["node.restarted"])
    assert.are.equal(1 + CYCLES / RESTART_EVERY, counts["node.up"])
    assert.are.equal(1 + CYCLES / RESTART_EVERY, node.incarnations)
    assert.are.same({}, cycles.leaks(life))
    assert.is_true(life.now.rss_bytes <= GROWTH * life.settled.rss_bytes, ("RSS: %d, then %d")
      :format(life.settled.rss_bytes, life.now.rss_bytes))
    assert.are.same({}, life.open)
    assert.is_nil(counts["watcher.crashed"])
    assert.is_true(model.invalid >= MOST * CYCLES / 100 and model.failed >= MOST * CYCLES / 100)
    assert.is_true(counts["watcher.execute_complete"] >= CYCLES / 40)
  end, 7200))
end)
