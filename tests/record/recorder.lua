-- Watches nodes as the host does, and writes what it sees to a recording; see run.lua.
--
-- Each node has its own target and sweep, and a detector per domain, at the cadence that ships. The
-- rules run, so that what fires is told while it happens.

local beam = require("support.beam")
local clock = require("runtime.clock")
local judged = require("support.judged")
local proc = require("bench.proc")
local recording = require("support.recording")
local support = require("support")
local uv = require("luv")

local M = {}

local Recorder = {}
local recorder_mt = { __index = Recorder }

local function own_cpu_s()
  local usage = uv.getrusage()
  return usage.utime.sec + usage.stime.sec + (usage.utime.usec + usage.stime.usec) / 1e6
end

--- Attaches to all nodes and begins to record.
---@async
---@param opts { scenario: string, nodes: table[], path: string, figures: table[],
--- expected?: string[], seconds: number } `nodes`: name, cookie and epmd_port of each; `path`: of
--- the JSON lines; `figures`, `expected`: see run.lua.
function M.start(opts)
  local system = clock.system()
  local names = {}
  for i, node in ipairs(opts.nodes) do
    names[i] = node.name
  end
  local self = setmetatable({ clock = system, watched = {}, figures = opts.figures, values = {},
    fired = {}, events = {}, samples = 0 }, recorder_mt)
  for i, node in ipairs(opts.nodes) do
    self.watched[i] = self:watch(i, node)
  end
  self.started_ms = system.now_ms()
  self.cpu_s, self.node_cpu_s = own_cpu_s(), {}
  self.writer = recording.create(opts.path, {
    scenario = opts.scenario, nodes = names, started_at = system.wall_ms(),
    seconds = opts.seconds, otp = self:otp_release(), expected = opts.expected or {},
  })
  for _, one in ipairs(self.watched) do
    self:begin(one)
  end
  return self
end

function Recorder:otp_release()
  local release = assert(self.watched[1].target:eval(
    "list_to_binary(erlang:system_info(otp_release)).", {}, { timeout_ms = 10000 }))
  return release
end

function Recorder:at_ms()
  return math.floor(self.clock.now_ms() - self.started_ms)
end

function Recorder:watch(index, node)
  local ctx = beam.attach(node, { parts = {}, min_interval_ms = judged.SAMPLE_MS })
  local one = judged.new({ target = ctx.target, sweep = ctx.sweep, clock = self.clock,
    on_finding = function(found)
      self:on_finding(found)
    end })
  one.index = index
  return one
end

function Recorder:on_finding(found)
  table.insert(self.fired, found)
  print(("%s  %s %s: %s %s: %s"):format(os.date("!%H:%M:%S"), found.node, found.what,
    found.severity, found.type, tostring(found.summary or found.subject)))
  io.stdout:flush()
end

function Recorder:begin(one)
  one.target:subscribe(function(kind, info)
    self.events[kind] = (self.events[kind] or 0) + 1
    if self.writer then
      self.writer:event(self:at_ms(), one.index, kind, info)
    end
  end)
  for name, detector in pairs(one.detectors) do
    local on_sample = detector.sampler.on_sample
    detector.sampler.on_sample = function(sample)
      if self.writer then
        self.writer:sample(self:at_ms(), one.index, name, sample)
        self.samples = self.samples + 1
      end
      return on_sample(sample)
    end
  end
  one.reachability:start()
  one.sweep:start()
  for _, detector in pairs(one.detectors) do
    detector:start()
  end
  support.on_cleanup(function()
    one.reachability:stop()
    for _, detector in pairs(one.detectors) do
      detector:stop()
    end
  end)
end

--- Reads the figures of the scenario.
---@async
function Recorder:look()
  for _, figure in ipairs(self.figures) do
    local most = figure.read and figure.read(self) or 0
    for _, one in ipairs(figure.source and self.watched or {}) do
      local value = one.target:eval(figure.source, {}, { timeout_ms = 10000 })
      most = math.max(most, tonumber(value) or 0)
    end
    local values = self.values[figure.name] or {}
    values[#values + 1], self.values[figure.name] = most, values
  end
  for i, one in ipairs(self.watched) do
    self:look_at_cpu(i, one)
  end
end

-- What the node's OS process took since it was first looked at.
function Recorder:look_at_cpu(index, one)
  local pid = one.target:eval("list_to_binary(os:getpid()).", {}, { timeout_ms = 5000 })
  local ok, cpu_s = pcall(proc.cpu_s, tonumber(pid) or 0)
  if ok then
    local known = self.node_cpu_s[index]
    if not known or known.pid ~= pid then
      known = { pid = pid, first_s = cpu_s, at_ms = self:at_ms() }
      self.node_cpu_s[index] = known
    end
    known.last_s, known.last_ms = cpu_s, self:at_ms()
  end
end

local function percent(cpu_s, ms)
  return ("%.1f %% of a core"):format(cpu_s / math.max(1, ms) * 100000)
end

-- What a figure was: at the highest, or usually.
local function value_of(figure, values)
  table.sort(values)
  return values[figure.is_usual and math.ceil(#values / 2) or #values] or 0
end

--- Ends the recording. Returns false when something was not there that ought to have been.
---@return boolean complete
function Recorder:finish()
  local seen, complete = {}, true
  for i, figure in ipairs(self.figures) do
    local value = value_of(figure, self.values[figure.name] or {})
    seen[i] = { name = figure.name, value = value, at_least = figure.at_least }
    complete = complete and value >= figure.at_least
    print(("  %-50s %10.1f  (at least %g) %s"):format(figure.name, value, figure.at_least,
      value >= figure.at_least and "" or "MISSING"))
  end
  print(("  samples %d, host %s"):format(self.samples,
    percent(own_cpu_s() - self.cpu_s, self:at_ms())))
  for i, one in ipairs(self.watched) do
    local known = self.node_cpu_s[i]
    if known then
      print(("  %s %s"):format(one.target.node,
        percent(known.last_s - known.first_s, known.last_ms - known.at_ms)))
    end
    for _, text in ipairs(one:errors()) do
      print("  " .. text)
    end
  end
  self.writer:close({ figures = seen })
  self.writer = nil
  return complete
end

return M
