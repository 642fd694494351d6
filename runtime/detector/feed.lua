--- A feed: the samples of one node in one domain, taken and kept once for all the watchers that
--- want the same.
---
--- Watchers share a feed when their node, domain (the same loaded file), settings and cadence are
--- the same; runtime/detector/feeds.lua finds it. Shared are the sampler, the history and what the
--- domain is given to read from. The feed runs from the start of the first of its watchers to the
--- end of the last. Its events are told once, under the name of the first, with the names of all.

local async = require("runtime.async")
local finding_alert = require("runtime.rules.finding_alert")
local history = require("runtime.history")
local members = require("runtime.members")
local sampler = require("runtime.sampler")
local told = require("runtime.rules.told")

local M = {}

local LAST_SNAPSHOTS = 3

---@class feed.Wanted What the watchers of a feed have in common, beside their node.
---@field domain table
---@field settings? table<string, any>
---@field sample_ms number

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
---@param opts { key: string, wanted: feed.Wanted, meta: { domain: string, node: string },
--- ctx: table, telemetry: telemetry.Bus, clock: clock.Clock, spread?: table, from?: feed.Feed }
--- `from`: the feed whose history and cadence this one goes on with. `spread`: see
--- runtime/sampler.lua.
---@return feed.Feed
function M.new(opts)
  local wanted, from = opts.wanted, opts.from
  local self = setmetatable({
    key = opts.key, meta = opts.meta, ctx = opts.ctx, domain = wanted.domain,
    users = members.new(), engines = {}, meter = async.meter(), share_ms = 0, charged_ms = 0,
    history = from and from.history:fork() or history.new({ parts = wanted.domain.sweeps }),
    of_last_life = from and from.of_last_life or {},
  }, feed_mt)
  self.ctx.settings = wanted.settings
  self.history.parts = wanted.domain.sweeps or {}
  self.sampler = sampler.new({
    meta = opts.meta, domain = wanted.domain, ctx = opts.ctx, sample_ms = wanted.sample_ms,
    spread = opts.spread, telemetry = opts.telemetry, clock = opts.clock,
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
  self.sampler:set_sample_ms(wanted.sample_ms)
end

--- Adds a watcher's detector.
---@param user detector.Detector
function Feed:add(user)
  self:sampling_ms()
  self.users:add(user)
  self.count = (self.count or 0) + 1
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
  self.share_ms = self.share_ms + (run_ms - self.charged_ms) / math.max(1, self.count or 0)
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
  for _, rules in ipairs(self.engines) do
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
  for _, rules in ipairs(self.engines) do
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

--- Has these rules look at each sample, after those that do already.
---@param rules rules.Rules
function Feed:add_rules(rules)
  self.engines = { unpack(self.engines) }
  table.insert(self.engines, rules)
end

--- Ends that.
---@param rules rules.Rules
function Feed:remove_rules(rules)
  local kept = {}
  for _, other in ipairs(self.engines) do
    kept[#kept + 1] = other ~= rules and other or nil
  end
  self.engines = kept
end

return M
