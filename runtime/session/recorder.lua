--- Records a session: all that comes in, in the order in which it came, with its time.
---
--- Between two things that come in the clocks stand still: what the runtime does is a function of
--- the recording. Each door that is opened gets the next number, and so does what comes in by it.

local chance = require("runtime.session.chance")
local core = require("host.core")
local crypto = require("host.crypto")
local json = require("runtime.json")
local notes = require("runtime.session.notes")
local session_files = require("runtime.session.files")
local session_format = require("runtime.session.format")
local uv = require("luv")
local values = require("runtime.session.values")

local M = {}

-- Shorter texts are part of too much else.
local SHORTEST_SECRET = 10
local HIDDEN = "[secret]"

---@class recorder.Recorder: world.Session
local Recorder = {}
local recorder_mt = { __index = Recorder }

notes.add(Recorder)

-- In whole microseconds, as the file has it.
local function monotonic_ms()
  return math.floor(uv.hrtime() / 1e3 + 0.5) / 1e3
end

local function unix_ms()
  local s, us = uv.gettimeofday()
  return s * 1000 + math.floor(us / 1000)
end

--- Creates a recorder.
---@param opts { journal: journal.Journal, arguments: string[], warn: fun(text: string) }
--- `arguments` are those of the command line.
---@return recorder.Recorder
function M.new(opts)
  local bytes = assert(uv.random(16))
  local seed = bytes:gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end)
  return setmetatable({
    journal = opts.journal, warn = opts.warn,
    arguments = opts.arguments,
    seed = seed, draw = chance.new(seed),
    now = monotonic_ms(), wall = unix_ms(),
    numbers = 0, inside = true, busy = true, -- the host is being built
    files = {}, known_files = {}, files_known = session_files.new(), variables = {}, early = {},
    secrets = {}, serials = {}, serial = 0,
  }, recorder_mt)
end

--- True while what runs is a function of what came in.
function Recorder:is_inside()
  return self.inside
end

function Recorder:now_ms()
  return self.inside and self.now or uv.hrtime() / 1e6
end

function Recorder:wall_ms()
  return self.inside and self.wall or unix_ms()
end

function Recorder:random(count)
  return self.inside and self.draw(count) or assert(uv.random(count))
end

--- Keeps a text out of the recording.
---@param text? string
function Recorder:hide(text)
  if type(text) == "string" and #text >= SHORTEST_SECRET and not self.secrets[text] then
    self.secrets[text] = true
    table.insert(self.secrets, text)
    local quoted = json.encode(text):sub(2, -2)
    if quoted ~= text then
      table.insert(self.secrets, quoted)
    end
  end
end

function Recorder:file(path, text)
  if self.inside and not self.known_files[path] and not self.has_begun then
    self.known_files[path] = true
    table.insert(self.files, { path = path, sha256 = crypto.sha256(text) })
  end
end

local function without_secrets(self, line)
  for _, secret in ipairs(self.secrets) do
    if line:find(secret, 1, true) then
      line = line:gsub(secret:gsub("%W", "%%%0"), HIDDEN)
    end
  end
  return line
end

function Recorder:write(entry)
  if not self.has_begun then
    table.insert(self.early, entry)
    return
  elseif self.is_over then
    return
  end
  local line, err = values.to_line(entry)
  if line then
    self.journal:write(without_secrets(self, line))
  else
    self.is_over = true
    self.warn(("the recording %s ends here: %s"):format(self.journal.path, err))
  end
end

-- The head of the file, once the host is built, and what came in meanwhile.
function Recorder:begin()
  self.has_begun = true
  self:write(session_format.header({ version = core.version, seed = self.seed,
    t = self.now, w = self.wall, arguments = self.arguments,
    files = self.files, env = self.variables }))
  for _, entry in ipairs(self.early) do
    self:write(entry)
  end
end

local function number(self)
  self.numbers = self.numbers + 1
  return self.numbers
end

-- Notes what comes in. One that comes before its door is open has no time of its own.
function Recorder:note(door, is_sync, kind_of, ...)
  local ok, list = pcall(values.encode, ...)
  self:write({ n = door.n, kind = door.kind, of = door.labels, sync = is_sync or nil,
    is = kind_of, v = ok and json.array(list) or { tostring(list) },
    t = not is_sync and self.now or nil, w = not is_sync and self.wall or nil })
end

local function as_it_is(err)
  return err
end

-- Runs a function as a part of the session, or outside of it, and goes back to what was.
local function during(self, inside, starting, on_error, fn, ...)
  local was_inside, was_busy, was_starting = self.inside, self.busy, self.starting
  self.inside, self.busy, self.starting = inside, was_busy or inside, starting
  local function back(ok, ...)
    self.inside, self.busy, self.starting = was_inside, was_busy, was_starting
    if not ok then
      error((...), 0)
    end
    return ...
  end
  return back(xpcall(fn, on_error, ...))
end

local function deliver(self, door, ...)
  local is_sync = self.starting == door.n
  if not is_sync then
    self.now, self.wall = monotonic_ms(), unix_ms()
  end
  self:note(door, is_sync, nil, ...)
  return during(self, true, nil, debug.traceback, door.on_event, ...)
end

-- What comes in while something else is being done has its turn after it.
local function deliver_later(self, door, ...)
  local list, count = { ... }, select("#", ...)
  local timer = uv.new_timer()
  timer:start(0, 0, function()
    timer:close()
    deliver(self, door, unpack(list, 1, count))
  end)
end

function Recorder:open(kind, start, on_event, ...)
  if not self.inside then
    return start(on_event)
  end
  local door = { n = number(self), kind = kind, labels = values.labels(...), on_event = on_event }
  local function arrived(...)
    if self.busy and self.starting ~= door.n then
      return deliver_later(self, door, ...)
    end
    return deliver(self, door, ...)
  end
  local function opened(first, ...)
    if not first then
      self:note(door, true, "refused", first, ...)
    end
    return first, ...
  end
  return opened(during(self, false, door.n, as_it_is, start, arrived))
end

function Recorder:value(kind, read)
  if not self.inside then
    return read()
  end
  local door = { n = number(self), kind = kind }
  local function noted(...)
    self:note(door, true, nil, ...)
    return ...
  end
  return noted(read())
end

function Recorder:secret(kind, read)
  if not self.inside then
    return read()
  end
  local text, err, code = read()
  self:hide(text)
  if text and not self.serials[text] then
    self.serial = self.serial + 1
    self.serials[text] = ("%s %d"):format(kind, self.serial)
  end
  self:note({ n = number(self), kind = kind }, true, nil, text and self.serials[text], err, code)
  return text, err, code
end

function Recorder:leave(fn)
  during(self, false, nil, as_it_is, fn)
end

--- A defect of ours: what came in there is missing.
---@param task_name string
function Recorder:leaked(task_name)
  if not self.has_leaked then
    self.has_leaked = true
    self.warn(("the recording %s may not replay: the task %q went on by something that is not "
      .. "in it"):format(self.journal.path, task_name))
  end
end

function Recorder:turn()
  if not self.has_begun then
    self:begin()
  end
  self.inside, self.busy = false, false
  local more = uv.run("once")
  self.inside, self.busy = true, true
  return more
end

--- Notes that the run ended by itself.
---@param reason string
function Recorder:finish(reason)
  if not self.has_begun then
    self:begin()
  end
  self:write({ ["end"] = reason, n = self.numbers })
  self.is_over = true
end

return M
