-- A node that a recording plays, around the clock: what stands where its connection and its sweep
-- would be, and the domains over what they saw.
--
--   local node = played.new({ path = "tests/recordings/pg.xz" })
--   node.name, node.folder                         -- with domains/*.lua that read from it
--   node:restart()
--   node.change = function(data) data.atom_count = 1e6 end
--
-- At its end the recording begins anew; the node's own clock goes on.

local async = require("runtime.async")
local detection = require("support.detection")
local recording = require("support.recording")
local support = require("support")
local uv = require("luv")

local M = {}

local UPTIME_S = 86400 -- of a node that has been there before us
local DOWN_MS = 20000

local DOMAIN = [[
local domain = assert(loadfile("domains/%s.lua"))()
domain.snapshot = function(target)
  return require("support.played").read(target.node, "%s")
end
return domain
]]

local by_name = {} -- the nodes that are played now
local tapes = setmetatable({}, { __mode = "v" })

local Node = {}
local node_mt = { __index = Node }

local function copy(from)
  local to = {}
  for key, value in pairs(from) do
    to[key] = value
  end
  return to
end

-- The last of a list whose time has come.
local function last_at(list, at_ms)
  local low, high = 1, #list
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if list[middle].at_ms <= at_ms then
      low = middle
    else
      high = middle - 1
    end
  end
  return list[low]
end

-- Reads all that a recording has of one of its nodes; once, as long as anybody uses it.
local function read_recording(path, index)
  local key = ("%s %d"):format(path, index)
  local tape = tapes[key]
  if tape then
    return tape
  end
  tape = { samples = {}, passes = {} }
  for entry in recording.lines(path) do
    if entry.k == "head" then
      tape.length_ms, tape.name = entry.v.seconds * 1000, entry.v.nodes[index]
    elseif entry.n == index and entry.k == "sample" and entry.t < tape.length_ms then
      tape.samples[entry.d] = tape.samples[entry.d] or {}
      table.insert(tape.samples[entry.d], { at_ms = entry.t, sample = entry.v })
    elseif entry.n == index and entry.k == "pass" and entry.t < tape.length_ms then
      table.insert(tape.passes, { at_ms = entry.t, pass = entry.v })
    end
  end
  tapes[key] = tape
  return tape
end

-- Where in the recording we are, and how much later it is there than in the recording.
function Node:position()
  local passed_ms = async.now_ms() - self.born_ms
  local at_ms = passed_ms % self.length_ms
  return at_ms, passed_ms - at_ms
end

--- A domain's metrics now.
---@param name string The node's.
---@param domain string
---@return table
function M.read(name, domain)
  local self = by_name[name]
  local passed_ms = async.now_ms() - self.born_ms
  local data = copy(last_at(self.samples[domain], (self:position())).sample.data)
  data.mono_ms = self.mono_ms + passed_ms
  if data.uptime_s then
    data.uptime_s = self.uptime_s + math.floor(passed_ms / 1000)
  end
  if self.change then
    self.change(data)
  end
  return data
end

-- A pass as it would be now: the same table while it is the same pass.
function Node:latest_pass()
  local at_ms, later_ms = self:position()
  local played = last_at(self.passes, at_ms)
  if not played or played.at_ms > at_ms then
    return nil
  elseif self.shown_of ~= played or self.shown_later_ms ~= later_ms then
    local pass = copy(played.pass)
    local shift_ms = self.mono_ms - self.first_mono_ms + later_ms
    pass.swept_at = played.at_ms + later_ms + self.born_wall_ms
    pass.mono_ms = pass.mono_ms + shift_ms
    for key, part in pairs(pass) do
      if type(part) == "table" and part.mono_ms then
        pass[key] = copy(part)
        pass[key].mono_ms = part.mono_ms + shift_ms
      end
    end
    self.shown, self.shown_of, self.shown_later_ms = pass, played, later_ms
  end
  return self.shown
end

function Node:be_born(clock, uptime_s)
  self.born_ms, self.born_wall_ms = clock.now_ms(), clock.wall_ms()
  self.uptime_s = uptime_s
  self.shown_of = nil
end

--- It is never waited for, so that it needs no clock of its own.
function Node.live_by() end

-- As runtime/target.lua shows a connection.
function Node:new_target(opts)
  local target = detection.target("connecting")
  target.node = self.name
  function target.start()
    self:be_born(opts.clock, UPTIME_S)
    target:emit("up", {})
  end
  function target.stop() end
  function target.retry_now() end
  function target.eval()
    return nil, "EPLAYED: a recording answers no question", "EPLAYED"
  end
  target.call = target.eval
  self.target, self.clock = target, opts.clock
  return target
end

-- As runtime/sweep.lua shows its passes.
function Node:new_sweep(opts)
  local function nothing() end
  return { need = nothing, start = nothing, stop = nothing, hasten = nothing,
    min_interval_ms = opts.min_interval_ms,
    latest = function()
      return self:latest_pass()
    end,
    part = function(_, name)
      local pass = self:latest_pass()
      if not pass or not pass[name] then
        return nil, "ENOSWEEP: nothing was swept", "ENOSWEEP"
      end
      return pass[name], nil, nil, pass
    end }
end

--- The node goes down, and comes up as another incarnation.
---@async
function Node:restart()
  self.target:emit("down", { err = "ECLOSED: closed", code = "ECLOSED" })
  async.sleep(DOWN_MS)
  self.mono_ms = self.first_mono_ms
  self:be_born(self.clock, 0)
  self.target:emit("restarted", {})
  self.target:emit("up", {})
end

-- A folder with the domains that were recorded, for a watcher's file in its `watchers`.
local function write_domains(self)
  self.folder = support.tmp_path(("played-%d"):format(uv.hrtime()))
  for _, name in ipairs({ "", "/domains", "/watchers" }) do
    assert(uv.fs_mkdir(self.folder .. name, 493))
  end
  for name in pairs(self.samples) do
    support.write_file(("%s/domains/%s.lua"):format(self.folder, name), DOMAIN:format(name, name))
  end
  support.on_cleanup(function()
    for name in pairs(self.samples) do
      os.remove(("%s/domains/%s.lua"):format(self.folder, name))
    end
    for _, name in ipairs({ "/domains", "/watchers", "" }) do
      uv.fs_rmdir(self.folder .. name)
    end
  end)
end

--- Plays a recording until the case ends.
---@param opts { path: string, node?: integer } `node`: which of its nodes. Default: the first.
function M.new(opts)
  local tape = read_recording(opts.path, opts.node or 1)
  local self = setmetatable({ tape = tape, name = tape.name, samples = tape.samples,
    passes = tape.passes, length_ms = tape.length_ms }, node_mt)
  local _, some = next(self.samples)
  self.first_mono_ms = some[1].sample.mono_ms
  self.mono_ms = self.first_mono_ms
  by_name[self.name] = self
  write_domains(self)
  support.on_cleanup(function()
    by_name[self.name] = nil
  end)
  return self
end

return M
