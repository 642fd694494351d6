--- Detection for one watcher: its sampler, the history of its samples, and the rules over it.
---
--- It stands apart from the watcher's loop: whatever a model does, however long it waits, and when
--- the loop fails, samples are taken and rules fire their alerts.
---
---   local d = detector.new({ meta = { watcher = "shop", domain = "beam", node = "shop@db1" }, … })
---   d:start()
---   d:on_finding(function(finding, what) … end)

local finding_alert = require("runtime.rules.finding_alert")
local history = require("runtime.history")
local rules = require("runtime.rules")
local sampler = require("runtime.sampler")

local M = {}

local LAST_SNAPSHOTS = 3

---@class detector.Detector
---@field history history.History
local Detector = {}
local detector_mt = { __index = Detector }

--- A detector that is not running.
---@param opts { meta: { watcher: string, domain: string, node: string }, domain: table, ctx: table,
--- policy: table, executor: table, alerts: alerts.Alerts, telemetry: telemetry.Bus,
--- clock: clock.Clock, guard?: fun(request: table): table?, string?, investigate_ms?: number,
--- spread?: table, is_watched?: fun(domain: string): boolean }
--- `guard` may change or refuse the alerts of rules, `is_watched` tells which other domains of the
--- node are watched (see runtime/rules.lua); `spread`: see runtime/sampler.lua.
---@return detector.Detector
function M.new(opts)
  local self = setmetatable({
    meta = opts.meta, ctx = opts.ctx, telemetry = opts.telemetry, clock = opts.clock,
    history = history.new({ parts = opts.domain.sweeps }), of_last_life = {},
  }, detector_mt)
  self.rules = rules.new({
    meta = opts.meta, domain = opts.domain, policy = opts.policy, history = self.history,
    executor = opts.executor, alerts = opts.alerts, telemetry = opts.telemetry,
    clock = opts.clock, guard = opts.guard, investigate_ms = opts.investigate_ms,
    is_watched = opts.is_watched,
    settings = finding_alert.setting_options(opts.domain, opts.ctx.settings),
  })
  self.rules:on_finding(function(_, what)
    if what == "pending" and opts.ctx.sweep then
      opts.ctx.sweep:hasten() -- so that its alert shows who is at work now
    end
  end)
  self.sampler = sampler.new({
    meta = opts.meta, domain = opts.domain, ctx = opts.ctx, sample_ms = opts.policy.sample_ms,
    spread = opts.spread,
    telemetry = opts.telemetry, clock = opts.clock,
    on_sample = function(sample)
      return self:on_sample(sample)
    end,
  })
  return self
end

--- Begins to sample.
function Detector:start()
  if self.ctx.target and not self.unsubscribe then
    self.unsubscribe = self.ctx.target:subscribe(function(kind)
      if kind == "restarted" then
        self:forget_life(self:last_snapshots())
        self.history:clear()
      end
    end)
  end
  self.sampler:start()
end

--- Ends. Firing alerts stay, unless the watcher is gone for good.
---@param resolved_by? "policy"|"left" Ends all findings, and their alerts as resolved by this.
function Detector:stop(resolved_by)
  if self.unsubscribe then
    self.unsubscribe()
    self.unsubscribe = nil
  end
  self.sampler:stop()
  self.rules:stop()
  if resolved_by then
    self.rules:clear(resolved_by)
  end
end

-- The node is a new incarnation: nothing that was found is true of it.
function Detector:forget_life(snapshots)
  if snapshots[1] then
    self.of_last_life = snapshots
  end
  self.rules:clear("restart")
end

function Detector:on_sample(sample)
  local before = self:last_snapshots()
  local added, restarted, code = self.history:add(sample)
  if not added then
    return nil, restarted, code
  end
  if restarted then
    self:forget_life(before)
  end
  self.rules:evaluate(sample)
  self.history:release()
  return true
end

--- A sample taken now (or the one that is just being taken), after the rules have seen it.
---@async
---@return history.Sample?
---@return string? err
---@return string? code As of `sampler:sample_now`.
function Detector:sample_now()
  return self.sampler:sample_now()
end

--- The findings that are pending, firing or clearing, the worst first.
---@return rules.Finding[]
function Detector:findings()
  return self.rules:findings()
end

--- Calls `fn` whenever a finding begins, fires, worsens or is cleared. It must not wait.
---@param fn fun(finding: rules.Finding, what: "pending"|"firing"|"worsened"|"cleared")
---@return fun() unsubscribe
function Detector:on_finding(fn)
  return self.rules:on_finding(fn)
end

--- Puts another policy in force, and with it a changed domain, with its snapshot and its rules;
--- history stays, and so do findings whose rule there still is.
---@param policy table
---@param domain? table
function Detector:set_policy(policy, domain)
  if domain then
    self.sampler.domain = domain
    self.history.parts = domain.sweeps
    self.rules.domain = domain
  end
  self.rules:set_settings(finding_alert.setting_options(self.rules.domain, self.ctx.settings))
  self.rules:set_policy(policy)
  self.sampler:set_sample_ms(policy.sample_ms)
end

--- The newest snapshots, oldest first; those before a restart while there are none since.
---@return { id: string, captured_at: number, data: table }[] At most three.
function Detector:last_snapshots()
  local samples = self.history:samples()
  local list = {}
  for i = math.max(1, #samples - LAST_SNAPSHOTS + 1), #samples do
    list[#list + 1] = finding_alert.snapshot(samples[i])
  end
  return list[1] and list or self.of_last_life
end

return M
