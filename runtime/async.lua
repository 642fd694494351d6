--- Tasks: straight-line code that waits, on the one event loop.
---
--- A task is a coroutine. `await` turns a callback API into a waiting call; nothing else in the
--- runtime touches `coroutine.*`. A task that ends or is cancelled cancels the tasks it spawned,
--- so a watcher's whole tree goes with it. Cancellation is an error raised where the task waits:
--- whoever catches errors must use `async.pcall`, which lets it pass.

local members = require("runtime.members")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

---@class async.Meter
---@field run_ms number How long tasks with this meter have run, waits and other tasks left out.

---@class async.Task
---@field name string
---@field meter? async.Meter
local Task = {}
local task_mt = { __index = Task }

local CANCELLED = setmetatable({}, {
  __tostring = function()
    return "task cancelled"
  end,
})

local current ---@type async.Task?
local ambient ---@type async.Meter? Of the tasks that are being started.
local switched_ns = 0 -- when a task with a meter, or one beside it, began or went on last

local function ignore() end

local function default_on_error(text, task)
  io.stderr:write(("beamlens: task %s failed: %s\n"):format(task.name, text))
end

--- The time of the monotonic clock in milliseconds, with fractions.
---@return number
function M.now_ms()
  return world.now_ms()
end

-- Oldest first.
local function cancel_children(task)
  for _, child in ipairs(task.children and task.children:list() or {}) do
    child:cancel()
  end
end

local function leave_parent(task)
  local siblings = task.parent and task.parent.children
  if siblings then
    siblings:remove(task)
    if siblings:is_empty() then
      task.parent.children = nil
    end
  end
end

local function finish(task, ok, ...)
  task.done = true
  task.co = nil -- whoever keeps the task does not keep its stack
  task.results = { ok, n = select("#", ...) + 1, ... }
  leave_parent(task)
  cancel_children(task)
  if not ok and (...) ~= CANCELLED then
    task.on_error(tostring((...)), task)
  end
  local joiners = task.joiners
  task.joiners = nil
  for _, wake in ipairs(joiners or {}) do
    wake(ok, ...)
  end
end

-- Gives the time since the last switch to the task that ran meanwhile.
local function charge(task)
  local now_ns = uv.hrtime()
  local meter = task and task.meter
  if meter then
    meter.run_ms = meter.run_ms + (now_ns - switched_ns) / 1e6
  end
  switched_ns = now_ns
end

local function resume(task, ...)
  if task.is_inside and not world.is_inside() then
    world.leaked(task.name)
  end
  local previous = current
  local is_metered = task.meter or (previous and previous.meter)
  if is_metered then
    charge(previous)
  end
  current = task
  coroutine.resume(task.co, ...)
  if is_metered then
    charge(task)
  end
  current = previous
end

-- An error that is raised again keeps the traceback of its first place.
local function with_traceback(err)
  if err == CANCELLED or type(err) ~= "string" or err:find("\nstack traceback:\n", 1, true) then
    return err
  end
  return debug.traceback(err, 2)
end

--- Starts a task at once; it runs until it first waits.
---@param fn async fun(...) The body.
---@param opts? { name?: string, on_error?: fun(text, task), detached?: boolean,
--- meter?: async.Meter }
--- `on_error` gets the text of an error with its traceback (default: the parent's, else stderr).
--- A `detached` task has no parent: it goes on when the spawning task ends. `meter`: by default
--- that of whoever spawns it.
---@param ... any Arguments for `fn`.
---@return async.Task
function M.spawn(fn, opts, ...)
  opts = opts or {}
  local parent = not opts.detached and current or nil
  local task = setmetatable({
    name = opts.name or "task",
    on_error = opts.on_error or (parent and parent.on_error) or default_on_error,
    parent = parent,
    is_inside = world.is_inside(),
  }, task_mt)
  if parent then
    parent.children = parent.children or members.new()
    parent.children:add(task)
  end
  task.meter = opts.meter or ambient or (current and current.meter)
  task.co = coroutine.create(function(...)
    finish(task, xpcall(fn, with_traceback, ...))
  end)
  resume(task, ...)
  return task
end

--- A meter that reads 0, for `metered`.
---@return async.Meter
function M.meter()
  return { run_ms = 0 }
end

--- Calls `fn`; the tasks that it starts have this meter, and so have those that they start.
---@param meter async.Meter
---@param fn fun()
function M.metered(meter, fn)
  local before = ambient
  ambient = meter
  local ok, err = xpcall(fn, with_traceback)
  ambient = before
  if not ok then
    error(err, 0)
  end
end

--- Cancels the task and all it spawned. What it waits for is cancelled, and the wait raises.
--- A task that has ended is left alone.
function Task:cancel()
  if self.done or self.cancelled then
    return
  end
  self.cancelled = true
  cancel_children(self)
  if self.wait then
    self.wait:give_up(CANCELLED)
  end
end

--- Waits until the task has ended.
---@async
---@param timeout_ms? number
---@return boolean|nil ok False when it failed or was cancelled; nil when the time is over.
---@return any ... What it returned, or its error.
function Task:join(timeout_ms)
  if self.done then
    return unpack(self.results, 1, self.results.n)
  end
  return M.await(timeout_ms, function(done)
    self.joiners = self.joiners or {}
    table.insert(self.joiners, done)
  end)
end

--- Calls `fn(ok, ...)` once the task has ended, as `join` would return. It must not wait.
---@param fn fun(ok: boolean, ...)
function Task:on_end(fn)
  if self.done then
    fn(unpack(self.results, 1, self.results.n))
    return
  end
  self.joiners = self.joiners or {}
  table.insert(self.joiners, fn)
end

--- True inside a task.
function M.in_task()
  return current ~= nil
end

-- One call of `await`. It is over once: when it is done, given up, or out of time.
local Wait = {}
local wait_mt = { __index = Wait }

function Wait:settle()
  self.is_over = true
  self.task.wait = nil
  if self.timer then
    self.timer:close()
  end
end

function Wait:finish(...)
  if self.is_over then
    return
  end
  self:settle()
  if self.is_waiting then
    resume(self.task, ...)
  else
    self.early = { n = select("#", ...), ... }
  end
end

function Wait:give_up(...)
  self:settle()
  if self.cancel then
    self.cancel()
  end
  resume(self.task, ...)
end

function Wait:time_out(timeout_ms)
  if not self.is_over then
    self:give_up(nil, ("ETIMEDOUT: no answer within %d ms"):format(timeout_ms), "ETIMEDOUT")
  end
end

local function resumed(first, ...)
  if first == CANCELLED then
    error(CANCELLED, 0)
  end
  return first, ...
end

--- Waits for a callback.
---@async
---@param timeout_ms? number After this, the wait is cancelled and `await` returns
--- `nil, "ETIMEDOUT: …", "ETIMEDOUT"`. nil: no limit.
---@param start fun(done: fun(...)): fun()? Starts the work. `done(...)` ends the wait with these
--- values (later calls of it do nothing). May return a function that cancels the work.
---@return any ... What `done` was given.
function M.await(timeout_ms, start)
  local task = current
  if not task then
    error("await outside a task", 2)
  end
  if task.cancelled then
    error(CANCELLED, 0)
  end
  local wait = setmetatable({ task = task }, wait_mt)
  wait.cancel = start(function(...)
    wait:finish(...)
  end)
  if wait.is_over then
    return unpack(wait.early, 1, wait.early.n)
  end
  if timeout_ms then
    timeout_ms = math.max(0, math.ceil(timeout_ms))
    wait.timer = world.timer(timeout_ms, function()
      wait:time_out(timeout_ms)
    end)
  end
  task.wait, wait.is_waiting = wait, true
  return resumed(coroutine.yield())
end

--- Waits for a time.
---@async
---@param ms number
function M.sleep(ms)
  M.await(ms, ignore)
end

local function unpack_outcome(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end

--- Calls a function on a stack of its own, which goes when it returns: whoever waits for long has
--- not to keep what the call needed.
---@async
---@param name string
---@param fn async fun(...): any ...
---@param ... any Arguments for `fn`.
---@return any ... Its results. An error is raised here.
function M.apart(name, fn, ...)
  local task = M.spawn(fn, { name = name, on_error = ignore }, ...)
  return unpack_outcome(task:join())
end

--- Waits for what happens outside: a session notes or gives its results alone, not how they came.
---@async
---@param kind string As for `world.open`.
---@param fn async fun(): any ... Run as a task of its own in a session, which ends with this wait.
---@param ... any What is asked for.
---@return any ... Its results. An error is raised here.
function M.outside(kind, fn, ...)
  if not world.is_inside() then
    return fn()
  end
  local asked = { n = select("#", ...), ... }
  return unpack_outcome(M.await(nil, function(done)
    local task = world.open(kind, function(on_event)
      return M.spawn(function()
        on_event(M.pcall(fn))
      end, { name = kind, detached = true })
    end, done, unpack(asked, 1, asked.n))
    return function()
      world.leave(function()
        task:cancel()
      end)
    end
  end))
end

--- Like `pcall`, but a cancellation passes through.
---@return boolean ok
---@return any ... Results, or the error with its traceback.
function M.pcall(fn, ...)
  local function check(ok, ...)
    if not ok and (...) == CANCELLED then
      error(CANCELLED, 0)
    end
    return ok, ...
  end
  return check(xpcall(fn, with_traceback, ...))
end

--- Calls a function, and says so when it does not return: when it raises, and when the task is
--- cancelled while it waits in there. That goes on afterwards.
---@async
---@param on_unwind fun(err?: string) Gets the error; nil: cancelled. It must not wait.
---@param fn async fun(...): any ...
---@param ... any Arguments for `fn`.
---@return any ... Results of `fn`.
function M.unwinding(on_unwind, fn, ...)
  local function check(ok, ...)
    if not ok then
      on_unwind((...) ~= CANCELLED and tostring((...)) or nil)
      error((...), 0)
    end
    return ...
  end
  return check(xpcall(fn, with_traceback, ...))
end

---@class async.Deadline
local Deadline = {}
local deadline_mt = { __index = Deadline }

--- A point in time, made once from a timeout; pass on what is left of it.
---@param timeout_ms number
---@return async.Deadline
function M.deadline(timeout_ms)
  return setmetatable({ at_ms = M.now_ms() + timeout_ms }, deadline_mt)
end

--- Milliseconds until the deadline; 0 when it has passed.
function Deadline:left_ms()
  return math.max(0, self.at_ms - M.now_ms())
end

---@class async.Signal
local Signal = {}
local signal_mt = { __index = Signal }

--- Something to wait for that can happen many times: `wait` sleeps until the next `fire`.
---@return async.Signal
function M.signal()
  return setmetatable({ waiters = {} }, signal_mt)
end

--- Wakes all who wait now, with these values.
function Signal:fire(...)
  local waiters = self.waiters
  self.waiters = {}
  for _, wake in ipairs(waiters) do
    wake(...)
  end
end

--- Waits for the next `fire`.
---@async
---@param timeout_ms? number
---@return any ... What `fire` was given; `nil, err, "ETIMEDOUT"` when the time is over.
function Signal:wait(timeout_ms)
  return M.await(timeout_ms, function(done)
    table.insert(self.waiters, done)
    return function()
      for i, wake in ipairs(self.waiters) do
        if wake == done then
          table.remove(self.waiters, i)
          break
        end
      end
    end
  end)
end

--- Runs the loop until `fn`, started as a task, has ended.
---@param fn async fun(...)
---@param ... any Arguments for `fn`.
---@return boolean ok
---@return any ... Its results, or its error.
function M.run(fn, ...)
  local task = M.spawn(fn, { name = "main", on_error = function() end, detached = true }, ...)
  while not task.done do
    if not world.turn() and not task.done then
      return false, "the main task waits for something that can never happen"
    end
  end
  return unpack(task.results, 1, task.results.n)
end

--- Runs the loop until nothing is left to wait for.
function M.run_dry()
  uv.run("default")
end

return M
