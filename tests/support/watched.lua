-- A watcher for specs: real alerts, snapshots, hooks and telemetry; a clock that the spec moves; a
-- scripted client; and small stand-ins for the node, the detector and the sandbox.

local alerts = require("runtime.alerts")
local async = require("runtime.async")
local ids = require("runtime.ids")
local json = require("runtime.json")
local moved = require("support.moved")
local prompts = require("runtime.prompts")
local support = require("support")
local telemetry = require("runtime.telemetry")
local watcher = require("runtime.watcher")

local M = {}

local START_MS = 1795466985123 -- 2026-11-23T20:49:45.123Z

local function fake_detector(clock)
  local self = { list = {}, listeners = {}, data = { memory_total_mb = 512, uptime_s = 3600,
    mono_ms = -576460751234, swap_used = false } }
  local newest -- the real history is bounded, too
  self.history = {
    latest = function()
      return newest
    end,
    covers = function(_, seconds)
      return seconds <= (self.covered_s or 0)
    end,
    value_ago = function(_, key, seconds)
      return self.before and self.before[seconds][key]
    end,
  }
  function self.sample_now()
    if self.sample_error then
      return nil, self.sample_error, "ETIMEDOUT"
    end
    local data = {}
    for key, value in pairs(self.data) do
      data[key] = value
    end
    newest = { id = ids.hex(16), at_ms = clock.wall_ms(), taken_ms = clock.now_ms(), data = data,
      sweep = self.sweep }
    return newest
  end
  function self.findings()
    return self.list
  end
  function self.on_finding(_, fn)
    self.listeners[fn] = true
    return function()
      self.listeners[fn] = nil
    end
  end
  function self.tell(finding, what)
    for fn in pairs(self.listeners) do
      fn(finding, what)
    end
  end
  return self
end

local function fake_target()
  local self = { now = { status = "up", since_ms = START_MS }, listeners = {} }
  function self.status()
    return self.now
  end
  function self.subscribe(_, fn)
    self.listeners[fn] = true
    return function()
      self.listeners[fn] = nil
    end
  end
  function self.set(status, kind)
    self.now = { status = status, since_ms = START_MS }
    for fn in pairs(self.listeners) do
      fn(kind)
    end
  end
  return self
end

-- Decides as the real rules client does: the state that the findings imply, else the longest wait.
local function decide_by_rules(request)
  local implied = "healthy"
  for _, finding in ipairs(request.context.findings) do
    implied = finding.phase == "pending" and "observing" or finding.severity
  end
  if implied ~= request.context.state then
    return { tool = "set_state", args = { state = implied, reason = "rules" } }
  end
  return { tool = "wait", args = { ms = request.context.wait.max_ms } }
end

-- Plays the script: a list of calls `{ tool, args }`, of functions from the request to a call or
-- to an error, or of `{ err = …, kind = … }`. When it has ended, it waits for the longest time.
local function scripted(script)
  local self = { primary = "Main", requests = {}, rules = 0, script = script }
  function self.decide(_, client, request)
    assert(async.in_task())
    if client == "rules" then
      self.rules = self.rules + 1
      local decision = decide_by_rules(request)
      decision.id, decision.provider = "rules_" .. self.rules, "rules"
      return decision
    end
    local count = #self.requests + 1
    self.requests[count] = request
    local messages = {}
    for i, message in ipairs(request.messages) do
      messages[i] = message.text or ""
    end
    request.texts = messages
    local step = table.remove(self.script, 1) or { "wait", { ms = 1800000 } }
    if type(step) == "function" then
      step = step(request)
    end
    if step.err then
      return nil, step.err, step.kind or "server", step.detail
    end
    return { tool = step[1], args = step[2] or {}, id = "call_" .. count, text = step.text,
      origin = step.origin, provider = step.provider or "replay", client = step.client or "Main" }
  end
  return self
end

local function fake_domain()
  return {
    name = "beam", title = "the virtual machine", description = "memory and processes",
    instructions = "Watch memory.",
    rules = { { type = "mailbox_growth", title = "Mailbox growth" }, { type = "atom_limit" } },
    docs = function()
      return "beam_get_memory() -> total_mb"
    end,
    metric_docs = function()
      return "memory_total_mb: all of it"
    end,
  }
end

local function fake_executor()
  local self = { runs = {} }
  function self.run(_, code, opts)
    local record = { id = ids.hex(16), code = code, source = opts.source, calls = 1, output = "" }
    if code:find("error") then
      record.error = { kind = "runtime", message = "boom", line = 1 }
    elseif not code:find("return") then
      record.value, record.hint = json.null, "write: return " .. code
    else
      record.value = { total_mb = 512, code = code }
    end
    self.runs[#self.runs + 1] = { record = record, opts = opts }
    return record
  end
  return self
end

function M.policy(changes)
  local policy = {
    name = "beam", sample_ms = 10000,
    wait = { min_ms = 10000, max_ms = 1800000 },
    limits = { calls_per_cycle = 15 },
    history = { snapshots = 100, alerts = 100 },
    renotify_ms = 3600000, uncorroborated = "next_cycle",
  }
  for key, value in pairs(changes or {}) do
    policy[key] = value
  end
  return policy
end

local function record_events(bus)
  local seen = {}
  assert(bus:attach_many("watched", telemetry.event_names(), function(event, measurements, metadata)
    seen[#seen + 1] = { event = event:gsub("^beamlens%.", ""), measurements = measurements,
      metadata = metadata }
  end))
  return seen
end

-- The watcher over `self.clock`, `telemetry`, `alerts`, `detector` and `domain`.
local function build(self, meta, script, policy)
  self.events = record_events(self.telemetry)
  self.target = fake_target()
  self.registry, self.executor = scripted(script), fake_executor()
  self.prompt = assert(prompts.new(dofile("prompts/watcher.lua")))
  self.watcher = watcher.new({
    meta = meta, policy = M.policy(policy), domain = self.domain, detector = self.detector,
    alerts = self.alerts, executor = self.executor, registry = self.registry,
    prompt = function(variables)
      return self.prompt:render(variables)
    end,
    telemetry = self.telemetry, clock = self.clock, target = self.target,
    await = self.clock.await, after = self.clock.after,
  })
  return setmetatable(self, { __index = M })
end

--- Makes a watcher that plays `script`; `self:start()` starts it, `self:stop()` stops it.
---@param script table[]
---@param policy? table Changes to the policy.
function M.new(script, policy)
  local clock = moved.new(START_MS)
  local bus = telemetry.new({ on_handler_error = function(_, event, err)
    error(event .. ": " .. err)
  end })
  return build({
    clock = clock, telemetry = bus, domain = fake_domain(), detector = fake_detector(clock),
    alerts = alerts.new({ telemetry = bus, clock = clock }),
  }, { watcher = "beam", domain = "beam", node = "shop@db1" }, script, policy)
end

--- As `new`, over the real detector of a `support.detection` setup.
---@param t table
---@param script table[]
function M.over(t, script)
  local domain = fake_domain()
  domain.rules = t.domain.rules
  return build({
    clock = moved.new(nil, t.clock), telemetry = t.bus, domain = domain, detector = t.detector,
    alerts = t.alerts,
  }, { watcher = "shop", domain = "beam", node = "shop@db1" }, script)
end

--- The events of this name (without `beamlens.`).
function M.all(self, name)
  local found = {}
  for _, event in ipairs(self.events) do
    if event.event == name then
      found[#found + 1] = event
    end
  end
  return found
end

function M.last(self, name)
  local found = self:all(name)
  return found[#found]
end

--- Waits until the model was asked `count` times.
function M.asked(self, count)
  support.wait_until(function()
    return #self.registry.requests >= count
  end, 2000, ("%d requests, there are %d"):format(count, #self.registry.requests))
  return self.registry.requests[count]
end

--- Waits until the watcher sleeps, then moves the clock by `ms`.
function M.advance(self, ms)
  self:asleep()
  self.clock.advance(ms)
end

function M.asleep(self)
  support.wait_until(function()
    return self.watcher.status == "waiting" and self.clock.sleepers() > 0
  end, 2000, "the watcher to sleep; it is " .. self.watcher.status)
end

--- The text of the result that the model saw last before request `count`.
function M.result(self, count)
  local texts = self:asked(count).texts
  return texts[#texts]
end

--- A finding, held unless `changes` say otherwise.
function M.finding(changes)
  local finding = { id = ids.hex(16), type = "mailbox_growth", subject = "orders_worker",
    severity = "warning", phase = "firing", since = START_MS, value = 39818, threshold = 10000,
    per_s = 18900, eta_s = 360, summary = "orders_worker: mailbox 39 818",
    figures = { { name = "mailbox", value = 39818 } } }
  for key, value in pairs(changes or {}) do
    finding[key] = value
  end
  return finding
end

--- Fires the alert of a finding, as the detector does.
function M.fire_rule(self, finding)
  self.detector.list = { finding }
  local alert = self.alerts:fire({ watcher = "beam", domain = "beam", node = "shop@db1",
    type = finding.type, subject = finding.subject, severity = finding.severity,
    summary = finding.summary, title = finding.type, source = "rule", corroborated = true })
  finding.alert_id = alert.id
  self.detector.tell(finding, "firing")
  return alert
end

function M.start(self)
  self.watcher:start()
end

function M.stop(self)
  self.watcher:stop("spec")
end

return M
