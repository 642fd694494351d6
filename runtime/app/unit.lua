--- One watcher with all that is its own: the executor, the detector and the watcher itself. What
--- its detector shares with other watchers of the node is in runtime/detector.lua.

local async = require("runtime.async")
local detector = require("runtime.detector")
local executor = require("runtime.executor")
local pace = require("runtime.watcher.pace")
local watcher = require("runtime.watcher")

local M = {}

---@class unit.Unit
---@field policy table
---@field parts parts.Parts
---@field meta { watcher: string, domain: string, node: string }
---@field domain table
---@field registry table
---@field executor executor.Executor
---@field detector detector.Detector
---@field watcher watcher.Watcher
---@field meter async.Meter Of its tasks.
local Unit = {}
local unit_mt = { __index = Unit }

--- Builds a unit; nothing runs.
---@param opts { policy: table, parts: parts.Parts, host: app.Options,
--- node?: node_unit.NodeUnit }
--- `node` is what the watchers of one node share.
---@return unit.Unit
function M.new(opts)
  local policy, host, parts, node = opts.policy, opts.host, opts.parts, opts.node or {}
  local meta = { watcher = policy.name, domain = policy.domain, node = policy.node }
  local ctx = { target = node.target, sweep = node.sweep, node = policy.node, clock = host.clock,
    settings = parts.settings }
  local self = setmetatable({ policy = policy, parts = parts, meta = meta, domain = parts.domain,
    registry = parts.registry, host = host, node = node, state = host.state,
    meter = async.meter() }, unit_mt)
  self.executor = executor.new({ sandbox = host.sandbox, domain = parts.domain, ctx = ctx,
    limits = policy.execute, telemetry = host.telemetry, meta = meta, clock = host.clock })
  self.detector = detector.new({ meta = meta, domain = parts.domain, ctx = ctx, policy = policy,
    executor = self.executor, alerts = host.alerts, telemetry = host.telemetry,
    clock = host.clock, feeds = node.feeds, is_watched = node.is_watched,
    guard = function(request)
      return self.watcher:guard_alert(request)
    end })
  self.executor.ctx = self.detector.ctx
  local account = self:account()
  self.watcher = watcher.new({ meta = meta, policy = policy, domain = parts.domain,
    detector = self.detector, common = host.common, executor = self.executor,
    registry = parts.registry, prompt = parts.prompt, target = node.target,
    account = account,
    pace = account and pace.new({ account = account, shared = host.ledger:account("process"),
      watchers = host.count_watchers }) })
  return self
end

-- What it spends, limited as its policy says.
function Unit:account()
  local policy, ledger = self.policy, self.host.ledger
  return ledger and ledger:account(("watcher %s %s"):format(policy.name, tostring(policy.node)),
    policy.limits)
end

--- Takes what its files say now. State, alerts, snapshots, findings and conversation stay, and what
--- runs goes on as it began.
---@param policy table Of the same name, node and domain.
---@param parts parts.Parts
function Unit:reload(policy, parts)
  local has_other_domain = parts.domain ~= self.domain
  self.policy, self.parts = policy, parts
  self.domain, self.registry = parts.domain, parts.registry
  self.executor:set_limits(policy.execute)
  if has_other_domain then
    self.executor.domain = parts.domain
    if self.node.sweep then
      self.node.sweep:need(parts.domain.sweeps)
    end
  end
  self.detector:set_policy(policy, parts.domain, parts.settings)
  self.executor.ctx = self.detector.ctx
  self.host.alerts:set_limit(policy.name, policy.node, policy.history.alerts)
  self:account()
  self.watcher:reload({ policy = policy, domain = parts.domain, prompt = parts.prompt,
    registry = parts.registry })
end

--- How long its tasks have run, with its part of those that it shares with other watchers.
---@return number
function Unit:run_ms()
  return self.meter.run_ms + self.detector:sampling_ms()
end

--- Begins to sample and to decide.
function Unit:start()
  async.metered(self.meter, function()
    if self.state then
      self.state:adopt(self)
    end
    self.detector:start()
    self.watcher:start()
  end)
end

--- Ends. Firing alerts stay, unless the watcher is gone for good.
---@param reason string For `watcher.loop_stopped`.
---@param resolved_by? "policy"|"left"
function Unit:stop(reason, resolved_by)
  self.watcher:stop(reason)
  self.detector:stop(resolved_by)
  if resolved_by and self.state then
    self.state:forget(self)
  end
end

return M
