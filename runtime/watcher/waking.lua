--- What wakes a watcher: findings, its node, its operator; and what it has to be told of.
---
--- Something that comes while nobody sleeps ends the next sleep at once, unless the model saw it
--- in between. The watcher goes on in a turn of the loop of its own, never inside the caller.

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
---@param opts { clock: clock.Clock, await: async fun(ms: number?, start: function): ...,
--- after: (fun(ms: number, fn: fun()): { close: fun(self: table) }), turns: turns.Turns }
---@return waking.Waking
function M.new(opts)
  return setmetatable({ clock = opts.clock, await = opts.await, after = opts.after,
    turns = opts.turns, notes = {} }, waking_mt)
end

-- How much of `ms` is left, which a new limit, or a look that is due, may shorten meanwhile. nil:
-- it has no end.
local function left_of(self, ms, began_ms)
  local whole_ms = ms and math.min(ms, self.limit_ms or ms)
  if self.due then
    whole_ms = math.min(whole_ms or math.huge, self.due.at_ms - began_ms)
  end
  return whole_ms and math.max(0, whole_ms - (self.clock.now_ms() - began_ms))
end

-- What a time that is over was for: nil, or the text of a look that was due.
local function due_text(self)
  return self.due and self.clock.now_ms() >= self.due.at_ms and self.due.text or nil
end

local function sleep_out(self, ms)
  local began_ms = self.clock.now_ms()
  self.limit_ms = nil
  while true do
    local reason = self.await(left_of(self, ms, began_ms), function(done)
      self.waker = done
      return function()
        self.waker = nil
      end
    end)
    self.waker = nil
    if reason ~= LIMITED then
      return reason or due_text(self)
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
    self:rested(reason)
  end
  self.pending, self.due = nil, nil
  return reason
end

-- Has the rest end when its time is over, as it is now.
local function set_timer(self)
  local rest = self.rest_is
  if rest.timer then
    rest.timer:close()
  end
  rest.timer = self.after(left_of(self, rest.ms, rest.began_ms), function()
    self:end_rest(due_text(self))
  end)
end

--- Rests: sleeps without a task, which would keep a stack meanwhile.
---@param ms number
---@param go_on fun(woken_by?: string) Called once, from whoever ends the rest; nil when the time is
--- over. Whoever goes on calls `rested` first.
---@return boolean rests False when something woke it before it began: `go_on` is not called.
function Waking:rest(ms, go_on)
  if self.pending then
    return false
  end
  self.limit_ms = nil
  self.rest_is = { ms = ms, began_ms = self.clock.now_ms(), go_on = go_on }
  set_timer(self)
  return true
end

--- Ends the rest, if there is one.
---@param reason? string nil: the time is over.
---@param is_given_up? boolean Nobody goes on.
function Waking:end_rest(reason, is_given_up)
  local rest = self.rest_is
  if rest then
    self.rest_is = nil
    rest.timer:close()
    if not is_given_up then
      rest.go_on(reason)
    end
  end
end

--- Goes on after a rest.
---@async
---@param woken_by? string
function Waking:rested(woken_by)
  if woken_by then
    -- Leave the stack of whoever woke us, and perhaps many others.
    self.turns:wait()
  end
  self.pending, self.due = nil, nil
end

-- Has the sleep or the rest that runs take what may have shortened it.
local function shorten(self)
  if self.waker then
    self.waker(LIMITED)
  elseif self.rest_is then
    set_timer(self)
  end
end

--- Shortens the running sleep: it lasts no longer than this in all.
---@param ms number
function Waking:limit(ms)
  if self.waker or self.rest_is then
    self.limit_ms = ms
    shorten(self)
  end
end

--- Ends the running sleep, or the next one.
---@param reason string
function Waking:wake(reason)
  self.pending = self.pending or reason
  if self.waker then
    self.waker(reason)
  else
    self:end_rest(reason)
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
  self.woken = self.woken or {}
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
    shorten(self)
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
