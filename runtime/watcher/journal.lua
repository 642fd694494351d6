--- What a watcher's model decided lately, and why: its memory from cycle to cycle, beside its note.
---
---   journal:add({ at_ms = clock.wall_ms(), tool = "set_state", args = { state = "warning",
---     reason = "the mailbox grows" } })
---   journal:lines(6)     -- { "20:49 set_state warning: the mailbox grows" }

local conversation = require("runtime.watcher.conversation")
local units = require("runtime.units")

local M = {}

local KEPT = 50
local MAX_WORDS = 200

-- What a decision was about, in few words.
local WHAT = {
  set_state = function(args)
    return args.state
  end,
  fire_alert = function(args)
    return ("%s %s %s"):format(args.severity, args.type, args.subject or "")
  end,
  wait = function(args)
    return units.format_duration(args.ms)
  end,
  get_snapshot = function(args)
    return args.id
  end,
}

---@class journal.Entry
---@field at_ms number Unix milliseconds.
---@field tool string
---@field what? string
---@field reason? string

---@class journal.Journal
local Journal = {}
local journal_mt = { __index = Journal }

local function is_text_or_nil(value)
  return value == nil or type(value) == "string"
end

--- Creates an empty journal.
---@return journal.Journal
function M.new()
  return setmetatable({ entries = {} }, journal_mt)
end

--- Notes a decision.
---@param decision { at_ms: number, tool: string, args: table } `args` as checked.
function Journal:add(decision)
  local args, what = decision.args, WHAT[decision.tool]
  self.entries[#self.entries + 1] = { at_ms = decision.at_ms, tool = decision.tool,
    what = what and what(args), reason = args.reason }
  if #self.entries > KEPT then
    table.remove(self.entries, 1)
  end
end

--- The entries, oldest first, at most 50.
---@return journal.Entry[]
function Journal:list()
  return self.entries
end

--- True for what `list` gives.
---@param kept any
---@return boolean
function M.is_list(kept)
  if type(kept) ~= "table" then
    return false
  end
  for _, entry in ipairs(kept) do
    if type(entry) ~= "table" or type(entry.at_ms) ~= "number" or type(entry.tool) ~= "string"
      or not is_text_or_nil(entry.what) or not is_text_or_nil(entry.reason) then
      return false
    end
  end
  return true
end

--- Goes on after these entries.
---@param entries journal.Entry[]
function Journal:restore(entries)
  self.entries = entries
end

--- The last entries as lines, oldest first; times are UTC.
---@param count integer
---@return string[]
function Journal:lines(count)
  local lines = {}
  for i = math.max(1, #self.entries - count + 1), #self.entries do
    local entry = self.entries[i]
    local line = units.format_clock(entry.at_ms):sub(1, 5) .. " " .. entry.tool
    line = entry.what and line .. " " .. entry.what or line
    line = entry.reason and ("%s: %s"):format(line, entry.reason) or line
    lines[#lines + 1] = conversation.cut(line, MAX_WORDS)
  end
  return lines
end

return M
