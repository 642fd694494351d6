-- Time that jumps: while all that runs only waits for time to pass, the clock moves on to the next
-- timer. A day takes seconds, and the straight code of a case says what happens when:
--
--   local time = jumping.start()
--   async.sleep(20 * 3600000)                      -- twenty hours later
--
-- What comes from outside of the process (an answer over HTTP, a script in the sandbox) takes no
-- time of this clock: it stands while `time:outside(fn, …)` runs. Timers of libuv itself, as those
-- of a stub server, keep the real time.

local async = require("runtime.async")
local support = require("support")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

local START_MS = 1795392000000 -- 2026-11-23T00:00:00Z
local BATCH = 50 -- timers in one turn of the loop, so that close callbacks come in between

local Time = {}
local time_mt = { __index = Time }

local function is_before(a, b)
  return a.at_ms < b.at_ms or (a.at_ms == b.at_ms and a.number < b.number)
end

-- A heap, the next timer first.
local function push(heap, entry)
  local at = #heap + 1
  heap[at] = entry
  while at > 1 do
    local up = math.floor(at / 2)
    if not is_before(heap[at], heap[up]) then
      break
    end
    heap[at], heap[up], at = heap[up], heap[at], up
  end
end

local function pop(heap)
  local first, last = heap[1], table.remove(heap)
  if #heap == 0 then
    return first
  end
  heap[1] = last
  local at = 1
  while true do
    local least = at
    for child = 2 * at, 2 * at + 1 do
      if heap[child] and is_before(heap[child], heap[least]) then
        least = child
      end
    end
    if least == at then
      return first
    end
    heap[at], heap[least], at = heap[least], heap[at], least
  end
end

function Time:now_ms()
  return self.passed_ms
end

function Time:wall_ms()
  return START_MS + math.floor(self.passed_ms)
end

function Time:unix_s()
  return math.floor(self:wall_ms() / 1000)
end

--- What runtime/world.lua asks for. Only timers are different here.
function Time:open(kind, start, on_event, ms)
  if kind ~= "timer" then
    return start(on_event)
  end
  self.number = self.number + 1
  local entry = { at_ms = self.passed_ms + ms, number = self.number, fn = on_event }
  push(self.heap, entry)
  self.timers = self.timers + 1
  self:go_on()
  return { close = function()
    if not entry.is_closed then
      entry.is_closed, entry.fn = true, nil
      self.timers = self.timers - 1
    end
  end }
end

-- All else comes from the world as it is.
function Time.random(_, count)
  return assert(uv.random(count))
end

function Time.env(_, name)
  return os.getenv(name)
end

function Time.value(_, _, read)
  return read()
end

Time.secret = Time.value

function Time.disk(_, _, path, ask)
  return ask(path)
end

function Time.cut(_, text)
  return text
end

function Time.is_to_cut(_, spent_ms, limit_ms)
  return spent_ms > limit_ms
end

function Time.hide() end

function Time.leaked() end

function Time.file() end

function Time.is_inside()
  return true
end

function Time.leave(_, fn)
  fn()
end

function Time.turn()
  return uv.run("once")
end

function Time:go_on()
  if self.waiting == 0 and not self.idle:is_active() then
    self.idle:start(function()
      self:turn()
    end)
  end
end

-- Lets the next timers end, until something outside is waited for, or nothing is left.
function Time:turn()
  for _ = 1, BATCH do
    if self.waiting > 0 or #self.heap == 0 then
      self.idle:stop()
      return
    end
    local entry = pop(self.heap)
    local fn = entry.fn
    if fn then
      entry.fn = nil
      self.passed_ms = math.max(self.passed_ms, entry.at_ms)
      fn()
    end
  end
end

local function returned(self, ok, ...)
  self.waiting = self.waiting - 1
  self:go_on()
  if not ok then
    error((...), 0)
  end
  return ...
end

--- Runs a function that waits for something outside; the clock stands until it returns.
---@async
---@param fn async fun(...): any ...
---@return any ... What it returns.
function Time:outside(fn, ...)
  self.waiting = self.waiting + 1
  return returned(self, pcall(fn, ...))
end

--- Waits, in real time, until a condition holds. It is looked at each millisecond.
---@async
---@param condition fun(): boolean
function Time:really_until(condition)
  self:outside(function()
    async.await(nil, function(done)
      local timer = uv.new_timer()
      local function close()
        if not timer:is_closing() then
          timer:close()
        end
      end
      timer:start(1, 1, function()
        if condition() then
          close()
          done()
        end
      end)
      return close
    end)
  end)
end

--- Has the runtime live by such a clock until the case ends.
function M.start()
  local self = setmetatable({ passed_ms = 0, heap = {}, number = 0, timers = 0, waiting = 0,
    idle = uv.new_idle() }, time_mt)
  world.install(self)
  support.on_cleanup(function()
    world.install(nil)
    self.idle:close()
  end)
  return self
end

return M
