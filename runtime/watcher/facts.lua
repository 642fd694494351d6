--- Collects what a watcher's opening message says: runtime/watcher/opening.lua words it.

local opening = require("runtime.watcher.opening")
local views = require("runtime.watcher.views")

local M = {}

-- A sample this young needs no other one.
local FRESH_MS = 1000
-- So many of its last decisions a model is reminded of.
local REMINDED = 6

--- The findings of a watcher, each with the snapshot that was current when it was first seen.
---@param watcher watcher.Watcher
---@return table[]
function M.findings(watcher)
  local known, list = watcher.finding_snapshots or {}, {}
  local now = {}
  local latest = watcher.detector.history and watcher.detector.history:latest()
  for i, finding in ipairs(watcher.detector:findings()) do
    local snapshot_id = known[finding.id] or (latest and watcher.snapshots:add(latest).id)
    now[finding.id] = snapshot_id
    list[i] = views.finding(finding, snapshot_id)
  end
  watcher.finding_snapshots = next(now) and now
  return list
end

-- The newest sample, taken now if need be. Returns the sample and why it is not fresh.
local function fresh_sample(watcher)
  local history = watcher.detector.history
  local latest = history and history:latest()
  if latest and latest.taken_ms and watcher.clock.now_ms() - latest.taken_ms < FRESH_MS then
    return latest
  end
  local sample, err = watcher.detector:sample_now()
  watcher.turns:wait() -- many may have waited for it
  if sample then
    return sample
  end
  return latest, tostring(err)
end

--- Builds the message.
---@async
---@param watcher watcher.Watcher
---@return string
function M.text(watcher)
  local sample, err = fresh_sample(watcher)
  local meta, history = watcher.meta, watcher.detector.history
  local data = sample and sample.data or {}
  local facts = {
    now_ms = watcher.clock.wall_ms(),
    cycle = watcher.cycles, watcher = meta.watcher, node = meta.node,
    is_no_node = watcher.domain.watches_node == false,
    uptime_s = data.uptime_s,
    state = watcher.current,
    budget = watcher.account and watcher.account:left_text(),
    wait = watcher.last_wait, ended = watcher.ended,
    since = watcher.waking:take_notes(),
    snapshot = sample and views.snapshot(watcher.snapshots:add(sample)),
    no_snapshot = err,
    change_10m = opening.changes(history, data, 600),
    change_1h = opening.changes(history, data, 3600),
    findings = watcher:finding_views(),
    alerts = views.map(watcher.alerts:firing({ watcher = meta.watcher, node = meta.node }),
      views.alert),
    note = watcher.note, journal = watcher.journal:lines(REMINDED),
  }
  watcher.ended = nil
  return opening.text(facts, function(text)
    return watcher.hooks:redact(text)
  end)
end

return M
