--- How the rows of the sweep went, for long: a point in 30 s of each tracked field, for 40 min.
---
--- All rows of a part have their points at the same times, and a field is one value while it does
--- not change: of the rows that lead on a node most are idle. A row that no pass saw for five
--- minutes is forgotten: it leads nowhere any more.

local M = {}

local KEEP_MS = 40 * 60 * 1000
local STEP_MS = 30 * 1000
local LOST_MS = 5 * 60 * 1000
-- So many points may be too old before all are moved.
local SLACK = 20

---@class tracks.Tracks
local Tracks = {}
local tracks_mt = { __index = Tracks }

--- No tracks yet.
---@return tracks.Tracks
function M.new()
  -- part -> { times = {…}, rows = id -> { from =, to =, FIELD = value or {…} } }: `from` and `to`
  -- are the indices of its first and last time, a list has a value for each from `from` on.
  return setmetatable({ parts = {} }, tracks_mt)
end

local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local copied = {}
  for key, item in pairs(value) do
    copied[key] = copy(item)
  end
  return copied
end

--- Other tracks with the same points.
---@return tracks.Tracks
function Tracks:copy()
  return setmetatable({ parts = copy(self.parts) }, tracks_mt)
end

local function value_at(track, field, index)
  local value = track[field]
  if type(value) ~= "table" then
    return value
  end
  return value[index - track.from + 1]
end

-- Adds a point for all times after the last one: false for those at which the row was not there.
local function put(track, field, index, value)
  local values = track[field]
  local is_gap = index > track.to + 1
  if type(values) ~= "table" then
    if values == value and not is_gap then
      return
    end
    local list = {}
    for i = 1, track.to - track.from + 1 do
      list[i] = values
    end
    values, track[field] = list, list
  end
  for i = track.to + 1, index - 1 do
    values[i - track.from + 1] = false
  end
  values[index - track.from + 1] = value
end

-- Forgets the first `gone` times.
local function shift(part, gone)
  local times = {}
  for i = gone + 1, #part.times do
    times[#times + 1] = part.times[i]
  end
  part.times = times
  for id, track in pairs(part.rows) do
    local cut = math.max(0, gone + 1 - track.from)
    for field, values in pairs(track) do
      if type(values) == "table" then
        local left, is_same = {}, true
        for i = cut + 1, #values do
          left[#left + 1] = values[i]
          is_same = is_same and values[i] == left[1]
        end
        track[field] = is_same and left[1] or left
      end
    end
    track.from, track.to = math.max(1, track.from - gone), track.to - gone
    if track.to < 1 then
      part.rows[id] = nil
    end
  end
end

local function forget_old(part, now_ms)
  local gone = 0
  while part.times[gone + 1] < now_ms - KEEP_MS do
    gone = gone + 1
  end
  if gone >= SLACK then
    shift(part, gone)
  end
  for id, track in pairs(part.rows) do
    if now_ms - part.times[track.to] > LOST_MS then
      part.rows[id] = nil
    end
  end
end

--- Adds what a pass found. One that is older than the last begins anew.
---@param name string The part.
---@param result sweep.Result
function Tracks:add(name, result)
  local part, now_ms = self.parts[name], result.mono_ms
  local last_ms = part and part.times[#part.times]
  if not part or now_ms < last_ms then
    part = { times = {}, rows = {} }
    self.parts[name] = part
  elseif now_ms - last_ms < STEP_MS then
    return
  end
  local fields, index = result.tracked or {}, #part.times + 1
  part.times[index] = now_ms
  for id, row in pairs(result.rows) do
    local track = part.rows[id]
    if not track then
      track = { from = index, to = index }
      part.rows[id] = track
      for _, field in ipairs(fields) do
        track[field] = row[field] or false
      end
    end
    for _, field in ipairs(fields) do
      put(track, field, index, row[field] or false)
    end
    track.to = index
  end
  forget_old(part, now_ms)
end

--- The points of one field of a row, oldest first, from the one at or before `from_ms` on, and the
--- newest pass as the last.
---@param name string The part.
---@param id string
---@param field string
---@param from_ms number
---@param newest? sweep.Result
---@return { mono_ms: number, value: number }[]
function Tracks:points(name, id, field, from_ms, newest)
  local part, points = self.parts[name], {}
  local track = part and part.rows[id]
  if not track or track[field] == nil then
    return points
  end
  for i = track.from, track.to do
    local mono_ms, next_ms = part.times[i], i < track.to and part.times[i + 1]
    local value = value_at(track, field, i)
    if value and (mono_ms >= from_ms or (next_ms and next_ms > from_ms)) then
      points[#points + 1] = { mono_ms = mono_ms, value = value }
    end
  end
  local row = newest and newest.rows[id]
  if row and row[field] and points[1] and points[#points].mono_ms < newest.mono_ms then
    points[#points + 1] = { mono_ms = newest.mono_ms, value = row[field] }
  end
  return points
end

return M
