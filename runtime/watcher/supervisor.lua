--- Keeps a watcher's task alive: one that fails is started again, later each time.
---
--- The delay doubles from 1 s to 1 min and begins anew when the task ran for 5 min. One that failed
--- fifteen times without such a time is started every 10 min only: whatever it does before it fails
--- may cost money. What the task must not lose (state, alerts, snapshots) lives in the watcher,
--- which outlives its task.

local async = require("runtime.async")

local M = {}

local FIRST_MS, MAX_MS, RESET_MS = 1000, 60000, 300000
local INTENSE, INTENSE_MS = 15, 600000
local MAX_ERROR = 4000

local function ignore() end

---@class supervisor.Supervisor
---@field restarts integer Restarts after a crash, since the start.
local Supervisor = { restarts = 0, in_a_row = 0, delay_ms = FIRST_MS }
local supervisor_mt = { __index = Supervisor }

---@class supervisor.Supervised
---@field clock clock.Clock
---@field title fun(self: table): string For the task's name.
---@field run async fun(self: table): boolean? What to keep running. When it returns true, it rests,
--- and `go_on` has it go on; else the supervisor is done.
---@field emit fun(self: table, event: string, metadata: table, measurements: table?)

--- Creates a supervisor; `start` begins.
---@param supervised supervisor.Supervised
---@param await? async fun(ms: number?, start: function): ... For specs. Default: `async.await`.
---@return supervisor.Supervisor
function M.new(supervised, await)
  return setmetatable({ supervised = supervised, await = await or async.await }, supervisor_mt)
end

local function stopped(self, reason)
  if not self.is_stopped then
    self.is_stopped = true
    self.supervised:emit("beamlens.watcher.loop_stopped", { reason = reason })
  end
end

local run_once

-- Starts the task again, after a time that waits in a task of its own.
local function restart_later(self, err)
  if self.supervised.clock.now_ms() - self.started_ms >= RESET_MS then
    self.delay_ms, self.in_a_row = FIRST_MS, 0
  end
  self.in_a_row = self.in_a_row + 1
  local restart_ms = self.in_a_row >= INTENSE and INTENSE_MS or self.delay_ms
  self.delay_ms = math.min(MAX_MS, self.delay_ms * 2)
  self.supervised:emit("beamlens.watcher.crashed", { error = err }, { restart_ms = restart_ms })
  self.delay = async.spawn(function()
    self.await(restart_ms, ignore)
    self.restarts = self.restarts + 1
    self.supervised:emit("beamlens.watcher.restarted", {}, { restarts = self.restarts })
    run_once(self)
  end, { name = self.supervised:title(), detached = true })
end

-- The task ended: by itself, with an error, or because it was cancelled.
local function ended(self, ok, result)
  local err
  err, self.reason = self.reason or result, nil
  if self.is_stopping then
    return
  elseif ok then
    self.run_task = nil
    if not result then
      stopped(self, "ended")
    end
  else
    restart_later(self, tostring(err):sub(1, MAX_ERROR))
  end
end

-- Runs the body once, as a task of its own, so that what it spawned ends with it. Nothing waits for
-- it meanwhile but a function.
local function run_task(self)
  local supervised = self.supervised
  local task = async.spawn(supervised.run, { name = supervised:title(), detached = true,
    on_error = ignore, meter = self.meter }, supervised)
  self.run_task, self.meter = task, task.meter
  task:on_end(function(...)
    ended(self, ...)
  end)
  if self.is_stopping and not task.done then -- by what the task did at once
    task:cancel()
  end
end

function run_once(self)
  self.delay = nil
  self.started_ms = self.supervised.clock.now_ms()
  run_task(self)
end

--- Has a task that rests go on.
function Supervisor:go_on()
  if not self.is_stopping then
    run_task(self)
  end
end

--- Starts the task.
function Supervisor:start()
  assert(not self.started_ms, "the supervisor was started already")
  run_once(self)
end

--- Whether the task runs now, and is not waited with.
---@return boolean
function Supervisor:is_running()
  return self.run_task ~= nil and not self.run_task.done
end

--- Ends the task, which then counts as crashed for this reason. Does nothing while it does not run.
---@param reason string
function Supervisor:restart(reason)
  if self:is_running() then
    self.reason = reason
    self.run_task:cancel()
  end
end

--- Stops the task, with all that it waits for. Stopping twice does nothing.
---@param reason? string For the event. Default: `stopped`.
function Supervisor:stop(reason)
  if self.started_ms then
    self.is_stopping = true
    for _, name in ipairs({ "run_task", "delay" }) do
      if self[name] then
        self[name]:cancel()
      end
    end
    stopped(self, reason or "stopped")
  end
end

return M
