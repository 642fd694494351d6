-- A detector on a real node, with the holds that a spec can wait for.

local alerts = require("runtime.alerts")
local beam = require("support.beam")
local clock = require("runtime.clock")
local detector = require("runtime.detector")
local executor = require("runtime.executor")
local sandbox = require("runtime.sandbox")
local support = require("support")
local telemetry = require("runtime.telemetry")

local M = {}

--- A detector of a domain, started. Investigations run in the real sandbox. `d.store` has its
--- alerts.
---@param ctx table Of `beam.attach`.
---@param domain_name string
---@param changes table The policy's `rules`.
---@param change? fun(data: table) May change each snapshot before the rules see it.
---@param sample_ms? number Default: a second.
function M.start(ctx, domain_name, changes, change, sample_ms)
  local bus, system, box = telemetry.new(), clock.system(), sandbox.new({ pool = 1 })
  support.on_cleanup(function()
    box:close()
  end)
  local domain = beam.domain(domain_name)
  local meta = { watcher = domain_name, domain = domain_name, node = ctx.node }
  local store = alerts.new({ telemetry = bus, clock = system })
  local seen = setmetatable({
    snapshot = function(_, ...)
      local data, err, code = domain:snapshot(...)
      if data and change then
        change(data)
      end
      return data, err, code
    end,
  }, { __index = domain })
  local d = detector.new({
    meta = meta, domain = seen, ctx = ctx, telemetry = bus, clock = system, alerts = store,
    policy = { sample_ms = sample_ms or 1000, renotify_ms = 3600000, mute = {}, rules = changes },
    executor = executor.new({ sandbox = box, domain = domain, ctx = ctx, telemetry = bus,
      clock = system, meta = meta }),
  })
  support.on_cleanup(function()
    d:stop()
  end)
  d.store = store
  d:start()
  return d
end

--- "type subject" of each firing finding, sorted.
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

--- "type subject" of each alert of a status, sorted.
---@param status "firing"|"resolved"
function M.alerts(d, status)
  local names = {}
  for i, alert in ipairs(d.store:list({ status = status })) do
    names[i] = alert.type .. " " .. alert.subject
  end
  table.sort(names)
  return table.concat(names, ", ")
end

return M
