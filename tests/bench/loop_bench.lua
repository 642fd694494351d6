-- What the loop itself costs: the processor time of a cycle, from the opening message to the wait,
-- and what a watcher keeps that waits after one. The node is played, the model a stub behind HTTP
-- in this process, whose share is in the figures; time jumps, so that nothing waits.

local async = require("runtime.async")
local calm_model = require("support.calm_model")
local living = require("support.living")

local CYCLES, WAIT_MS = 2000, 20000
local WATCHERS, SAMPLES = 100, 100
local HALF_HOUR_MS = 1800000

local function heap_bytes()
  collectgarbage()
  collectgarbage()
  return collectgarbage("count") * 1024
end

local function cycles(report)
  local host = living.start({ recording = "batch", model = calm_model.start({ wait_ms = WAIT_MS }),
    watchers = { 'name = "beam", domain = "beam", sample = "1h", wait = { min = "20s" }' } })
  local watcher = host.app.units[1].watcher
  async.sleep(10 * WAIT_MS)
  local before, from_s = watcher.cycles, os.clock()
  async.sleep(CYCLES * WAIT_MS)
  local count, took_s = watcher.cycles - before, os.clock() - from_s
  host:stop()
  report("calm cycles: processor time of one", took_s / count * 1000, "ms",
    ("%d cycles, the model's stub included"):format(count))
end

-- All that is kept for `count` watchers after a cycle each.
local function keep(count, sample)
  local watchers = {}
  for i = 1, count do
    watchers[i] = ('name = "w%d", domain = "beam", sample = "%s", wait = { max = "12h" }')
      :format(i, sample)
  end
  local model = calm_model.start({ wait_ms = 12 * 2 * HALF_HOUR_MS })
  local host = living.start({ recording = "batch", model = model, watchers = watchers })
  async.sleep(SAMPLES * 10000)
  local bytes, asked = heap_bytes(), model.asked
  host:stop()
  return bytes, asked
end

return function(report)
  cycles(report)
  for _, sample in ipairs({ "12h", "10s" }) do
    local one = keep(1, sample)
    local many, asked = keep(WATCHERS + 1, sample)
    report(("a watcher that waits, sampled every %s: what it keeps"):format(sample),
      (many - one) / WATCHERS / 1024, "KiB", ("%d watchers, %d calls"):format(WATCHERS, asked))
  end
end
