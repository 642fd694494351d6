--- The samples of one node in one domain: what rules look at.
---
--- Time here is the time of the samples (`mono_ms`: the node's own monotonic clock, and only where
--- a domain gives none the host's), so that a rate is right however late an answer came. A node
--- that restarted begins with an empty history: its last life says nothing about this one.
---
--- The newest samples are kept as they came, older ones packed (runtime/history/packed.lua): their
--- data answer `sample.data[key]`; who wants all keys of one asks `history.whole(sample.data)`.

local packed = require("runtime.history.packed")
local tracks = require("runtime.history.tracks")

local M = {}

local KEEP_S = 70 * 60
local KEEP_SWEEPS_S = 6 * 60
local MAX_SAMPLES = 5000
local MAX_SWEEPS = 200
local UNPACKED = 4
-- `uptime_s` may be rounded differently from one reading to the next.
local UPTIME_SLACK_S = 2
-- A sweep may end while a snapshot is under way, so that it is newer than the sample it goes with.
local SWEEP_AHEAD_MS = 60 * 1000

---@class history.Sample
---@field id string 16 hexadecimal digits.
---@field at_ms number Unix time at which it was taken.
---@field taken_ms? number The same by the host's monotonic clock; not of older samples.
---@field mono_ms number The node's monotonic clock, or the host's (`host_clock`).
---@field host_clock? boolean The domain's data have no `mono_ms`.
---@field after_gap? boolean The node was out of reach since the sample before.
---@field data table Of an older sample: only to be asked for single keys.
---@field sweep? table The last sweep pass when it was taken; kept for 6 min.
---@field took_ms number

---@class history.History
local History = {}
local history_mt = { __index = History }

--- An empty history.
---@param opts? { keep_s?: number, keep_sweeps_s?: number, parts?: string[] } Default: 70 min of
--- data, 6 of sweeps. `parts`: those of the sweep whose rows are tracked here, where the passes
--- bring no tracks of their own as those of runtime/sweep.lua do (default none).
---@return history.History
function M.new(opts)
  opts = opts or {}
  local self = setmetatable({
    keep_ms = (opts.keep_s or KEEP_S) * 1000,
    keep_sweeps_ms = (opts.keep_sweeps_s or KEEP_SWEEPS_S) * 1000,
    parts = opts.parts or {},
  }, history_mt)
  self:clear()
  return self
end

--- The data of a sample as a table that can be gone through.
M.whole = packed.whole

--- Forgets all samples and sweeps.
function History:clear()
  self.list = {} -- the newest samples, those after index `packed_to`
  self.blocks = {} -- those before, from index `first` on
  self.first, self.packed_to = 1, 0
  self.views = {} -- index -> a sample that was unpacked
  self.passes = {}
  self.tracks = tracks.new()
  self.sweeps_of, self.with_sweep = {}, 1 -- index -> its sweep, from `with_sweep` on
end

--- Another history of the same samples; what is added to one is not in the other.
---@return history.History
function History:fork()
  local other = setmetatable({}, history_mt)
  for name, value in pairs(self) do
    other[name] = value
  end
  for _, name in ipairs({ "list", "blocks", "passes", "sweeps_of" }) do
    other[name] = {}
    for key, value in pairs(self[name]) do
      other[name][key] = value
    end
  end
  local last = #self.blocks
  other.blocks[last] = last > 0 and self.blocks[last]:copy() or nil
  other.tracks, other.views = self.tracks:copy(), {}
  return other
end

--- Becomes as another history of the same node is, if that one reaches back further. The other one
--- is not to be used any more.
---@param other history.History
function History:take_over(other)
  local own, its = self:latest(), other:latest()
  if not its or own and (own.host_clock ~= its.host_clock
    or self:mono_at(self.first) <= other:mono_at(other.first)) then
    return
  end
  local parts = self.parts
  for name, value in pairs(other) do
    self[name] = value
  end
  self.parts = parts
end

-- The index of the newest sample.
function History:last()
  return self.packed_to + #self.list
end

function History:block_of(index)
  local blocks = self.blocks
  return blocks[math.floor((index - blocks[1].first) / packed.BLOCK) + 1]
end

function History:mono_at(index)
  local sample = self.list[index - self.packed_to]
  return sample and sample.mono_ms or self:block_of(index):mono_ms(index)
end

function History:value_at(index, key)
  local sample = self.list[index - self.packed_to]
  if sample then
    return sample.data[key]
  end
  return self:block_of(index):value(index, key)
end

function History:sample_at(index)
  local sample = self.list[index - self.packed_to] or self.views[index]
  if not sample then
    sample = self:block_of(index):view(index)
    sample.sweep = self.sweeps_of[index]
    self.views[index] = sample
  end
  return sample
end

function History:from(index)
  local part = {}
  for i = index, self:last() do
    part[#part + 1] = self:sample_at(i)
  end
  return part
end

--- Lets go of the samples that were unpacked, when nobody looks at them any more. A new sample does
--- so, too.
function History:release()
  self.views = {}
end

-- Packs the oldest sample that is not.
function History:pack()
  local index = self.packed_to + 1
  local block = self.blocks[#self.blocks]
  if not block or block.count == packed.BLOCK then
    block = packed.new(index)
    self.blocks[#self.blocks + 1] = block
  end
  block:add(table.remove(self.list, 1))
  self.packed_to = index
end

local function is_new_life(before, sample)
  if sample.mono_ms < before.mono_ms then
    return true
  end
  local was, is = before.data.uptime_s, sample.data.uptime_s
  return type(was) == "number" and type(is) == "number" and is < was - UPTIME_SLACK_S
end

--- Adds the newest sample. A restart of the node (its clock went back, or its uptime fell) clears
--- what was there before.
---@param sample history.Sample
---@return boolean? added
---@return boolean|string restarted True when the sample begins a new life; or what is wrong.
---@return string? code `"ECLOCK"`: this sample counts by another clock than the others do.
function History:add(sample)
  local before = self:latest()
  local restarted = false
  if before then
    if before.host_clock and not sample.host_clock then
      self:clear()
    elseif sample.host_clock and not before.host_clock then
      return nil, "ECLOCK: the snapshot has no mono_ms although earlier ones had", "ECLOCK"
    elseif is_new_life(before, sample) then
      self:clear()
      restarted = true
    end
  end
  self:release()
  self.list[#self.list + 1] = sample
  self:add_pass(sample)
  self.sweeps_of[self:last()] = sample.sweep
  self:forget_old(sample.mono_ms)
  if #self.list > UNPACKED then
    self:pack()
  end
  return true, restarted
end

function History:add_pass(sample)
  local pass, passes = sample.sweep, self.passes
  if not pass or pass == passes[#passes] then
    return
  end
  if not sample.host_clock and pass.mono_ms > sample.mono_ms + SWEEP_AHEAD_MS then
    sample.sweep = nil -- of the node's last life
    return
  end
  if passes[1] and pass.mono_ms <= passes[#passes].mono_ms then
    passes = {}
    self.passes, self.tracks = passes, tracks.new()
  end
  passes[#passes + 1] = pass
  while #passes > MAX_SWEEPS or pass.mono_ms - passes[1].mono_ms > self.keep_sweeps_ms do
    table.remove(passes, 1)
  end
  for _, part in ipairs(pass.tracks and {} or self.parts) do
    if pass[part] then
      self.tracks:add(part, pass[part])
    end
  end
end

function History:forget_old(now_ms)
  local last = self:last()
  while now_ms - self:mono_at(self.first) > self.keep_ms or last - self.first >= MAX_SAMPLES do
    self.first = self.first + 1
  end
  while self.first > self.packed_to + 1 do
    table.remove(self.list, 1) -- a long gap: gone before it was packed
    self.blocks, self.packed_to = {}, self.packed_to + 1
  end
  while self.blocks[1] and self.blocks[1].first + packed.BLOCK <= self.first do
    table.remove(self.blocks, 1)
  end
  local i = self.with_sweep
  while i < last and (i < self.first or now_ms - self:mono_at(i) > self.keep_sweeps_ms) do
    self.sweeps_of[i] = nil
    local sample = self.list[i - self.packed_to]
    if sample then
      sample.sweep = nil
    end
    i = i + 1
  end
  self.with_sweep = i
end

--- The newest sample, or nil.
---@return history.Sample?
function History:latest()
  return self.list[#self.list]
end

--- How many samples are kept.
---@return integer
function History:count()
  return self:last() - self.first + 1
end

--- The newest samples, oldest first.
---@param count integer At most so many.
---@return history.Sample[]
function History:newest(count)
  return self:from(math.max(self.first, self:last() - count + 1))
end

--- All samples, oldest first.
---@return history.Sample[]
function History:samples()
  return self:from(self.first)
end

-- The index of the oldest sample at or after `mono_ms`.
function History:index_at(mono_ms)
  local low, high = self.first, self:last()
  while low < high do
    local middle = math.floor((low + high) / 2)
    if self:mono_at(middle) < mono_ms then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

--- The samples of the last `seconds` before the latest one, itself included; oldest first.
---@param seconds number
---@return history.Sample[]
function History:since(seconds)
  local latest = self:latest()
  if not latest then
    return {}
  end
  return self:from(self:index_at(latest.mono_ms - seconds * 1000))
end

--- Whether the history reaches back by at least `seconds`.
---@param seconds number
---@return boolean
function History:covers(seconds)
  local latest = self:latest()
  return latest ~= nil and latest.mono_ms - self:mono_at(self.first) >= seconds * 1000
end

--- How fast a metric changes: from the first to the last number in the window. nil while the
--- numbers there span less than half of the window, so that two samples are no trend.
---@param key string
---@param window_s number
---@return number? per_s
function History:rate(key, window_s)
  local latest = self:latest()
  if not latest then
    return nil
  end
  local first, last = self:index_at(latest.mono_ms - window_s * 1000), self:last()
  while first < last and type(self:value_at(first, key)) ~= "number" do
    first = first + 1
  end
  while last > first and type(self:value_at(last, key)) ~= "number" do
    last = last - 1
  end
  local span_ms = self:mono_at(last) - self:mono_at(first)
  if span_ms <= 0 or span_ms < window_s * 500 then
    return nil
  end
  return (self:value_at(last, key) - self:value_at(first, key)) / (span_ms / 1000)
end

--- A metric's value `seconds` before the latest sample: that of the sample nearest to that time, or
--- nil when none is near it (by a quarter of `seconds`).
---@param key string
---@param seconds number
---@return any
function History:value_ago(key, seconds)
  local latest = self:latest()
  if not latest then
    return nil
  end
  local wanted = latest.mono_ms - seconds * 1000
  local i = self:index_at(wanted)
  if i > self.first and wanted - self:mono_at(i - 1) < self:mono_at(i) - wanted then
    i = i - 1
  end
  if math.abs(self:mono_at(i) - wanted) > seconds * 250 then
    return nil
  end
  return self:value_at(i, key)
end

--- The sweep passes of the last `seconds` before the newest one, oldest first.
---@param seconds? number Default: all that are kept (6 min).
---@return table[]
function History:sweeps(seconds)
  local found = {}
  local newest = self.passes[#self.passes]
  for _, pass in ipairs(self.passes) do
    if newest.mono_ms - pass.mono_ms <= (seconds or math.huge) * 1000 then
      found[#found + 1] = pass
    end
  end
  return found
end

--- How a tracked field of one row of the sweep went, oldest first: a point in 30 s, for 40 min. The
--- newest pass is always the last; the first is the one at or before the window's beginning.
---@param part string
---@param id string
---@param field string One of the part's `tracked`.
---@param seconds? number Default: all.
---@return { mono_ms: number, value: number }[] Empty for a row that is not followed any more.
function History:track(part, id, field, seconds)
  local newest = self.passes[#self.passes]
  local from_ms = newest and newest.mono_ms - (seconds or math.huge) * 1000 or 0
  local all = newest and newest.tracks or self.tracks
  return all:points(part, id, field, from_ms, newest and newest[part])
end

--- What the kept sweep passes saw of one process, oldest first. A pass that does not have it is
--- left out.
---@param pid string As sweeps print it.
---@return { mono_ms: number, row: table }[]
function History:process(pid)
  local found = {}
  for _, pass in ipairs(self.passes) do
    local row = pass.processes and pass.processes.rows[pid]
    if row then
      found[#found + 1] = { mono_ms = pass.mono_ms, row = row }
    end
  end
  return found
end

return M
