--- Replays a session: gives what was recorded to whoever asks for it, in the order in which it
--- came.
---
--- Nothing outside is asked. Where the run asks for something else than what was recorded, or ends
--- at another place, it has diverged, and the replay ends.

local answers = require("runtime.session.answers")
local chance = require("runtime.session.chance")
local comparison = require("runtime.session.comparison")
local crypto = require("host.crypto")
local session_files = require("runtime.session.files")
local session_reader = require("runtime.session.reader")
local stand_in = require("runtime.session.stand_in")
local uv = require("luv")
local values = require("runtime.session.values")

local M = {}

local MAX_SHOWN = 3
-- A reader of stdout that is slower than the replay is waited for.
local MAX_OUTPUT_BYTES = 1024 * 1024
-- The doors by which more than one thing can come.
local MANY = { connect = true, script = true, http = true, signal = true, files = true,
  control = true, modules = true }

---@class player.Player: world.Session
---@field status? integer How the replay went, once it is over.
local Player = {}
local player_mt = { __index = Player }

answers.add(Player)

--- Opens a recording.
---@param path string
---@param warn fun(text: string)
---@return player.Player?
---@return string? err
function M.new(path, warn)
  local reader, err = session_reader.open(path)
  if not reader then
    return nil, err
  end
  local header = reader.header
  return setmetatable({ path = path, reader = reader, header = header, warn = warn,
    now = header.t, wall = header.w, draw = chance.new(header.seed), numbers = 0, doors = {},
    files = {}, known_files = {}, files_known = session_files.new(), later_env = {} }, player_mt)
end

function Player:is_inside() -- luacheck: no unused args
  return true
end

function Player:now_ms()
  return self.now
end

function Player:wall_ms()
  return self.wall
end

function Player:random(count)
  return self.draw(count)
end

function Player:leave(fn) -- luacheck: no unused args
  fn()
end

function Player:hide() end

function Player:file(path, text)
  if not self.known_files[path] and not self.has_compared then
    self.known_files[path] = true
    table.insert(self.files, { path = path, sha256 = crypto.sha256(text) })
  end
end

--- Ends the replay. The first reason counts.
---@param status integer
---@param text? string For people.
function Player:stop(status, text)
  if not self.status then
    self.status = status
    if text then
      self.warn(text)
    end
  end
end

-- The next entry, which stays the next one.
function Player:peek()
  if not self.ahead and not self.status then
    local entry, err = self.reader:next()
    if err then
      self:stop(2, err)
    end
    self.ahead = entry
  end
  return self.ahead
end

local function describe(kind, labels)
  local text = table.concat(labels or {}, " ")
  return text ~= "" and ("%s (%s)"):format(kind, text) or kind
end

-- What the run waits for, the last first.
local function waits_for(self)
  local numbers = {}
  for n in pairs(self.doors) do
    numbers[#numbers + 1] = n
  end
  table.sort(numbers)
  local shown = {}
  for i = #numbers, math.max(1, #numbers - MAX_SHOWN + 1), -1 do
    local door = self.doors[numbers[i]]
    shown[#shown + 1] = describe(door.kind, door.labels)
  end
  return #shown > 0 and table.concat(shown, ", ") or "nothing"
end

function Player:diverge(entry, did)
  self:stop(1, ("%s:%d: the run diverges at entry %d: recorded was %s, and the run %s"):format(
    self.path, self.reader.line, self.reader.entries, describe(entry.kind, entry.of), did))
end

-- The run asks for what no entry has.
function Player:diverge_from_next(did)
  local entry = self:peek()
  if entry then
    self:diverge(entry["end"] and { kind = "the end of the run" } or entry, did)
  elseif not self.status then
    self:run_out()
  end
end

-- Whether a door asks for what was recorded.
local function is_same(door, entry)
  if door.kind ~= entry.kind then
    return false
  end
  return table.concat(door.labels or {}, "\n") == table.concat(entry.of or {}, "\n")
end

-- Takes the next entry when it came while this door was opened.
function Player:take_sync(door)
  local entry = self:peek()
  if self.status or not entry or not entry.sync then
    return nil
  elseif entry.n ~= door.n or not is_same(door, entry) then
    if entry.n < door.n or entry.n == door.n and not answers.KINDS[entry.kind] then
      self:diverge(entry, "asks for " .. describe(door.kind, door.labels))
    end
    return nil
  end
  self.ahead = nil
  return entry
end

-- What came by an entry; nothing where it is damaged.
function Player:values_of(entry)
  local function checked(ok, ...)
    if not ok then
      self:stop(2, ("%s:%d: %s"):format(self.path, self.reader.line, tostring((...))))
      return
    end
    return ...
  end
  return checked(pcall(values.decode, entry.v))
end

function Player:open(kind, _, on_event, ...)
  self:check_cut()
  self.numbers = self.numbers + 1
  local n = self.numbers
  local door = { n = n, kind = kind, labels = values.labels(...), on_event = on_event }
  self.doors[n] = on_event and door
  local entry = self:take_sync(door)
  while entry do
    if entry.is == "refused" then
      self.doors[n] = nil
      return self:values_of(entry)
    end
    self:deliver(door, entry)
    entry = self:take_sync(door)
  end
  return stand_in.new(self.doors, n)
end

function Player:value(kind)
  self:check_cut()
  self.numbers = self.numbers + 1
  local door = { n = self.numbers, kind = kind }
  local entry = self:take_sync(door)
  if entry then
    return self:values_of(entry)
  end
  self:diverge_from_next("asks for " .. kind)
  return answers.WITHHELD
end

Player.secret = Player.value

function Player:deliver(door, entry)
  if not MANY[door.kind] then
    self.doors[door.n] = nil
  end
  if not door.on_event then
    return self:diverge(entry, "expects no answer to it")
  end
  local function checked(ok, err)
    if not ok then
      self.warn(tostring(err))
    end
  end
  local function pass(...)
    if not self.status then
      checked(xpcall(door.on_event, debug.traceback, ...))
    end
  end
  pass(self:values_of(entry))
end

-- The recording is over. Whoever wrote it was killed, unless it has an end.
function Player:run_out()
  local at = self.reader.is_cut and ", whose last line is cut," or ""
  self:stop(0, ("%s%s ends after %d entries, and has no end of the run: it was killed then"):format(
    self.path, at, self.reader.entries))
end

function Player:step()
  local entry = self:peek()
  if self.status then
    return
  elseif not entry then
    return self:run_out()
  end
  self.ahead = nil
  if entry["end"] then
    return self:diverge({ kind = "the end of the run" }, "waits for " .. waits_for(self))
  end
  local door = self.doors[entry.n]
  if entry.sync or not door or not is_same(door, entry) then
    return self:diverge(entry, door and "asks for " .. describe(door.kind, door.labels)
      or "waits for " .. waits_for(self))
  end
  self.now, self.wall = entry.t, entry.w
  self:deliver(door, entry)
end

--- Whose lines are waited for.
---@param output output.Output
function Player:set_output(output)
  self.output = output
end

local function wait_for_output(self, max_bytes)
  local output = self.output
  while output and output.queued > max_bytes and not output.failed do
    uv.run("once")
  end
end

function Player:turn()
  if not self.has_compared then
    self.has_compared = true
    comparison.tell(self.header, self.files, self.warn)
  end
  if not self.status then
    self:step()
  end
  wait_for_output(self, self.status and 0 or MAX_OUTPUT_BYTES)
  uv.run("nowait")
  return self.status == nil
end

--- The run has ended by itself: so must the recording.
function Player:finish()
  local entry = self:peek()
  if self.status then
    return
  elseif not entry then
    return self:run_out()
  elseif not entry["end"] then
    return self:diverge(entry, "ends there")
  end
  self:stop(0)
end

--- Closes the output, if it is open.
---@async
---@param timeout_ms number
function Player:close_output(timeout_ms)
  if self.output then
    self.output:close(timeout_ms)
  end
end

--- Closes the recording.
function Player:close()
  self.reader:close()
end

return M
