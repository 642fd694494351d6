--- Detection for one watcher: the samples of its node in its domain, and the rules over them.
---
--- It stands apart from the watcher's loop: whatever a model does, however long it waits, and when
--- the loop fails, samples are taken and rules fire their alerts. Sampler and history are those of
--- a feed that it shares with other watchers of the node, see runtime/detector/feed.lua, and the
--- rules are those that it shares with watchers whose rules are the same. What is here and what
--- runtime/rules.lua keeps of a finding by watcher is all that there is for each one.
---
---   local d = detector.new({ meta = { watcher = "shop", domain = "beam", node = "shop@db1" }, … })
---   d:start()
---   d:on_finding(function(finding, what) … end)

local feeds = require("runtime.detector.feeds")
local restored = require("runtime.rules.restored")
local sharing = require("runtime.rules.sharing")

local M = {}

---@class detector.Detector
---@field feed feed.Feed
---@field history history.History The feed's, as the next two.
---@field sampler sampler.Sampler
---@field ctx table What the domain is given.
---@field rules rules.Rules
---@field is_told? boolean It has begun: it is told of findings.
---@field listeners? function[]
local Detector = {}
local detector_mt = { __index = Detector }

--- A detector that is not running.
---@param opts { meta: { watcher: string, domain: string, node: string }, domain: table, ctx: table,
--- policy: table, executor: table, alerts: alerts.Alerts, telemetry: telemetry.Bus,
--- clock: clock.Clock, feeds?: feeds.Feeds, guard?: fun(request: table): table?, string?,
--- investigate_ms?: number, spread?: table, is_watched?: fun(domain: string): boolean }
--- `feeds` are those of the node (default: its own, with `spread` for it, see runtime/sampler.lua).
--- `guard` may change or refuse the alerts of rules, `is_watched` tells which other domains of the
--- node are watched (see runtime/rules.lua).
---@return detector.Detector
function M.new(opts)
  local self = setmetatable({ meta = opts.meta, policy = opts.policy, executor = opts.executor,
    guard = opts.guard, sampled_ms = 0 }, detector_mt)
  self.feeds = opts.feeds or feeds.new({ spread = function()
    return opts.spread
  end })
  self:take(self.feeds:join(self, { domain = opts.domain, settings = opts.ctx.settings,
    sample_ms = opts.policy.sample_ms }, opts))
  self.rules = self.feed:rules_for(self, opts.policy)
  return self
end

function Detector:take(feed)
  if self.feed then
    self.sampled_ms = self:sampling_ms()
  end
  self.joined_at_ms = feed:sampling_ms()
  self.feed, self.history, self.sampler, self.ctx = feed, feed.history, feed.sampler, feed.ctx
end

-- From now on it is told of findings, and fires alerts.
function Detector:begin()
  if not self.is_told and not self.is_over then
    self.is_told = true
    sharing.begin(self.rules, self)
  end
end

--- Begins to sample, unless another watcher has its feed do so already.
function Detector:start()
  self:begin()
  self.feed:start()
end

--- Ends. Firing alerts stay, unless the watcher is gone for good.
---@param resolved_by? "policy"|"left" Ends all findings, and their alerts as resolved by this.
function Detector:stop(resolved_by)
  if self.is_over then
    return
  end
  self.sampled_ms, self.is_over = self:sampling_ms(), true
  self.feeds:leave(self, self.feed)
  self.feed:end_rules(self, resolved_by)
end

--- A sample taken now (or the one that is just being taken), after the rules have seen it.
---@async
---@return history.Sample?
---@return string? err
---@return string? code As of `sampler:sample_now`.
function Detector:sample_now()
  self:begin()
  return self.sampler:sample_now()
end

--- The findings that are pending, firing or clearing, the worst first.
---@return rules.Finding[]
function Detector:findings()
  return self.rules:findings(self)
end

--- Calls `fn` whenever a finding begins, fires, worsens or is cleared. It must not wait.
---@param fn fun(finding: rules.Finding, what: "pending"|"firing"|"worsened"|"cleared")
---@return fun() unsubscribe
function Detector:on_finding(fn)
  self:begin()
  self.listeners = { unpack(self.listeners or {}) }
  table.insert(self.listeners, fn)
  return function()
    local kept = {}
    for _, other in ipairs(self.listeners) do
      kept[#kept + 1] = other ~= fn and other or nil
    end
    self.listeners = kept
  end
end

--- Takes back an alert that it fired before a restart of the host.
---@param alert alerts.Alert
---@return boolean ok False when the rule that fired it is in force no more.
function Detector:adopt(alert)
  return restored.adopt(self.rules, self, alert)
end

-- Takes its feed and its rules for a cadence, settings, a domain or a policy that may be others.
function Detector:move(wanted, policy)
  local before, rules = self.feed, self.rules
  local feed = self.feeds:move(self, wanted)
  local others = feed:rules_for(self, policy)
  if others ~= rules then
    before:leave_rules(self, rules)
    self.rules = others
  end
  if feed ~= before then
    self:take(feed)
    if before.is_running then
      feed:start()
    end
    self.feeds:leave(self, before, true)
  end
end

--- Puts another policy in force, and with it a changed domain, with its snapshot and its rules;
--- history stays, and so do findings whose rule there still is.
---@param policy table
---@param domain? table
---@param settings? table<string, any>
function Detector:set_policy(policy, domain, settings)
  self.policy = policy
  self:move({ domain = domain or self.feed.domain, settings = settings or self.ctx.settings,
    sample_ms = policy.sample_ms }, policy)
end

--- Samples more rarely than its policy says, or again as that does. Samples that other watchers
--- need as well are taken as often as they need them.
---@param times number
function Detector:slow(times)
  if times == 1 or self.feed.count == 1 then
    self:move({ domain = self.feed.domain, settings = self.ctx.settings,
      sample_ms = self.policy.sample_ms * times }, self.policy)
  end
end

--- How long the shared tasks of its feeds have run, its part of it.
---@return number
function Detector:sampling_ms()
  if self.is_over then
    return self.sampled_ms
  end
  return self.sampled_ms + self.feed:sampling_ms() - self.joined_at_ms
end

--- How many watchers have these samples.
---@return integer
function Detector:sharers()
  return self.feed.count
end

--- The newest snapshots, oldest first; those before a restart while there are none since.
---@return { id: string, captured_at: number, data: table }[] At most three.
function Detector:last_snapshots()
  return self.feed:last_snapshots()
end

return M
