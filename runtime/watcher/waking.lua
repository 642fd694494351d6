--- What wakes a watcher: findings, its node, its operator; and what it has to be told of.
---
--- Something that comes while nobody sleeps ends the next sleep at once, unless the model saw it
--- in between. The watcher goes on in a turn of the loop of its own, never inside the caller.

local async = require("runtime.async")
local units = require("runtime.units")

local M = {}

local MAX_NOTES = 20
-- A finding that begins and ends again and again wakes at most this often.
local CALM_MS = 300000
local VERB = { pending = "began", firing = "is firing", worsened = "worsened", cleared = "cleared" }
local NODE = {
  up = "the connection to the node stands", down = "the connection to the node was lost",
  unresponsive = "the node stopped answering", responsive = "the node answers again",
  restarted = "the node restarted", refused = "the node refused the connection",
}
-- Ends the pause of a sleep that goes on under a shorter limit.
local LIMITED = {}
local WAKES = { up = true, responsive = true, restarted = true }

---@class waking.Waking
local Waking = {}
local waking_mt = { __index = Waking }

--- Nothing has happened yet.
---@param opts { clock: clock.Clock, await: async fun(ms: number?, start: function): ... }
---@return waking.Waking
function M.new(opts)
  return setmetatable({ clock = opts.clock, await = opts.await, notes = {}, woken = {} },
    waking_mt)
end

-- Sleeps for what is left of `ms`, which a new limit, or a look that is due, may shorten meanwhile.
local function sleep_out(self, ms)
  local started_ms = self.clock.now_ms()
  self.limit_ms = nil
  while true do
    local slept_ms = self.clock.now_ms() - started_ms
    local whole_ms = ms and math.min(ms, self.limit_ms or ms)
    if self.due then
      whole_ms = math.min(whole_ms or math.huge, self.due.at_ms - started_ms)
    end
    local reason = self.await(whole_ms and math.max(0, whole_ms - slept_ms), function(done)
      self.waker = done
      return function()
        self.waker = nil
      end
    end)
    self.waker = nil
    if reason ~= LIMITED then
      local is_due = self.due and self.clock.now_ms() >= self.due.at_ms
      return reason or is_due and self.due.text or nil
    end
  end
end

--- Sleeps.
---@async
---@param ms? number nil: until something wakes.
---@return string? woken_by nil when the time is over.
function Waking:sleep(ms)
  local reason = self.pending
  if not reason then
    reason = sleep_out(self, ms)
    if reason then
      -- Leave the stack of whoever woke us.
      async.sleep(0)
    end
  end
  self.pending, self.due = nil, nil
  return reason
end

--- Shortens the running sleep: it lasts no longer than this in all.
---@param ms number
function Waking:limit(ms)
  if self.waker then
    self.limit_ms = ms
    self.waker(LIMITED)
  end
end

--- Ends the running sleep, or the next one.
---@param reason string
function Waking:wake(reason)
  self.pending = self.pending or reason
  if self.waker then
    self.waker(reason)
  end
end

--- True when a finding woke the watcher, or would have, since this was last asked.
---@return boolean
function Waking:take_finding()
  local has_finding = self.has_finding == true
  self.has_finding = nil
  return has_finding
end

--- Says that the model has seen how things are now.
function Waking:seen()
  self.pending, self.due = nil, nil
end

--- Notes something for the next opening message.
---@param text string
function Waking:note(text)
  self.notes[#self.notes + 1] = units.format_time(self.clock.wall_ms()) .. " " .. text
  if #self.notes > MAX_NOTES then
    table.remove(self.notes, 1)
  end
end

--- Takes the notes; they are told once.
---@return string[]
function Waking:take_notes()
  local notes = self.notes
  self.notes = {}
  return notes
end

-- A finding that flaps does not wake for each turn; one that fires or worsens always does. Returns
-- until when it does not, or nil.
local function calm_until(self, finding, what)
  if what == "firing" or what == "worsened" then
    return nil
  end
  local key = ("%s\0%s\0%s"):format(finding.type, tostring(finding.subject), what)
  local now_ms = self.clock.now_ms()
  for other, at_ms in pairs(self.woken) do
    if now_ms - at_ms >= CALM_MS then
      self.woken[other] = nil
    end
  end
  if self.woken[key] then
    return self.woken[key] + CALM_MS
  end
  self.woken[key] = now_ms
  return nil
end

-- Has the running sleep, or the next one, end at a time unless something wakes before.
local function look_at(self, at_ms, text)
  if not self.due or at_ms < self.due.at_ms then
    self.due = { at_ms = at_ms, text = text }
  end
  if self.waker then
    self.waker(LIMITED)
  end
end

--- Takes what a detector tells.
---@param finding table
---@param what "pending"|"firing"|"worsened"|"cleared"
function Waking:finding(finding, what)
  local text = ("finding %s of %s %s"):format(finding.type, tostring(finding.subject),
    VERB[what] or what)
  self:note(text)
  local until_ms = calm_until(self, finding, what)
  if not until_ms then
    self.has_finding = true
    self:wake(text)
  elseif what == "cleared" then -- the state that it had brought must not stay for long
    look_at(self, until_ms, text)
  end
end

--- Takes what a target tells.
---@param kind string
function Waking:node(kind)
  local text = NODE[kind] or ("node: " .. kind)
  self:note(text)
  if WAKES[kind] then
    self:wake(text)
  end
end

return M
