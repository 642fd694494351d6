--- One watcher with all that is its own: the executor, the detector and the watcher itself.

local async = require("runtime.async")
local detector = require("runtime.detector")
local executor = require("runtime.executor")
local pace = require("runtime.watcher.pace")
local watcher = require("runtime.watcher")

local M = {}

---@class unit.Unit
---@field policy table
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
--- node?: node_unit.NodeUnit, spread?: table }
--- `node` is what the watchers of one node share; `spread`: see runtime/sampler.lua.
---@return unit.Unit
function M.new(opts)
  local policy, host, parts, node = opts.policy, opts.host, opts.parts, opts.node or {}
  local meta = { watcher = policy.name, domain = policy.domain, node = policy.node }
  local ctx = { target = node.target, sweep = node.sweep, node = policy.node, clock = host.clock,
    settings = parts.settings }
  local self = setmetatable({ policy = policy, meta = meta, domain = parts.domain,
    registry = parts.registry }, unit_mt)
  self.executor = executor.new({ sandbox = host.sandbox, domain = parts.domain, ctx = ctx,
    limits = policy.execute, telemetry = host.telemetry, meta = meta, clock = host.clock })
  self.detector = detector.new({ meta = meta, domain = parts.domain, ctx = ctx, policy = policy,
    executor = self.executor, alerts = host.alerts, telemetry = host.telemetry,
    clock = host.clock, spread = opts.spread,
    is_watched = node.watches and function(domain)
      return node:watches(domain)
    end,
    guard = function(request)
      return self.watcher:guard_alert(request)
    end })
  self.meter = async.meter()
  local account = host.ledger and host.ledger:account(("watcher %s %s"):format(policy.name,
    tostring(policy.node)), policy.limits)
  self.watcher = watcher.new({ meta = meta, policy = policy, domain = parts.domain,
    detector = self.detector, alerts = host.alerts, executor = self.executor,
    registry = parts.registry, prompt = parts.prompt, telemetry = host.telemetry,
    clock = host.clock, target = node.target,
    account = account,
    pace = account and pace.new({ account = account, shared = host.ledger:account("process"),
      watchers = host.count_watchers }) })
  return self
end

--- Begins to sample and to decide.
function Unit:start()
  async.metered(self.meter, function()
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
end

return M
