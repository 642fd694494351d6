-- A detector of a BEAM domain on a real node, with the rules' holds as a case wants them.
--
--   local d = detect.start("beam", ctx, { runaway_process = { hold_ms = 15000 } })
--   detect.firing(d)  -- "runaway_process spinner", sorted and joined by ", "

local alerts = require("runtime.alerts")
local beam = require("support.beam")
local clock = require("runtime.clock")
local detector = require("runtime.detector")
local support = require("support")
local telemetry = require("runtime.telemetry")

local M = {}

--- Starts one; it ends with the case.
---@param name string The domain's.
---@param ctx table As of `beam.attach`.
---@param changes table The rules of a policy.
---@param sample_ms? number Default: a second.
function M.start(name, ctx, changes, sample_ms)
  local bus, system = telemetry.new(), clock.system()
  local d = detector.new({
    meta = { watcher = name, domain = name, node = ctx.node },
    domain = beam.domain(name), ctx = ctx, telemetry = bus, clock = system,
    alerts = alerts.new({ telemetry = bus, clock = system }),
    policy = { sample_ms = sample_ms or 1000, renotify_ms = 3600000, mute = {}, rules = changes },
    executor = {
      run = function()
        return { id = "0123456789abcdef", value = {}, calls = 0, duration_ms = 1 }
      end,
    },
  })
  support.on_cleanup(function()
    d:stop()
  end)
  d:start()
  return d
end

--- What fires now: "TYPE SUBJECT, …".
---@return string
function M.firing(d)
  local names = {}
  for _, finding in ipairs(d:findings()) do
    if finding.phase == "firing" then
      names[#names + 1] = finding.type .. " " .. finding.subject
    end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

return M
