-- Ten thousand cycles of one watcher, with reloads, a node that restarts, a model that calls what
-- there is not and a server that fails: nothing is kept that is not needed, and each event that
-- begins something has one that ends it.

local async = require("runtime.async")
local kept = require("support.kept")
local living = require("support.living")
local moody_model = require("support.moody_model")
local spans = require("support.spans")
local support = require("support")

local CYCLES = tonumber(os.getenv("BEAMLENS_CYCLES")) or 10000
local SETTLED = 500
local RELOAD_EVERY, RESTART_EVERY = 100, 1000
local WAIT_MS = 60000
local GROWTH = 1.05

local function watcher_text(reloads)
  return ([[name = "beam", domain = "beam", sample = "20s", wait = { min = "10s", max = "1m" },
    limits = { tokens_per_hour = 1e9, usd_per_day = 1e6, calls_per_cycle = 15 },
    history = { snapshots = 50, alerts = 20 }, rules = { node_down = { hold = "10s" } },
    instructions = "loaded %d times",
    guard = function(action) return action end, on_state = function() end]]):format(reloads)
end

-- Waits until nothing is under way but the watcher's wait, and its model answers.
local function rest(host)
  local unit = host.app.units[1]
  local deadline = async.deadline(3600000)
  while unit.watcher.status ~= "waiting" or unit.detector.sampler.flight
    or unit.watcher.model.failing_since_ms do
    assert(deadline:left_ms() > 0, "the watcher does not come to rest")
    async.sleep(1000)
  end
end

local function run_until(host, cycle)
  while host.app.units[1].watcher.cycles < cycle do
    async.sleep(WAIT_MS / 4)
  end
end

local function print_of(cycle, now, model)
  print(("%5d cycles: RSS %.1f MB, heap %.1f MB, %d handles, %d references, %d coroutines, "
    .. "%d files, %d children; %d answers, %d invalid, %d failures"):format(cycle,
      now.rss_bytes / 1e6, now.heap_bytes / 1e6, now.handles, now.references, now.coroutines,
      now.file_descriptors, now.children, model.answered, model.invalid, model.failed))
end

-- Lets the cycles pass. Returns what was kept after the first of them, and after the last.
local function live(host, model, coroutines)
  local settled, now
  for cycle = RELOAD_EVERY, CYCLES, RELOAD_EVERY do
    run_until(host, cycle)
    if cycle % RESTART_EVERY == 0 then
      host.node:restart()
    end
    host:reload({ watcher_text(cycle / RELOAD_EVERY) })
    if cycle % SETTLED == 0 then
      rest(host)
      now = kept.now(coroutines)
      print_of(cycle, now, model)
      settled = settled or now
    end
  end
  return settled, now
end

local function assert_nothing_leaked(before, after)
  for _, name in ipairs({ "handles", "references", "coroutines", "file_descriptors",
    "children" }) do
    assert.is_true(after[name] <= before[name], ("%s: %d before, %d after"):format(name,
      before[name], after[name]))
  end
end

describe("ten thousand cycles", function()
  it("keep nothing, and end what they began", support.async(function()
    local coroutines, stop_watching = kept.watch_coroutines()
    support.on_cleanup(stop_watching)
    local model = moody_model.start({ wait_ms = WAIT_MS })
    local host = living.start({ recording = "batch", model = model,
      watchers = { watcher_text(0) } })
    local open = spans.watch(host)
    local settled, now = live(host, model, coroutines)

    assert.is_true(now.rss_bytes <= GROWTH * settled.rss_bytes, ("RSS: %d, then %d"):format(
      settled.rss_bytes, now.rss_bytes))
    assert_nothing_leaked(settled, now)
    assert.are.equal(0, host.counts["watcher.crashed"] or 0)
    assert.is_true(model.invalid >= CYCLES / 150 and model.failed >= CYCLES / 150)
    assert.is_true(host.counts["llm.exception"] >= CYCLES / 150)
    assert.is_true(host.counts["watcher.execute_complete"] >= CYCLES / 40)

    host:stop()
    assert.are.same({}, open())
  end, 7200))
end)
