-- Many cycles of one watcher, with reloads, a node that restarts, a model that calls what there is
-- not, and a server that fails.
--
--   local life = cycles.live({ cycles = 10000, settled = 500, reload_every = 100,
--     restart_every = 1000, each = 100, on = attached.start("cycles1") })
--   life.settled, life.now                         -- what is kept, see support/kept.lua
--   life.open                                      -- after its end: see support/spans.lua

local async = require("runtime.async")
local core = require("host.core")
local kept = require("support.kept")
local living = require("support.living")
local moody_model = require("support.moody_model")
local spans = require("support.spans")
local support = require("support")

local M = {}

local WAIT_MS = 60000
-- As `run` sets the collector: what is garbage for long would be taken for what is kept.
local GC_PAUSE_PCT, GC_STEP_PCT = 110, 400
local QUIET_MS = 20
local REST_WITHIN_MS = 3600000

local function watcher_text(reloads, sample)
  return ([[name = "beam", domain = "beam", sample = "%s", wait = { min = "10s", max = "1m" },
    limits = { tokens_per_hour = 1e9, usd_per_day = 1e6, calls_per_cycle = 15 },
    history = { snapshots = 20, alerts = 5 }, rules = { node_down = { hold = "10s" } },
    instructions = "loaded %d times",
    guard = function(action) return action end, on_state = function() end]])
    :format(sample or "20s", reloads)
end

-- Waits until sockets that end are closed, and processes that were used up are replaced.
local function settle(host)
  local last, quiet
  host.time:really_until(function()
    local stats, _, handles = host.sandbox:stats(), core.handles()
    local is_quiet = handles == last and stats.running == 0 and stats.idle == living.POOL
    last, quiet = handles, is_quiet and quiet + 1 or 0
    return quiet >= QUIET_MS
  end)
end

-- Waits until nothing is under way but the watcher's wait, and its model answers.
local function rest(host)
  local unit = host.app.units[1]
  local deadline = async.deadline(REST_WITHIN_MS)
  while unit.watcher.status ~= "waiting" or unit.detector.sampler.flight
    or unit.watcher.model.failing_since_ms or host.node.target:status().status ~= "up" do
    assert(deadline:left_ms() > 0, "the watcher does not come to rest")
    async.sleep(1000)
  end
  settle(host)
end

local function run_until(host, cycle)
  while host.app.units[1].watcher.cycles < cycle do
    async.sleep(WAIT_MS / 4)
  end
end

local function collect_often()
  local pause, step = collectgarbage("setpause", GC_PAUSE_PCT),
    collectgarbage("setstepmul", GC_STEP_PCT)
  support.on_cleanup(function()
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", step)
  end)
end

local function look(life, coroutines)
  local now = kept.now(coroutines)
  now.timers = life.host.time.timers
  return now
end

--- What is kept, as a line of text.
---@param now table
---@return string
function M.text(now)
  return ("RSS %.1f MB, heap %.1f MB, %d handles, %d timers, %d references, %d coroutines, "
    .. "%d files, %d children"):format(now.rss_bytes / 1e6, now.heap_bytes / 1e6, now.handles,
      now.timers, now.references, now.coroutines, now.file_descriptors, now.children)
end

--- Lives them. The host is stopped afterwards.
---@async
---@param opts { cycles: integer, settled: integer, reload_every: integer, restart_every: integer,
--- each: integer, sample?: string, on?: table, on_look?: fun(cycle: integer, now: table) } All
--- numbers divide `cycles`. One answer of `each` is no valid call, and one request of so many
--- fails. After each `settled` cycles it is looked at what is kept. `on` is a real node, of
--- support/attached.lua, instead of one that is played.
function M.live(opts)
  local coroutines, stop_watching = kept.watch_coroutines()
  support.on_cleanup(stop_watching)
  collect_often()
  local seen = spans.new()
  local model = moody_model.start({ wait_ms = WAIT_MS, each = opts.each })
  local host = living.start({ recording = "batch", on = opts.on, model = model,
    on_event = seen.on_event, watchers = { watcher_text(0, opts.sample) } })
  local life = { host = host, model = model, counts = host.counts, open = seen.open }
  for cycle = opts.reload_every, opts.cycles, opts.reload_every do
    run_until(host, cycle)
    if cycle % opts.restart_every == 0 then
      host.node:restart()
    end
    host:reload({ watcher_text(cycle / opts.reload_every, opts.sample) })
    if cycle % opts.settled == 0 then
      rest(host)
      life.now = look(life, coroutines)
      life.settled = life.settled or life.now
      if opts.on_look then
        opts.on_look(cycle, life.now)
      end
    end
  end
  host:stop()
  return life
end

-- Memory is another matter.
local COUNTED = { "handles", "timers", "references", "coroutines", "file_descriptors", "children" }

--- What is kept more often at the end than when all had settled.
---@return string[]
function M.leaks(life)
  local leaks = {}
  for _, name in ipairs(COUNTED) do
    if life.now[name] > life.settled[name] then
      leaks[#leaks + 1] = ("%s: %d, then %d"):format(name, life.settled[name], life.now[name])
    end
  end
  return leaks
end

return M
