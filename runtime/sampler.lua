--- The sampler of a feed (runtime/detector/feed.lua): a snapshot of its domain every `sample_ms`,
--- whatever its watchers do.
---
--- One snapshot is under way at a time. While the node is out of reach none is tried, and nothing
--- is said: reachability says it. The first sample after such a time is marked `after_gap`.

local async = require("runtime.async")
local ids = require("runtime.ids")

local M = {}

local SNAPSHOT_TIMEOUT_MS = 30000
local NO_SPREAD = { delay_ms = 0, early_ms = 0 }

---@class sampler.Sampler
local Sampler = {}
local sampler_mt = { __index = Sampler }

--- A sampler that is not running.
---@param opts { meta: { domain: string, node: string }, domain: table, ctx: table,
--- sample_ms: number, telemetry: telemetry.Bus, clock: clock.Clock, timeout_ms?: number,
--- spread?: { delay_ms: number, early_ms: number }, from?: sampler.Sampler,
--- who: (fun(): string?, string[]?),
--- on_sample: fun(sample: history.Sample): true?, string?, string? }
--- `on_sample` gets each sample and may refuse it (nil, err, code). `who` names the watchers for
--- events: the first, and all of several. `timeout_ms` bounds one snapshot (default 30 s). `spread`
--- keeps many samplers from going in step: whenever the node came up, the first sample is taken
--- `delay_ms` later and the second one `early_ms` sooner (default 0). `from` is another sampler
--- whose next sample this one takes when it is due, instead of one at its start.
---@return sampler.Sampler
function M.new(opts)
  return setmetatable({
    meta = opts.meta,
    domain = opts.domain,
    ctx = opts.ctx,
    sample_ms = opts.sample_ms,
    timeout_ms = opts.timeout_ms or SNAPSHOT_TIMEOUT_MS,
    telemetry = opts.telemetry,
    clock = opts.clock,
    on_sample = opts.on_sample,
    who = opts.who,
    spread = opts.spread or NO_SPREAD,
    due_ms = opts.from and opts.from.sample_ms == opts.sample_ms and opts.from.due_ms or nil,
    has_gap = opts.from and opts.from.has_gap,
    in_a_row = opts.from and opts.from.in_a_row or 0,
    wake = async.signal(),
  }, sampler_mt)
end

--- Begins: the first sample is taken at once, or as soon as the node is up.
function Sampler:start()
  if self.task then
    return
  end
  local target = self.ctx.target
  if target then
    self.unsubscribe = target:subscribe(function(kind)
      if kind == "up" then
        self.is_due, self.came_up = true, true
        self.wake:fire()
      elseif kind == "down" or kind == "refused" then
        self.has_gap = true
      end
    end)
  end
  self.task = async.spawn(function()
    self:loop()
  end, { name = ("sampler %s %s"):format(self.meta.domain, self.meta.node), detached = true })
end

--- Ends. A snapshot under way is abandoned; those who wait for it are told.
---@param in_flight? boolean It is not abandoned, and reaches them.
function Sampler:stop(in_flight)
  if self.unsubscribe then
    self.unsubscribe()
    self.unsubscribe = nil
  end
  if self.task then
    self.task:cancel()
    self.task = nil
  end
  local flight = self.flight
  if flight and in_flight then
    flight.is_own = nil
  elseif flight then
    self:land(flight, nil, "ECANCELED: the sampler was stopped", "ECANCELED")
    if flight.task then
      flight.task:cancel()
    end
  end
end

--- Changes the cadence, from now on.
---@param sample_ms number
function Sampler:set_sample_ms(sample_ms)
  if sample_ms ~= self.sample_ms then
    self.sample_ms = sample_ms
    self.is_due = true
    self.wake:fire()
  end
end

-- Waits until the next sample is due, or wanted at once.
function Sampler:await_due()
  local code
  if not self.is_due then -- else the node came up while the last try failed
    code = select(3, self.wake:wait(self.due_ms - self.clock.now_ms()))
  end
  if code ~= "ETIMEDOUT" then
    self.due_ms = self.clock.now_ms()
  end
end

function Sampler:loop()
  if self.due_ms then
    self:await_due()
  else
    self.due_ms = self.clock.now_ms()
    self.came_up = not self:is_out_of_reach()
  end
  while true do
    local spread = self.came_up and self.spread or NO_SPREAD
    self.is_due, self.came_up = false, false
    self:take(true, spread.delay_ms)
    local now_ms = self.clock.now_ms()
    self.due_ms = self.due_ms + self.sample_ms - spread.early_ms
    if self.due_ms <= now_ms then
      self.due_ms = now_ms + self.sample_ms -- late: do not catch up
    end
    self:await_due()
  end
end

--- A sample taken now, or the one that is just being taken.
---@async
---@return history.Sample?
---@return string? err
---@return string? code `"EDOWN"`: the node is out of reach; `"ETIMEDOUT"`, `"ECANCELED"`, or what
--- the snapshot failed with.
function Sampler:sample_now()
  return self:take(false)
end

-- Takes a sample, or joins the one under way. `is_own`: on the sampler's own cadence. `delay_ms`:
-- how long to wait first; who asks meanwhile gets that sample, too.
function Sampler:take(is_own, delay_ms)
  local flight = self.flight
  if not flight then
    flight = { landed = async.signal() }
    self.flight = flight
    flight.is_own = is_own
    -- Detached: who asked may be cancelled while others wait for the same sample.
    flight.task = async.spawn(function()
      if delay_ms and delay_ms > 0 then
        async.sleep(delay_ms)
      end
      self:land(flight, self:fly(flight))
    end, { name = "sample " .. self.meta.domain, detached = true, on_error = function(text)
      self:land(flight, self:fail(text, "ELUA"))
    end })
  end
  flight.is_own = flight.is_own or is_own
  if not flight.result then
    flight.landed:wait()
  end
  return unpack(flight.result, 1, 3)
end

function Sampler:land(flight, ...)
  if flight.result then
    return
  end
  flight.result = { ... }
  self.flight = nil
  flight.landed:fire()
end

function Sampler:emit(event, measurements, metadata)
  metadata.watcher, metadata.watchers = self.who()
  metadata.domain, metadata.node = self.meta.domain, self.meta.node
  self.telemetry:execute("beamlens.sampler." .. event, measurements, metadata)
end

function Sampler:fail(err, code)
  if code == "EDOWN" then
    self.has_gap = true
  else
    self.in_a_row = self.in_a_row + 1
    self:emit("failed", { in_a_row = self.in_a_row }, { error = err, code = code })
  end
  return nil, err, code
end

function Sampler:is_out_of_reach()
  local target = self.ctx.target
  local status = target and target:status().status
  return status ~= nil and status ~= "up" and status ~= "unresponsive"
end

function Sampler:fly(flight)
  if self:is_out_of_reach() then
    return self:fail(("EDOWN: %s is out of reach"):format(self.meta.node), "EDOWN")
  end
  local started_ms = self.clock.now_ms()
  local task = async.spawn(function()
    return self.domain:snapshot(self.ctx)
  end, { name = "snapshot " .. self.meta.domain, on_error = function() end })
  local ok, data, err, code = task:join(self.timeout_ms)
  if flight.result then
    return -- stopped meanwhile
  elseif ok == nil then
    task:cancel()
    return self:fail(("ETIMEDOUT: the snapshot took longer than %d ms"):format(self.timeout_ms),
      "ETIMEDOUT")
  elseif not ok then
    return self:fail(tostring(data), "ELUA")
  elseif type(data) ~= "table" then
    return self:fail(tostring(err or "a snapshot is a table"), code or "ESNAPSHOT")
  end
  return self:accept(flight, data, self.clock.now_ms() - started_ms)
end

function Sampler:accept(flight, data, took_ms)
  local has_mono = type(data.mono_ms) == "number"
  local sample = {
    id = ids.hex(16),
    at_ms = self.clock.wall_ms(),
    taken_ms = self.clock.now_ms(),
    mono_ms = has_mono and data.mono_ms or self.clock.now_ms(),
    host_clock = not has_mono or nil,
    after_gap = self.has_gap or nil,
    data = data,
    sweep = self.ctx.sweep and self.ctx.sweep:latest() or nil,
    took_ms = took_ms,
  }
  local ok, err, code = self.on_sample(sample)
  if not ok then
    return self:fail(err, code)
  end
  self.has_gap = nil
  self.in_a_row = 0
  if flight.is_own then
    self:emit("sample", { duration = took_ms }, { snapshot_id = sample.id, data = data })
  end
  return sample
end

return M
