-- The beam watcher as a team with a pager has it: quiet hours, a maintenance window, and a rule of
-- its own. Run it instead of watchers/beam.lua.

local beamlens = require("beamlens")

-- More than this system has ever needed; its limit is far above.
local MOST_PROCESSES = 200000

-- Nobody is paged between 22:00 and 06:00 UTC.
local function is_night()
  local hour = tonumber(os.date("!%H"))
  return hour >= 22 or hour < 6
end

-- Sees each action of the model, and the alerts of the rules as calls of fire_alert. It may return
-- another action, or nil and a reason, which the model is told.
local function guard(action)
  local args = action.args
  if not is_night() then
    return action
  elseif action.tool == "fire_alert" and args.severity == "critical" then
    args.severity = "warning" -- it waits for the morning, but is there then
  elseif action.tool == "set_state" and args.state == "critical" then
    return nil, "no critical state between 22:00 and 06:00 UTC: use warning"
  end
  return action
end

-- Asked after each sample; `history` has the samples of the last 70 minutes.
local function too_many_processes(history)
  local count = history:latest().data.process_count
  if not count or count <= MOST_PROCESSES then
    return nil
  end
  return {
    value = count, threshold = MOST_PROCESSES, unit = "processes",
    per_s = history:rate("process_count", 60),
    summary = ("%s processes, usually below %s"):format(beamlens.units.format_count(count),
      beamlens.units.format_count(MOST_PROCESSES)),
  }
end

return {
  name = "oncall",
  domain = "beam",
  node = env("BEAMLENS_NODE"), -- or --node NAME
  sample = "10s",
  wait = { min = "10s", max = "30m" },
  limits = { usd_per_day = 1.00 },
  guard = guard,

  -- Deployments, every night: restarts and full mailboxes are no news then.
  mute = {
    { from = "03:00", to = "03:30", tz = "UTC",
      types = { "node_restarted", "node_down", "mailbox_growth" } },
  },

  rules = {
    { type = "too_many_processes", severity = "warning", hold = "1m", clear_hold = "5m",
      title = "More processes than this system should have", when = too_many_processes,
      investigate = "return beam_top_processes(5, 'memory')" },
    runaway_process = { hold = "10m" }, -- a report may keep a scheduler busy for some minutes
  },

  on_alert = function(alert)
    beamlens.log(("%s %s on %s: %s"):format(alert.severity, alert.type, alert.node, alert.summary))
  end,
}
