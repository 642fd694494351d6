-- All rules of the project over one node: a detector per domain as it ships, and reachability.
--
--   local node = judged.new({ target = t, sweep = s, clock = c, on_finding = print })
--   node.detectors.beam.feed:on_sample(sample)
--   node:errors()                                  -- what rules raised
--
-- Investigations are not run, and nothing samples by itself.

local alerts = require("runtime.alerts")
local detector = require("runtime.detector")
local domain = require("runtime.domain")
local reachability = require("runtime.reachability")
local telemetry = require("runtime.telemetry")

local M = {}

M.DOMAINS = { "beam", "ets", "gc", "ports", "sup" }
M.SAMPLE_MS = 10000

local BETWEEN_DOMAINS_MS = 100
local INFORMING = { allocator_fragmentation = true }

local Judged = {}
local judged_mt = { __index = Judged }

local NO_INVESTIGATION = { run = function(_, code, how)
  return { id = "none", code = code, value = 0, source = how.source, calls = 0 }
end }

local function load_domain(name)
  local path = ("domains/%s.lua"):format(name)
  return assert(domain.new(assert(loadfile(path))(), { file = path }))
end

function Judged:add_domain(name, index)
  local loaded = load_domain(name)
  if self.sweep then
    self.sweep:need(loaded.sweeps)
  end
  self.detectors[name] = detector.new({
    meta = { watcher = name, domain = name, node = self.target.node }, domain = loaded,
    ctx = { target = self.target, sweep = self.sweep, node = self.target.node,
      clock = self.clock },
    policy = { name = name, sample_ms = M.SAMPLE_MS, rules = {}, mute = {}, renotify_ms = 3600000 },
    executor = NO_INVESTIGATION, alerts = self.alerts, telemetry = self.telemetry,
    clock = self.clock,
    spread = { delay_ms = (index - 1) * BETWEEN_DOMAINS_MS, early_ms = index * 900 },
  })
  self.detectors[name]:on_finding(function(finding, what)
    self:tell(name, finding, what)
  end)
end

function Judged:tell(domain_name, finding, what)
  if what == "firing" or what == "worsened" then
    self.on_finding({
      node = self.target.node, domain = domain_name, type = finding.type, subject = finding.subject,
      severity = finding.severity, summary = finding.summary, what = what,
      at_ms = self.clock.wall_ms(),
    })
  end
end

--- Puts all rules over one node; nothing runs.
---@param opts { target: table, sweep?: sweep.Sweep, clock: clock.Clock,
--- on_finding: fun(found: { node: string, domain: string, type: string, subject: string,
--- severity: string, summary: string, what: string, at_ms: number }) } `on_finding` gets what
--- fires, and what worsens while it does.
function M.new(opts)
  local bus = telemetry.new()
  local self = setmetatable({
    target = opts.target, sweep = opts.sweep, clock = opts.clock, on_finding = opts.on_finding,
    telemetry = bus, alerts = alerts.new({ telemetry = bus, clock = opts.clock }),
    detectors = {}, failures = {},
  }, judged_mt)
  bus:attach_many("judged", { "beamlens.rule.failed", "beamlens.sampler.failed" },
    function(event, _, metadata)
      table.insert(self.failures, ("%s %s %s: %s"):format(event, metadata.domain,
        metadata.type or "", metadata.error))
    end)
  for i, name in ipairs(M.DOMAINS) do
    self:add_domain(name, i)
  end
  self.reachability = reachability.new({
    target = opts.target, alerts = self.alerts, telemetry = bus, clock = opts.clock,
    last_snapshots = function()
      return {}
    end,
  })
  self.reachability:on_finding(function(finding, what)
    self:tell("node", finding, what)
  end)
  return self
end

--- What fired and is to be known: "NODE TYPE SUBJECT" of each, once, in the order of the alphabet.
--- Findings that only inform are left out, but for those of fragmentation.
---@param fired table[] As `on_finding` got them.
---@return string[]
function M.fired(fired)
  local list, seen = {}, {}
  for _, found in ipairs(fired) do
    local text = ("%s %s %s"):format(found.node, found.type, found.subject)
    if not seen[text] and (found.severity ~= "info" or INFORMING[found.type]) then
      seen[text] = true
      list[#list + 1] = text
    end
  end
  table.sort(list)
  return list
end

--- The findings that fire, or are about to, now.
---@return string[]
function Judged:standing()
  local list = {}
  for _, one in pairs(self.detectors) do
    for _, finding in ipairs(one:findings()) do
      list[#list + 1] = ("%s %s %s"):format(self.target.node, finding.type, finding.subject)
    end
  end
  table.sort(list)
  return list
end

--- What rules raised, and snapshots that failed.
---@return string[]
function Judged:errors()
  return self.failures
end

--- The node is another incarnation; a detector that samples by itself does this on its own.
function Judged:restart()
  for _, one in pairs(self.detectors) do
    one.feed:begin_life()
  end
end

return M
