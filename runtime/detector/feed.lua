--- A feed: the samples of one node in one domain, taken and kept once for all the watchers that
--- want the same.
---
--- Watchers share a feed when their node, domain (the same loaded file), settings and cadence are
--- the same; runtime/detector/feeds.lua finds it. Shared are the sampler, the history, what the
--- domain is given to read from, and, by those that have the same rules (runtime/rules/key.lua),
--- the evaluation of these. The feed runs from the start of the first of its watchers to the end of
--- the last. Its events are told once, under the name of the first, with the names of all.

local async = require("runtime.async")
local finding_alert = require("runtime.rules.finding_alert")
local history = require("runtime.history")
local members = require("runtime.members")
local rules_key = require("runtime.rules.key")
local rules_of = require("runtime.rules")
local sampler = require("runtime.sampler")
local sharing = require("runtime.rules.sharing")
local told = require("runtime.rules.told")

local M = {}

local LAST_SNAPSHOTS = 3

---@class feed.Wanted What the watchers of a feed have in common, beside their node.
---@field domain table
---@field settings? table<string, any>
---@field sample_ms number

---@class feed.Parts What a feed is made of.
---@field meta { domain: string, node: string }
---@field ctx { target?: table, sweep?: table, node?: string, clock: clock.Clock }
---@field alerts alerts.Alerts
---@field telemetry telemetry.Bus
---@field clock clock.Clock
---@field investigate_ms? number See runtime/rules.lua, as the next one.
---@field is_watched? fun(domain: string): boolean

---@class feed.Feed
---@field key string
---@field domain table
---@field ctx table What the domain is given.
---@field history history.History
---@field sampler sampler.Sampler
---@field users members.Members Its detectors.
local Feed = {}
local feed_mt = { __index = Feed }

--- A feed without watchers; not running.
---@param opts { key: string, keys: detector_keys.Keys, wanted: feed.Wanted, parts: feed.Parts,
--- spread?: table, from?: feed.Feed, holder: fun(id: string): detector.Detector? }
--- `from`: the feed whose history and cadence this one goes on with. `spread`: see
--- runtime/sampler.lua; `holder`: see runtime/rules/alerts.lua.
---@return feed.Feed
function M.new(opts)
  local wanted, parts, from = opts.wanted, opts.parts, opts.from
  local self = setmetatable({
    key = opts.key, keys = opts.keys, domain = wanted.domain,
    meta = { domain = parts.meta.domain, node = parts.meta.node }, ctx = {},
    users = members.new(), count = 0, rules = members.new(), by_key = {},
    meter = async.meter(), share_ms = 0, charged_ms = 0,
    history = from and from.history:fork() or history.new({ parts = wanted.domain.sweeps }),
    of_last_life = from and from.of_last_life or {},
  }, feed_mt)
  self.parts = { meta = self.meta, ctx = self.ctx, alerts = parts.alerts,
    telemetry = parts.telemetry, clock = parts.clock, investigate_ms = parts.investigate_ms,
    is_watched = parts.is_watched }
  self.holder = opts.holder
  for name, value in pairs(parts.ctx) do
    self.ctx[name] = value
  end
  self.ctx.settings = wanted.settings
  self.history.parts = wanted.domain.sweeps or {}
  self.sampler = sampler.new({
    meta = self.meta, domain = wanted.domain, ctx = self.ctx, sample_ms = wanted.sample_ms,
    spread = opts.spread, telemetry = parts.telemetry, clock = parts.clock,
    from = from and from.sampler,
    who = function()
      return self:who()
    end,
    on_sample = function(sample)
      return self:on_sample(sample)
    end,
  })
  return self
end

--- Takes other settings, another cadence or a newer version of the domain; all else goes on.
---@param wanted feed.Wanted
function Feed:change(wanted)
  self.domain, self.sampler.domain = wanted.domain, wanted.domain
  self.history.parts = wanted.domain.sweeps or {}
  self.ctx.settings = wanted.settings
  for _, rules in ipairs(self:all_rules()) do
    rules:set_settings(finding_alert.setting_options(self.domain, wanted.settings))
  end
  self.sampler:set_sample_ms(wanted.sample_ms)
end

--- Adds a watcher's detector.
---@param user detector.Detector
function Feed:add(user)
  self:sampling_ms()
  self.users:add(user)
  self.count = self.count + 1
  self.watcher = nil
end

--- Takes one away again.
---@param user detector.Detector
function Feed:remove(user)
  self:sampling_ms()
  self.users:remove(user)
  self.count = self.count - 1
  self.watcher = nil
end

--- Whose samples these are, for events: the first watcher, and all when there are several.
---@return string? watcher
---@return string[]? watchers
function Feed:who()
  if not self.watcher then
    self.watcher, self.watchers = told.names(self.users:list())
  end
  return self.watcher, self.watchers
end

--- How long its tasks have run for each of its watchers, since ever.
---@return number
function Feed:sampling_ms()
  local run_ms = self.meter.run_ms
  self.share_ms = self.share_ms + (run_ms - self.charged_ms) / math.max(1, self.count)
  self.charged_ms = run_ms
  return self.share_ms
end

--- Begins to sample; once for all its watchers.
function Feed:start()
  if self.is_running then
    return
  end
  self.is_running = true
  if self.ctx.target then
    self.unsubscribe = self.ctx.target:subscribe(function(kind)
      if kind == "restarted" then
        self:begin_life()
      end
    end)
  end
  async.metered(self.meter, function()
    self.sampler:start()
  end)
end

--- Ends.
---@param in_flight? boolean A snapshot under way still reaches those who wait for it.
function Feed:stop(in_flight)
  self.is_running, self.is_over = false, true
  if self.unsubscribe then
    self.unsubscribe()
    self.unsubscribe = nil
  end
  self.sampler:stop(in_flight)
end

--- The node is another incarnation: its history begins anew.
function Feed:begin_life()
  self:forget_life(self:last_snapshots())
  self.history:clear()
end

-- Nothing that was found is true of the node any more.
function Feed:forget_life(snapshots)
  if snapshots[1] then
    self.of_last_life = snapshots
  end
  for _, rules in ipairs(self:all_rules()) do
    rules:clear("restart")
  end
end

--- Takes a sample into the history, and has the rules look at it.
---@param sample history.Sample
---@return true? ok
---@return string? err
---@return string? code As of `history:add`.
function Feed:on_sample(sample)
  if self.is_over then
    return true
  end
  local before = self.history:newest(LAST_SNAPSHOTS)
  local added, restarted, code = self.history:add(sample)
  if not added then
    return nil, restarted, code
  end
  if restarted then
    self:forget_life(finding_alert.snapshots(before))
  end
  for _, rules in ipairs(self:all_rules()) do
    rules:evaluate(sample)
  end
  self.history:release()
  return true
end

--- The newest snapshots, oldest first; those before a restart while there are none since.
---@return { id: string, captured_at: number, data: table }[] At most three.
function Feed:last_snapshots()
  local list = finding_alert.snapshots(self.history:newest(LAST_SNAPSHOTS))
  return list[1] and list or self.of_last_life
end

--- The rules that look at each sample, in order.
---@return rules.Rules[]
function Feed:all_rules()
  self.rules_list = self.rules_list or self.rules:list()
  return self.rules_list
end

-- Rules that nobody has yet; they go on with what those that the user had have found.
function Feed:new_rules(key, policy, user)
  local parts = self.parts
  local made = rules_of.new({ meta = self.meta, domain = self.domain, history = self.history,
    alerts = parts.alerts, telemetry = parts.telemetry, clock = parts.clock,
    sweep = self.ctx.sweep, investigate_ms = parts.investigate_ms, is_watched = parts.is_watched,
    holder = self.holder,
    settings = finding_alert.setting_options(self.domain, self.ctx.settings) })
  made.key, self.by_key[key] = key, made
  self.rules:add(made)
  self.rules_list = nil
  made.users:add(user)
  made:set_policy(policy)
  if user.rules then
    sharing.continue(user.rules, made, user)
  end
  return made
end

-- The rules of a user that nobody shares, under another policy.
function Feed:change_rules(rules, key, policy)
  self.by_key[rules.key], self.by_key[key], rules.key = nil, rules, key
  rules.domain = self.domain
  rules:set_policy(policy)
  return rules
end

--- The rules for a user whose policy is new or has changed: those that it has, changed where nobody
--- shares them; else those that others have; else new ones. What it has found goes along, and those
--- that it had are to be left, where these are others.
---@param user detector.Detector
---@param policy table
---@return rules.Rules
function Feed:rules_for(user, policy)
  local key, from = rules_key.of(policy, self.keys), user.rules
  local to = self.by_key[key]
  if from and from == to and from.domain == self.domain then
    return from
  elseif from and self.rules:has(from) and from.users.count == 1 and (not to or to == from) then
    return self:change_rules(from, key, policy)
  elseif not to then
    return self:new_rules(key, policy, user)
  end
  to.users:add(user)
  if from then
    sharing.carry(from, to, user)
  end
  return to
end

-- Rules that nobody has any more.
local function close_rules(self, rules)
  rules:stop()
  self.rules:remove(rules)
  self.by_key[rules.key], self.rules_list = nil, nil
end

--- A user has other rules now: it leaves these, which end with the last.
---@param user detector.Detector
---@param rules rules.Rules
function Feed:leave_rules(user, rules)
  sharing.leave(rules, user)
  if rules.users.count == 0 then
    close_rules(self, rules)
  end
end

--- A user ends, and with the last its rules. Alerts of it that are being investigated are fired as
--- they are; firing ones stay, unless it is gone for good.
---@param user detector.Detector
---@param resolved_by? "policy"|"left" Ends all findings for it, and its alerts as resolved by this.
function Feed:end_rules(user, resolved_by)
  local rules = user.rules
  if rules.users.count > 1 then
    sharing.stop(rules, user, resolved_by)
    return
  end
  close_rules(self, rules)
  if resolved_by then
    rules:clear(resolved_by)
  end
  rules.users:remove(user)
end

return M
