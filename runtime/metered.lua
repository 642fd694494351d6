--- Running Lua of users' files for a limited time: what runs over is cut, where it stands.
---
--- Running time counts, by the clock of the CPU; time that it waits does not. The JIT has to be off
--- for such code (runtime/loader.lua sees to that), since compiled code looks at no hook. A call of
--- C cannot be cut, such as a pattern that tries for ever: host/watchdog.c tells of it meanwhile,
--- and the error afterwards.
---
--- This is the one place beside runtime/async.lua that touches `coroutine.*`: to know how long
--- something ran, each stretch between two waits has to be timed.

local async = require("runtime.async")
local watchdog = require("host.watchdog")
local world = require("runtime.world")

local M = {}

-- Instructions between two looks at the clock.
local STEP = 1000
local MAX_LEVELS = 30
-- How much of a stretch may be a call that was let run, before it is said that it was one.
local UNCUT_MS = 20

--- Where a function is written, for people: `watchers/beam.lua:12`.
---@param fn function
---@return string
function M.place_of(fn)
  local info = debug.getinfo(fn, "S")
  return ("%s:%d"):format(info.source:gsub("^@", ""), info.linedefined)
end

-- Where users' code stands now: the innermost function that is not of the runtime.
local function place()
  for level = 3, MAX_LEVELS do
    local info = debug.getinfo(level, "Sl")
    if not info then
      return nil
    elseif info.source:sub(1, 1) == "@" and not info.source:find("^@runtime/") then
      return ("%s:%d"):format(info.source:sub(2), info.currentline)
    end
  end
end

local function overrun(meter)
  local text = ("ran longer than %d ms"):format(meter.limit_ms)
  if meter.uncut_ms then
    text = ("%s (%.0f ms in one call that cannot be cut)"):format(text, meter.uncut_ms)
  end
  return ("%s, at %s"):format(text, meter.where)
end

-- Lets `co` run until it waits or ends, and adds the time to `meter.spent_ms`. The count hook is
-- global to the VM, so it is set only for this stretch. Once over the limit it raises at every
-- instruction: a `pcall` inside cannot swallow it for long.
local function resume_metered(co, meter, ...)
  local started_ms, caller = watchdog.cpu_ms(), coroutine.running()
  local looked_ms = started_ms
  local function look()
    if coroutine.running() == caller then
      return -- the stretch is over
    end
    looked_ms = watchdog.cpu_ms()
    if not meter.over then
      meter.where = place() or meter.where
      watchdog.at(("%s, at %s"):format(meter.label, meter.where))
    end
    if world.is_to_cut(meter.spent_ms + looked_ms - started_ms, meter.limit_ms) then
      meter.over = true
      debug.sethook(look, "", 1)
      error(overrun(meter), 0)
    end
  end
  local outer, mask, count = debug.gethook()
  watchdog.enter(("%s, at %s"):format(meter.label, meter.where), meter.limit_ms)
  debug.sethook(look, "", meter.over and 1 or STEP)
  local function stop(...)
    debug.sethook(outer, mask, count)
    local _, wall_ms, was_told = watchdog.leave()
    local now_ms = watchdog.cpu_ms()
    meter.spent_ms = meter.spent_ms + now_ms - started_ms
    -- Compiled code of other files, patterns and C calls run past the hook.
    if not meter.over and (world.is_to_cut(meter.spent_ms, meter.limit_ms) or was_told) then
      meter.over = true
      local uncut_ms = was_told and wall_ms or now_ms - looked_ms
      meter.uncut_ms = uncut_ms > UNCUT_MS and uncut_ms or nil
    end
    return ...
  end
  return stop(coroutine.resume(co, ...))
end

--- Calls a function, as `async.pcall` does. It may wait, in a task.
---@param opts { label: string, limit_ms: number, place?: string } `label` says what it is; `place`
--- where it is written (default: where `fn` is).
---@param fn function
---@param ... any Its arguments.
---@return boolean ok
---@return any ... Results, or the error; of what ran over `ran longer than …, at FILE:LINE`.
function M.call(opts, fn, ...)
  -- It runs in a coroutine of its own, so that each stretch between two waits can be timed; what
  -- it yields is passed on to the task's own wait.
  local co = coroutine.create(function(...)
    return async.pcall(fn, ...)
  end)
  local meter = { spent_ms = 0, limit_ms = opts.limit_ms, label = opts.label,
    where = opts.place or M.place_of(fn) }
  local function step(resumed, ...)
    if resumed and coroutine.status(co) ~= "dead" then
      return step(resume_metered(co, meter, coroutine.yield(...)))
    end
    local cut = world.cut(meter.over and overrun(meter) or nil)
    if cut then
      return false, cut
    elseif not resumed then
      error((...), 0) -- the task was cancelled
    end
    return ...
  end
  return step(resume_metered(co, meter, ...))
end

--- Makes a function that calls `fn` metered, and raises what goes wrong.
---@param opts { label: string, limit_ms: number } As of `call`.
---@param fn function
---@return function
function M.wrap(opts, fn)
  local function check(ok, ...)
    if not ok then
      error((...), 0)
    end
    return ...
  end
  return function(...)
    return check(M.call(opts, fn, ...))
  end
end

return M
