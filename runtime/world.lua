--- The doors by which all comes in that is not a function of what came before: time, chance, the
--- environment, files, timers, and whoever answers from outside of this process.
---
--- Usually a door is a plain call. `run --record` installs a recorder, which notes what comes in
--- (runtime/session/recorder.lua), and `run --replay` a player, which lets the same come in again
--- and asks nobody (runtime/session/player.lua).

local uv = require("luv")

local M = {}

---@class world.Session A recorder or a player, with a method for each function of this module.
local session ---@type world.Session?

--- Has a session stand between the runtime and the world; nil: nothing does.
---@param installed? world.Session
function M.install(installed)
  session = installed
end

--- The monotonic clock in milliseconds, with fractions. In a session it stands still until
--- something comes in.
---@return number
function M.now_ms()
  if session then
    return session:now_ms()
  end
  return uv.hrtime() / 1e6
end

--- Unix time in whole milliseconds. As `now_ms` in a session.
---@return integer
function M.wall_ms()
  if session then
    return session:wall_ms()
  end
  local s, us = uv.gettimeofday()
  return s * 1000 + math.floor(us / 1000)
end

--- Unix time in whole seconds, as users' code reads it. It goes on while that runs.
---@return integer
function M.unix_s()
  if session then
    return session:unix_s()
  end
  return (uv.gettimeofday())
end

--- Random bytes.
---@param count integer
---@return string
function M.random(count)
  if session then
    return session:random(count)
  end
  return assert(uv.random(count))
end

--- A variable of the environment.
---@param name string
---@return string?
function M.env(name)
  if session then
    return session:env(name)
  end
  return os.getenv(name)
end

--- Notes the text of a user's file that is about to be used.
---@param path string
---@param text string
function M.file(path, text)
  if session then
    session:file(path, text)
  end
end

--- Asks the disk about a user's file; see runtime/disk.lua.
---@param kind string
---@param path string
---@param ask fun(path: string): any ...
---@return any ...
function M.disk(kind, path, ask)
  if session then
    return session:disk(kind, path, ask)
  end
  return ask(path)
end

--- Keeps texts out of a recording.
---@param texts string[]
function M.hide(texts)
  for _, text in ipairs(session and texts or {}) do
    session:hide(text)
  end
end

--- Tells whether what just ended was cut, since it ran too long: that is no function of what came
--- in.
---@param text? string Why it was cut; nil: it was not.
---@return string? text As it was when it was recorded.
function M.cut(text)
  if session then
    return session:cut(text)
  end
  return text
end

--- Whether what has run longer than it may is to be cut here. A replay cuts what was cut when it
--- was recorded, however fast the machine is.
---@param spent_ms number
---@param limit_ms number
---@return boolean
function M.is_to_cut(spent_ms, limit_ms)
  if session then
    return session:is_to_cut(spent_ms, limit_ms)
  end
  return spent_ms > limit_ms
end

--- Reads something once that has no callback: `read()` and what it returns.
---@param kind string
---@param read fun(): any ...
---@return any ...
function M.value(kind, read)
  if session then
    return session:value(kind, read)
  end
  return read()
end

--- As `value`, for a text that must be in no recording: of it is only noted whether it is another.
---@param kind string
---@param read fun(): string?, string?, string?
---@return string?
---@return string? err
---@return string? code
function M.secret(kind, read)
  if session then
    return session:secret(kind, read)
  end
  return read()
end

--- Starts something outside that calls back.
---@param kind string Such as "call".
---@param start fun(on_event: function): any ... Starts it; calls `on_event` for all that comes.
--- What it returns is a handle, or nil and why it could not be started.
---@param on_event? function Called for what comes.
---@param ... any What is asked for: a replay asks for the same.
---@return any ... What `start` returned. In a replay a handle whose methods do nothing.
function M.open(kind, start, on_event, ...)
  if session then
    return session:open(kind, start, on_event, ...)
  end
  return start(on_event)
end

local function start_timer(ms, fn)
  local timer = uv.new_timer()
  -- The loop's time is that of the beginning of its turn: the timer would end too early. Moving it
  -- on instead would make timers due in the turn in which they are started: work that goes on a
  -- little later, again and again, would leave the sockets no turn of their own.
  local late_ms = math.max(0, math.floor(uv.hrtime() / 1e6) - uv.now())
  timer:start(ms + late_ms, 0, fn)
  return timer
end

--- Has a function called once, after a time.
---@param ms number
---@param fn fun()
---@return { close: fun(self: table) } timer To be closed, whether it was called or not.
function M.timer(ms, fn)
  ms = math.max(0, math.ceil(ms))
  if session then
    return session:open("timer", function(on_event)
      return start_timer(ms, on_event)
    end, fn, ms)
  end
  return start_timer(ms, fn)
end

--- True where what is done belongs to a session: not in what `open` has started.
---@return boolean
function M.is_inside()
  return session ~= nil and session:is_inside()
end

--- True while something runs that a session sees from outside only.
---@return boolean
function M.is_outside()
  return session ~= nil and not session:is_inside()
end

--- Tells that a task of a session goes on by something that came in by no door.
---@param task_name string
function M.leaked(task_name)
  if session then
    session:leaked(task_name)
  end
end

--- Runs a function outside of the session.
---@param fn fun()
function M.leave(fn)
  if session then
    session:leave(fn)
  else
    fn()
  end
end

--- Lets something come in, and waits for it if need be.
---@return boolean more False when nothing can come any more.
function M.turn()
  if session then
    return session:turn()
  end
  return uv.run("once")
end

return M
