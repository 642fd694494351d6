--- How the rows of the sweep went, for long: a point in 30 s of each tracked field, for 40 min.
---
--- A row that no pass saw for five minutes is forgotten: it leads nowhere any more.

local M = {}

local KEEP_MS = 40 * 60 * 1000
local STEP_MS = 30 * 1000
local LOST_MS = 5 * 60 * 1000

---@class tracks.Tracks
local Tracks = {}
local tracks_mt = { __index = Tracks }

--- No tracks yet.
---@return tracks.Tracks
function M.new()
  return setmetatable({ parts = {} }, tracks_mt) -- part -> row id -> { mono_ms = {…}, FIELD = {…} }
end

local function slice(list, first)
  local part = {}
  for i = first, #list do
    part[#part + 1] = list[i]
  end
  return part
end

-- Forgets the points of a track that are too old.
local function shorten(track, fields, oldest_ms)
  local gone = 0
  while track.mono_ms[gone + 1] and track.mono_ms[gone + 1] < oldest_ms do
    gone = gone + 1
  end
  if gone < #track.mono_ms / 4 then
    return -- not worth moving the others
  end
  track.mono_ms = slice(track.mono_ms, gone + 1)
  for _, field in ipairs(fields) do
    track[field] = slice(track[field], gone + 1)
  end
end

local function new_track(fields)
  local track = { mono_ms = {} }
  for _, field in ipairs(fields) do
    track[field] = {}
  end
  return track
end

--- Adds what a pass found.
---@param part string
---@param result sweep.Result
function Tracks:add(part, result)
  local tracks = self.parts[part] or {}
  self.parts[part] = tracks
  local now_ms, fields = result.mono_ms, result.tracked or {}
  for id, row in pairs(result.rows) do
    local track = tracks[id] or new_track(fields)
    tracks[id] = track
    local count = #track.mono_ms
    if count == 0 or now_ms - track.mono_ms[count] >= STEP_MS then
      track.mono_ms[count + 1] = now_ms
      for _, field in ipairs(fields) do
        track[field][count + 1] = row[field] or false
      end
      shorten(track, fields, now_ms - KEEP_MS)
    end
  end
  for id, track in pairs(tracks) do
    if now_ms - track.mono_ms[#track.mono_ms] > LOST_MS then
      tracks[id] = nil
    end
  end
end

--- The points of one field of a row, oldest first, from the one at or before `from_ms` on, and the
--- newest pass as the last.
---@param part string
---@param id string
---@param field string
---@param from_ms number
---@param newest? sweep.Result
---@return { mono_ms: number, value: number }[]
function Tracks:points(part, id, field, from_ms, newest)
  local track = self.parts[part] and self.parts[part][id]
  local points = {}
  if not track or not track[field] then
    return points
  end
  for i, mono_ms in ipairs(track.mono_ms) do
    local next_ms = track.mono_ms[i + 1]
    if track[field][i] and (mono_ms >= from_ms or (next_ms and next_ms > from_ms)) then
      points[#points + 1] = { mono_ms = mono_ms, value = track[field][i] }
    end
  end
  local row = newest and newest.rows[id]
  if row and row[field] and points[1] and points[#points].mono_ms < newest.mono_ms then
    points[#points + 1] = { mono_ms = newest.mono_ms, value = row[field] }
  end
  return points
end

return M
