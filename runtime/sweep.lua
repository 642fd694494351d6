--- The sweep: one shared pass over what a node holds, for every domain, watcher and script.
---
--- A pass has parts (runtime/sweep/*.lua): processes, and what other domains need. It costs at most
--- 1 % of one scheduler on average: the next one begins a hundred times its work later, and not
--- before 10 s. One may be brought forward, which the one after it makes up for. A part that fails
--- is left out of its pass, which says why; the others go on.
---
---   local s = sweep.new({ target = target, clock = clock, parts = { "processes" } })
---   s:start()
---   local found = assert(s:part("processes", 5000))
---   found.rows[found.top.memory[1]].name

local async = require("runtime.async")
local shared = require("runtime.sweep.shared")
local tracks = require("runtime.history.tracks")

local M = {}

local MIN_INTERVAL_MS = 10000
local SHARE = 0.01
local RETRY_MS = 2000
local REMEMBERED_COSTS = 20
-- No part costs more than this, however long it took.
local BASE_COST_MS = 100
local COST_PER_ROW_MS = 0.01

--- What a part may be, in the order in which a pass makes them.
M.PARTS = {
  "processes", "monitors", "singletons", "supervisors", "tables", "ports", "allocators",
}

---@class sweep.Result What every part's result has.
---@field mono_ms number When it ended, by the node's monotonic clock.
---@field took_ms number
---@field work_ms number What of that was work.
---@field total integer How many there are on the node.
---@field looked_at? integer What the work grows with, where that is not `total`.
---@field skipped integer Not looked at: out of time, or they did not answer.
---@field rows table<string, table> By an id that lasts from pass to pass.
---@field top table<string, string[]> Ids by order, to be asked for by name: those of older passes
--- are made when somebody asks.
---@field tracked string[] The fields of rows that a history keeps for long.

---@class sweep.Pass
---@field swept_at number Unix ms.
---@field mono_ms number By the node's monotonic clock.
---@field took_ms number
---@field work_ms number
---@field errors table<string, { err: string, code: string }> By part that failed.
---@field tracks tracks.Tracks How the rows of this pass and those before went, for long.
---@field processes? sweep.Processes
---@field supervisors? sweep.Supervisors
---@field monitors? sweep.Monitors
---@field singletons? sweep.Singletons
---@field ports? sweep.Ports
---@field allocators? sweep.Allocators

---@class sweep.Sweep
local Sweep = {}
local sweep_mt = { __index = Sweep }

--- Creates the sweep of one node. Nothing runs until `start`, `wait` or `part`.
---@param opts { target: table, clock: clock.Clock, parts?: string[], min_interval_ms?: number,
--- patience_ms?: number, grace_ms?: number, gap_ms?: number, budget_ms?: number, small?: integer }
--- `parts`: default processes alone. `patience_ms` is how long a chunk of 2 000 processes may stay
--- unanswered (default 1000), `grace_ms` a process that is then asked by itself (default 500);
--- `small`: up to so many processes the rates of all are read (default 3000).
---@return sweep.Sweep
function M.new(opts)
  local self = setmetatable({
    target = opts.target,
    clock = opts.clock,
    min_interval_ms = opts.min_interval_ms or MIN_INTERVAL_MS,
    opts = opts,
    parts = {},
    passed = async.signal(),
    hastened = async.signal(),
  }, sweep_mt)
  self:need(opts.parts or { "processes" })
  return self:forget()
end

--- Adds parts, from the next pass on. Those that are made already stay as they are.
---@param names string[]
function Sweep:need(names)
  for _, name in ipairs(names) do
    if not self.parts[name] then
      local part = require("runtime.sweep." .. name).new(self.opts)
      part.costs = {}
      self.parts[name] = part
    end
  end
end

-- What is known of the node's processes ends with the node.
function Sweep:forget()
  self.pass, self.before, self.err, self.code = nil, nil, nil, nil
  self.tracks = tracks.new()
  for _, part in pairs(self.parts) do
    part:forget()
    part.costs = {}
  end
  return self
end

-- Makes one pass. It fails when all its parts do.
function Sweep:run()
  local pass = { errors = {}, took_ms = 0, work_ms = 0, tracks = self.tracks }
  local err, code
  for _, name in ipairs(M.PARTS) do
    local part = self.parts[name]
    if part then
      local result
      result, err, code = part:run(self.target, pass)
      if result then
        result.tracked = part.tracked
        shared.with(self.pass and self.pass[name], result)
        pass[name] = result
        self.tracks:add(name, result)
        pass.mono_ms = math.max(pass.mono_ms or result.mono_ms, result.mono_ms)
        pass.took_ms = pass.took_ms + result.took_ms
        pass.work_ms = pass.work_ms + result.work_ms
      else
        pass.errors[name] = { err = err, code = code }
      end
    end
  end
  if not pass.mono_ms then
    return nil, err, code
  end
  pass.swept_at = self.clock.wall_ms()
  return pass
end

-- What a part's work is. What it took on a busy node is no measure of that: the cheapest of the
-- last passes, per row, is.
local function cost_ms(part, result)
  local total = math.max(1, result.looked_at or result.total)
  table.insert(part.costs, 1, result.work_ms / total)
  part.costs[REMEMBERED_COSTS + 1] = nil
  return math.min(math.min(unpack(part.costs)) * total, BASE_COST_MS + COST_PER_ROW_MS * total)
end

-- How long after its start the next pass may begin.
function Sweep:interval_ms(pass)
  local sum = 0
  for name, part in pairs(self.parts) do
    if pass[name] then
      sum = sum + cost_ms(part, pass[name])
    end
  end
  return math.max(self.min_interval_ms, sum / SHARE)
end

-- Who leads is asked of the newest pass: of older ones only the rows are kept.
function Sweep:lighten(pass)
  for name, part in pairs(self.parts) do
    if part.ranking and pass[name] then
      pass[name].top = part.ranking:on_demand(pass[name].rows)
    end
  end
end

function Sweep:once()
  local pass, err, code = self:run()
  if pass then
    if self.before then
      self:lighten(self.before)
    end
    self.before, self.pass, self.err, self.code = self.pass, pass, nil, nil
  else
    self.err, self.code = err, code
  end
  self.passed:fire(true)
  return pass, err, code
end

function Sweep:loop()
  while true do
    if self.target:wait_up(60000) then
      local started_ms = self.clock.now_ms()
      local pass = self:once()
      self.pause_ms = pass and self:interval_ms(pass) or math.max(RETRY_MS, self.min_interval_ms)
      -- One that came before it was due: the time that is left counts on.
      self.due_ms = math.max(self.due_ms or 0, started_ms) + self.pause_ms
      self.hastened:wait(math.max(0, self.due_ms - self.clock.now_ms()))
    else
      async.sleep(RETRY_MS) -- a refusal ends that wait at once
    end
  end
end

--- Begins to sweep, as soon as the node is up.
function Sweep:start()
  if self.task then
    return
  end
  self.unsubscribe = self.target:subscribe(function(kind)
    if kind == "restarted" then
      self:forget()
    end
  end)
  self.task = async.spawn(function()
    self:loop()
  end, { name = "sweep", detached = true })
end

--- Brings the next pass forward, for who needs to know how the node is now. Nothing happens where
--- it comes soon anyway, as on small nodes, and while that of the last time is not made up for.
function Sweep:hasten()
  local left_ms = self.due_ms and self.due_ms - self.clock.now_ms() or 0
  if left_ms > self.min_interval_ms and left_ms <= self.pause_ms then
    self.hastened:fire(true)
  end
end

--- Ends. A pass under way is abandoned: nothing of it stays on the node.
function Sweep:stop()
  if self.task then
    self.unsubscribe()
    self.task:cancel()
    self.task, self.unsubscribe = nil, nil
    self.passed:fire(true)
  end
end

--- The last pass, or nil.
---@return sweep.Pass?
function Sweep:latest()
  return self.pass
end

--- The last pass, or the first one as soon as it is there. A sweep that was not started makes one.
---@async
---@param timeout_ms number
---@return sweep.Pass?
---@return string? err
---@return string? code `"ETIMEDOUT"`, or what the first pass failed with.
function Sweep:wait(timeout_ms)
  if self.pass then
    return self.pass
  end
  if not self.task then
    return self:once()
  end
  local woken = self.passed:wait(timeout_ms)
  if self.pass then
    return self.pass
  elseif woken and self.err then
    return nil, self.err, self.code
  end
  return nil, ("ETIMEDOUT: no sweep of %s within %d ms%s"):format(
    self.target.node, timeout_ms, self.err and ": " .. self.err or ""), "ETIMEDOUT"
end

--- What the last pass found in one part, or the first pass as soon as it is there.
---@async
---@param name string One of `M.PARTS`.
---@param timeout_ms number
---@return table? result
---@return string? err
---@return string? code As of `wait`, or what this part failed with; `"ENOSWEEP"`: nobody needs it.
---@return sweep.Pass? pass That has it.
function Sweep:part(name, timeout_ms)
  if not self.parts[name] then
    return nil, ("ENOSWEEP: nothing sweeps the %s of %s"):format(name, self.target.node),
      "ENOSWEEP"
  end
  local deadline = async.deadline(timeout_ms)
  local pass, err, code = self:wait(timeout_ms)
  if pass and not pass[name] and not pass.errors[name] then
    -- That pass was made before anybody needed this part.
    self.passed:wait(deadline:left_ms())
    pass = self.pass
  end
  if not pass then
    return nil, err, code
  elseif not pass[name] then
    local failure = pass.errors[name] or { err = "ETIMEDOUT: not swept yet", code = "ETIMEDOUT" }
    return nil, failure.err, failure.code
  end
  return pass[name], nil, nil, pass
end

return M
