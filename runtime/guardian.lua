--- Watches the host itself: how much memory and CPU time it uses, and whether its watchers decide.
---
--- What is over its limit for a while, not for a moment, is told by `host.over_limit`, and the
--- watcher that costs most is paused for a time and sampled ten times more rarely: a host that
--- watches less is better than one that the system kills. `host.recovered` tells of the end.
--- A watcher's cost is the time that its tasks run and the CPU time of its scripts, or, where
--- memory is short, what it keeps.
---
---   local g = guardian.new({ app = app, telemetry = bus, clock = clock, limits = limits })
---   g:start()

local async = require("runtime.async")
local stall_detector = require("runtime.watcher.stalls")
local units = require("runtime.units")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

local LOOK_MS = 5000
-- How long a limit is passed before something is done, and for how long a pause is.
local SUSTAINED_MS = { memory = 30000, cpu = 60000 }
local PAUSE_MS = 600000
local RARER = 10
-- A watcher that takes less of the CPU time than this is not to blame for it.
local LEAST_SHARE = 0.1
-- What a packed sample takes, roughly.
local METRIC_BYTES, SAMPLE_BYTES = 4, 100
local HANDLER = "beamlens-guardian"

---@class guardian.Guardian
---@field limits { rss_bytes?: number, cpu_pct?: number }
local Guardian = {}
local guardian_mt = { __index = Guardian }

local function milliseconds(time)
  return time.sec * 1000 + time.usec / 1000
end

--- What this process uses.
---@return { rss_bytes: number, cpu_ms: number }
function M.measure()
  local usage = uv.getrusage()
  return { rss_bytes = uv.resident_set_memory(),
    cpu_ms = milliseconds(usage.utime) + milliseconds(usage.stime) }
end

--- Creates a guardian that does nothing yet.
---@param opts { app: app.App, telemetry: telemetry.Bus, clock: clock.Clock,
--- limits: { rss_bytes?: number, cpu_pct?: number }, measure?: fun(): table }
---@return guardian.Guardian
function M.new(opts)
  local self = setmetatable({
    app = opts.app, telemetry = opts.telemetry, clock = opts.clock, limits = opts.limits,
    measure = opts.measure or M.measure,
    over = {}, -- resource -> { since_ms, told }
    slowed = setmetatable({}, { __mode = "k" }), -- unit -> true
    sandbox_ms = {}, -- "watcher node" -> CPU time of its scripts
    seen_ms = setmetatable({}, { __mode = "k" }), -- unit -> its cost when it was last looked at
    of_late = setmetatable({}, { __mode = "k" }), -- unit -> its cost of late
  }, guardian_mt)
  self.stalls = stall_detector.new({ watchers = function()
    local i = 0
    return function()
      i = i + 1
      return self.app.units[i] and self.app.units[i].watcher
    end
  end })
  return self
end

local function key_of(meta)
  return ("%s\0%s"):format(meta.watcher, meta.node)
end

local function find_unit(self, meta)
  for _, unit in ipairs(self.app.units) do
    if unit.meta.watcher == meta.watcher and unit.meta.node == meta.node then
      return unit
    end
  end
end

local function on_event(self, event, measurements, metadata)
  if event ~= "beamlens.watcher.resumed" then
    local key = key_of(metadata)
    self.sandbox_ms[key] = (self.sandbox_ms[key] or 0) + (measurements.cpu_ms or 0)
    return
  end
  local unit = find_unit(self, metadata)
  if unit and self.slowed[unit] then
    self.slowed[unit] = nil
    unit.detector:slow(1)
  end
end

--- Begins to look, every few seconds.
function Guardian:start()
  assert(self.telemetry:attach_many(HANDLER, { "beamlens.watcher.execute_complete",
    "beamlens.watcher.execute_error", "beamlens.watcher.resumed" }, function(...)
    on_event(self, ...)
  end))
  self.task = async.spawn(function()
    while true do
      self:check()
      async.sleep(LOOK_MS)
    end
  end, { name = "guardian", detached = true })
end

--- Ends. Pauses that it made stay.
function Guardian:stop()
  if self.task then
    self.telemetry:detach(HANDLER)
    self.task:cancel()
    self.task = nil
  end
end

--- Whether no watcher is stuck although it was ended: what a service manager is told.
---@return boolean
function Guardian:is_well()
  return self.stalls:are_all_well()
end

-- How long the tasks of each watcher have run, in order.
local function run_times(self)
  local times = {}
  for i, unit in ipairs(self.app.units) do
    times[i] = unit:run_ms()
  end
  return times
end

-- What each watcher has cost since the last look, smoothed over the last minute or so.
local function count_costs(self)
  local sandbox_ms = next(self.sandbox_ms) and self.sandbox_ms
  self.sandbox_ms = {}
  local spent_ms = world.value("costs", function()
    return run_times(self)
  end)
  for i, unit in ipairs(self.app.units) do
    local run_ms = spent_ms[i] or 0 -- a replay may have more watchers
    local cost = run_ms - (self.seen_ms[unit] or 0)
      + (sandbox_ms and sandbox_ms[key_of(unit.meta)] or 0)
    self.seen_ms[unit] = run_ms
    self.of_late[unit] = 0.9 * (self.of_late[unit] or 0) + cost
  end
end

-- In bytes, roughly: what is kept of a watcher's samples and of its conversation.
local function kept_bytes(unit)
  local conversation = unit.watcher.cycle and unit.watcher.cycle.conversation
  return unit.detector.history:count() / unit.detector:sharers()
      * (#unit.domain.metrics * METRIC_BYTES + SAMPLE_BYTES)
    + (conversation and conversation:bytes() or 0)
end

-- The watcher that costs most and decides, and its cost. nil when there is none.
local function heaviest(self, resource)
  local found, most, total = nil, 0, 0
  for _, unit in ipairs(self.app.units) do
    local cost = resource == "cpu" and (self.of_late[unit] or 0) or kept_bytes(unit)
    total = total + cost
    if not unit.watcher.paused and cost > most then
      found, most = unit, cost
    end
  end
  if found and resource == "cpu" and most < LEAST_SHARE * self.cpu_of_late then
    return nil
  end
  return found
end

local function in_words(resource, value)
  return resource == "cpu" and ("%.0f %% of a core"):format(value) or units.format_size(value)
end

local function tell_over(self, resource, value, held_ms, unit)
  self.telemetry:execute("beamlens.host.over_limit",
    { system_time = self.clock.wall_ms(), value = value, limit = self:limit(resource),
      held_ms = held_ms },
    { resource = resource, watcher = unit and unit.meta.watcher, node = unit and unit.meta.node,
      domain = unit and unit.meta.domain })
end

local function act(self, resource, value, held_ms)
  local unit = heaviest(self, resource)
  tell_over(self, resource, value, held_ms, unit)
  if unit then
    unit.watcher:pause({ by = "guardian", for_ms = PAUSE_MS,
      reason = ("the host uses %s, its limit is %s, and this watcher costs most"):format(
        in_words(resource, value), in_words(resource, self:limit(resource))) })
    self.slowed[unit] = true
    unit.detector:slow(RARER)
  end
end

--- The limit of a resource, or nil.
---@param resource "memory"|"cpu"
---@return number?
function Guardian:limit(resource)
  return resource == "cpu" and self.limits.cpu_pct or self.limits.rss_bytes
end

local function judge(self, resource, value)
  local limit, now_ms = self:limit(resource), self.clock.now_ms()
  local over = self.over[resource]
  if not limit or value <= limit then
    if over and over.told then
      self.telemetry:execute("beamlens.host.recovered",
        { system_time = self.clock.wall_ms(), value = value, limit = limit or 0,
          duration = now_ms - over.begun_ms }, { resource = resource })
    end
    self.over[resource] = nil
    return
  end
  if not over then
    over = { begun_ms = now_ms, since_ms = now_ms }
    self.over[resource] = over
    if resource == "memory" then
      collectgarbage() -- what is left over is no reason to act
    end
  end
  if now_ms - over.since_ms >= SUSTAINED_MS[resource] then
    over.since_ms, over.told = now_ms, true
    act(self, resource, value, now_ms - over.begun_ms)
  end
end

--- Looks once: at watchers that are stuck, and at what the host uses.
function Guardian:check()
  self.stalls:check()
  count_costs(self)
  local used, now_ms = world.value("usage", self.measure), self.clock.now_ms()
  local before = self.used
  self.used = { rss_bytes = used.rss_bytes, cpu_ms = used.cpu_ms, at_ms = now_ms }
  judge(self, "memory", used.rss_bytes)
  if before and now_ms > before.at_ms then
    local cpu_ms = used.cpu_ms - before.cpu_ms
    self.cpu_of_late = 0.9 * (self.cpu_of_late or 0) + cpu_ms
    self.cpu_pct = 100 * cpu_ms / (now_ms - before.at_ms)
    judge(self, "cpu", self.cpu_pct)
  end
end

--- For `beamlens status`.
---@return { rss_bytes?: number, cpu_pct?: number, over: string[] } limits
function Guardian:report()
  local over = {}
  for resource in pairs(self.over) do
    over[#over + 1] = resource
  end
  table.sort(over)
  return { rss_bytes = self.limits.rss_bytes, cpu_pct = self.limits.cpu_pct, over = over }
end

return M
