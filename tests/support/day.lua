-- A day of a healthy node under a watcher whose model judges calmly, with a fault late in it.
--
--   local day = require("support.day").live({ recording = "batch", hours = 24, wait_ms = 1800000 })
--   day.calls, day.exhausted, day.told, day.left

local async = require("runtime.async")
local calm_model = require("support.calm_model")
local living = require("support.living")

local M = {}

M.LIMITS = "tokens_per_hour = 200000, usd_per_day = 1.00"

local HOUR_MS = 3600000
local FAULT_MS = 1200000

-- The atoms come close to their limit.
local function exhaust_atoms(data)
  data.atom_utilization_pct = 95
  data.atom_count = math.floor(0.95 * data.atom_limit)
end

-- The least part of a limit that is left in the watcher's account.
local function least_left(account)
  local least = 1
  for _, limit in ipairs(account:limits()) do
    least = math.min(least, 1 - limit.used / limit.limit)
  end
  return least
end

-- Notes what is found, what the model does about it, and how long it waited before.
local function listen(day, host)
  host.on_event = function(name, measurements, metadata)
    if name == "finding.firing" then
      table.insert(day.found, metadata.finding.type .. " " .. metadata.finding.subject)
      day.fired_ms = day.fired_ms or host.clock.now_ms()
    elseif name == "watcher.execute_complete" and metadata.source == "model" then
      day.investigated_ms = host.clock.now_ms() - (day.fired_ms or math.huge)
    elseif name == "watcher.alert_updated" then
      table.insert(day.told, metadata.alert)
    elseif name == "watcher.wait" and not day.fired_ms then
      day.longest_wait_ms = math.max(day.longest_wait_ms, measurements.ms)
    end
  end
end

--- Lives it. For five sixths of the hours the node is well, then its atoms run out for 20 minutes.
---@async
---@param opts { recording: string, hours: number, wait_ms: number, watchers?: string[] } `wait_ms`
--- is what the model asks for while all is calm; `watchers` the inside of each one's table, by
--- default one of domain beam, which must be the first of several.
function M.live(opts)
  local model = calm_model.start({ wait_ms = opts.wait_ms })
  local host = living.start({ recording = opts.recording, model = model, watchers = opts.watchers
    or { ('name = "beam", domain = "beam", limits = { %s }'):format(M.LIMITS) } })
  local day = { model = model, host = host, found = {}, told = {}, longest_wait_ms = 0 }
  listen(day, host)
  local account = host.app.units[1].watcher.account
  async.sleep(opts.hours * HOUR_MS * 5 / 6)
  day.calls_before, day.left_before = model.asked, least_left(account)
  host.node.change = exhaust_atoms
  async.sleep(FAULT_MS)
  host.node.change = nil
  async.sleep(opts.hours * HOUR_MS / 6 - FAULT_MS)
  day.calls, day.left = model.asked, least_left(account)
  day.tokens, day.usd = account.total.tokens, account.total.usd
  day.exhausted = host.counts["watcher.budget_exhausted"] or 0
  day.counts = host.counts
  host:stop()
  return day
end

return M
