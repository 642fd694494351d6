--- What a replay answers of itself, without a door that was opened: what the disk said, what the
--- environment had, and what was cut. Methods of the player (runtime/session/player.lua).
---
--- Entries of these have the number of the last door, so that a replay which asks less, or more, of
--- them than its recording can go on.

local M = {}

-- The kinds of these entries.
M.KINDS = { file = true, env = true, overrun = true, time = true }
-- Stands for a text that is in no recording.
M.WITHHELD = "withheld"
-- Of the time that something may run, before a replay ends that was not cut when it was recorded.
local MUCH_LONGER = 50

-- The next entry, when it is of this kind and no door has been opened since it came.
local function next_of(self, kind)
  local entry = self:peek()
  if entry and entry.sync and entry.kind == kind and entry.n == self.numbers then
    return entry
  end
end

local function take(self, kind, labels)
  local entry = next_of(self, kind)
  if entry and table.concat(entry.of or {}, "\n") == table.concat(labels, "\n") then
    self.ahead = nil
    return entry
  end
end

local function pack(...)
  return { n = select("#", ...), ... }
end

function M:disk(kind, path, ask)
  if not self.has_compared then
    self.files_known:set(kind, path, pack(ask(path)))
  else
    self:check_cut()
    local entry = take(self, "file", self.files_known:ask(kind, path))
    if entry then
      self.files_known:set(kind, path, pack(self:values_of(entry)))
    end
  end
  local answer = self.files_known:get(kind, path)
  if not answer then
    self:diverge_from_next(("asks for the file %s (%s)"):format(path, kind))
    return nil, path .. ": not in the recording"
  end
  return unpack(answer, 1, answer.n)
end

function M:env(name)
  local value = self.header.env[name]
  if value == nil then
    value = self.later_env[name]
  end
  if value == nil and self.has_compared then
    local entry = take(self, "env", { name })
    value = entry and self:values_of(entry)
    self.later_env[name] = value
  end
  if value == nil then
    return os.getenv(name)
  elseif value == true then
    return os.getenv(name) or M.WITHHELD
  end
  return value or nil
end

function M:unix_s()
  local told = self.time_told
  if not told or told.wall ~= self.wall then
    told = { wall = self.wall, value = math.floor(self.wall / 1000), asked = 0 }
    self.time_told = told
  end
  if self.has_compared then
    told.asked = told.asked + 1
    local entry = take(self, "time", { tostring(told.asked) })
    if entry then
      told.value, told.asked = self:values_of(entry), 0
    end
  end
  return told.value
end

function M:cut()
  local entry = take(self, "overrun", {})
  return entry and self:values_of(entry) or nil
end

function M:is_to_cut(spent_ms, limit_ms)
  if spent_ms <= limit_ms then
    return false
  elseif self.status or next_of(self, "overrun") then
    return true
  elseif spent_ms > limit_ms * MUCH_LONGER then
    self:diverge_from_next(("runs for more than %.0f ms"):format(spent_ms))
    return true
  end
  return false
end

-- What was cut here when it was recorded goes no further.
function M:check_cut()
  if next_of(self, "overrun") then
    error("cut when it was recorded", 0)
  end
end

--- Adds the methods.
---@param methods table
function M.add(methods)
  for _, name in ipairs({ "disk", "env", "unix_s", "cut", "is_to_cut", "check_cut" }) do
    methods[name] = M[name]
  end
end

return M
