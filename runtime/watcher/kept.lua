--- What a watcher knows that outlives a restart of the host: its state with reason and age, the
--- model's note and journal, what happened since its last cycle, and whether it is paused.

local journal = require("runtime.watcher.journal")
local pauses = require("runtime.watcher.pause")
local standing = require("runtime.watcher.standing")

local M = {}

--- What is to be kept.
---@param watcher watcher.Watcher
---@return table
function M.export(watcher)
  return { state = watcher.current, note = watcher.note, paused = pauses.export(watcher.paused),
    cycles = watcher.cycles, notes = watcher.waking.notes, journal = watcher.journal:list() }
end

local function is_state(state)
  if type(state) ~= "table" or type(state.reason) ~= "string" or type(state.source) ~= "string"
    or type(state.since_ms) ~= "number" or type(state.as_of_ms) ~= "number" then
    return false
  end
  for _, name in ipairs(standing.STATES) do
    if state.name == name then
      return true
    end
  end
  return false
end

local function is_note(note)
  return note == nil or type(note) == "table" and type(note.text) == "string"
    and type(note.at_ms) == "number"
end

local function are_texts(list)
  if type(list) ~= "table" then
    return false
  end
  for _, item in ipairs(list) do
    if type(item) ~= "string" then
      return false
    end
  end
  return true
end

--- What is wrong with what was read; nil when nothing is.
---@param kept any
---@return string?
function M.mistake(kept)
  if type(kept) ~= "table" then
    return "it is no object"
  elseif not is_state(kept.state) then
    return "its state is none"
  elseif not is_note(kept.note) or not are_texts(kept.notes) then
    return "its note or notes are none"
  elseif type(kept.cycles) ~= "number" then
    return "its cycles are no number"
  elseif not pauses.is_kept(kept.paused) then
    return "its pause is none"
  elseif not journal.is_list(kept.journal) then
    return "its journal is none"
  end
end

--- Goes on where it was. To be called before the watcher starts.
---@param watcher watcher.Watcher
---@param kept table Without a mistake.
function M.restore(watcher, kept)
  watcher.current, watcher.note = kept.state, kept.note
  watcher.paused, watcher.cycles = pauses.restore(watcher, kept.paused), kept.cycles
  watcher.journal:restore(kept.journal)
  watcher.waking.notes = kept.notes
  watcher:happened("beamlens was restarted; your state, alerts and snapshots are those of before")
end

return M
