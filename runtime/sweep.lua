--- The sweep: one shared pass over all processes of a node, for every domain, watcher and script.
---
--- A pass keeps the best 50 by memory, mailbox, reductions, and by the growth of the last two over
--- one second. It costs at most 1 % of one scheduler on average: the next one begins a hundred
--- times its work later, and not before 10 s. See runtime/sweep/source.lua for what runs there.
---
---   local s = sweep.new({ target = target, clock = clock })
---   s:start()
---   local pass = assert(s:wait(5000))
---   pass.processes[pass.top.memory[1]].name

local async = require("runtime.async")
local names = require("runtime.names")
local source = require("runtime.sweep.source")

local M = {}

local TOP = 50
local SMALL = 3000
local BUDGET_MS = 10000
local GAP_MS = 1000
local TIMEOUT_MS = 30000
local MIN_INTERVAL_MS = 10000
local SHARE = 0.01
local RETRY_MS = 2000
local REMEMBERED_COSTS = 20
local BASE_COST_MS = 100 -- no pass costs more than this and 10 µs per process, however long it took
local COST_PER_PROCESS_MS = 0.01
local MAX_COPIED_BYTES = 64 * 1024 * 1024
local IDLE_REDUCTIONS = 16 -- so far may the figure of an idle process be behind
local ORDERS = {
  memory = "memory_kb", message_queue = "message_queue", reductions = "reductions",
  reductions_per_s = "reductions_per_s", message_queue_per_s = "message_queue_per_s",
}

---@class sweep.Row
---@field pid string `<0.123.0>`
---@field name string Registered name, else label, else initial call.
---@field subject string The name without what differs between processes of one kind; never a pid.
---@field registered boolean
---@field memory_kb number
---@field message_queue number
---@field reductions number
---@field reductions_per_s? number Over the last second of the pass; nil when it died meanwhile.
---@field message_queue_per_s? number
---@field current_function? string
---@field status string

---@class sweep.Pass
---@field swept_at number Unix ms.
---@field mono_ms number By the node's monotonic clock.
---@field took_ms number With the second between the two readings of rates.
---@field work_ms number Without it.
---@field total integer Processes on the node.
---@field skipped integer Not looked at: out of time, or they did not answer.
---@field unanswered string[] The pids that did not answer, at most 100.
---@field partial boolean
---@field processes table<string, sweep.Row> By pid. Passes share the rows of idle processes.
---@field top table<string, string[]> Pids by order, at most 50 each.

---@class sweep.Sweep
local Sweep = {}
local sweep_mt = { __index = Sweep }

--- Creates the sweep of one node. Nothing runs until `start` or `wait`.
---@param opts { target: table, clock: clock.Clock, min_interval_ms?: number, patience_ms?: number,
--- grace_ms?: number, gap_ms?: number, budget_ms?: number, small?: integer } `patience_ms` is how
--- long a chunk of 2 000 processes may stay unanswered (default 1000), `grace_ms` a process that
--- is then asked by itself (default 500); `small`: up to so many processes the rates of all are
--- read (default 3000).
---@return sweep.Sweep
function M.new(opts)
  return setmetatable({
    target = opts.target,
    clock = opts.clock,
    min_interval_ms = opts.min_interval_ms or MIN_INTERVAL_MS,
    bindings = {
      Budget = opts.budget_ms or BUDGET_MS,
      Patience = opts.patience_ms or 1000,
      Grace = opts.grace_ms or 500,
      Gap = opts.gap_ms or GAP_MS,
      Top = TOP,
      Small = opts.small or SMALL,
      Copy = MAX_COPIED_BYTES,
    },
    passed = async.signal(),
  }, sweep_mt):forget()
end

-- What is known of the node's processes ends with the node.
function Sweep:forget()
  self.pass, self.err, self.code = nil, nil, nil
  self.hints, self.named, self.avoid = {}, {}, {}
  self.name_of = {}
  self.costs = {}
  return self
end

local function row_name(self, pid, registered, found, initial)
  if type(registered) == "string" and registered ~= "undefined" then
    return names.atom(registered), true
  end
  local label = type(found) == "table" and found[1]
  local call = type(found) == "table" and found[2]
  if type(label) == "string" and label ~= "undefined" then
    self.name_of[pid] = names.label(label)
  elseif type(call) == "table" then
    self.name_of[pid] = names.mfa(call)
  end
  return self.name_of[pid] or (type(initial) == "table" and names.mfa(initial)) or "unknown", false
end

local function round(number, digits)
  local scale = 10 ^ digits
  return math.floor(number * scale + 0.5) / scale
end

local function read_row(self, tuple)
  local pid = tostring(tuple[1])
  local name, registered = row_name(self, pid, tuple[2], tuple[3], tuple[4])
  local rates = type(tuple[10]) == "table" and tuple[10]
  return {
    pid = pid,
    name = name,
    subject = names.stable(name),
    registered = registered,
    current_function = type(tuple[5]) == "table" and names.mfa(tuple[5]) or nil,
    status = tuple[6],
    memory_kb = math.floor(tuple[7] / 1024 + 0.5),
    message_queue = tuple[8],
    reductions = tuple[9],
    reductions_per_s = rates and round(rates[1], 0) or nil,
    message_queue_per_s = rates and round(rates[2], 1) or nil,
  }
end

-- The row of the pass before where nothing happened since: passes are kept, and most processes are
-- idle. To be looked at costs one some 3 reductions each time.
local function unless_idle(row, before)
  if not before or row.reductions - before.reductions > IDLE_REDUCTIONS then
    return row
  end
  for field, value in pairs(row) do
    if before[field] ~= value and field ~= "reductions" then
      return row
    end
  end
  for field in pairs(before) do
    if row[field] == nil then
      return row
    end
  end
  return before
end

local function ranked(rows, field)
  local list = {}
  for _, row in pairs(rows) do
    if row[field] then
      list[#list + 1] = row
    end
  end
  table.sort(list, function(a, b)
    if a[field] ~= b[field] then
      return a[field] > b[field]
    elseif a.memory_kb ~= b.memory_kb then
      return a.memory_kb > b.memory_kb
    end
    return a.pid < b.pid
  end)
  local pids = {}
  for i = 1, math.min(TOP, #list) do
    pids[i] = list[i].pid
  end
  return pids
end

-- What the next pass is told: whose rates to read, whose name is known, who did not answer.
function Sweep:remember(pass, terms)
  local hints, named, name_of = {}, {}, {}
  for _, order in ipairs({ "reductions_per_s", "message_queue_per_s" }) do
    for _, pid in ipairs(pass.top[order]) do
      hints[#hints + 1] = terms[pid]
    end
  end
  for pid in pairs(pass.processes) do
    if self.name_of[pid] then
      name_of[pid] = self.name_of[pid]
      named[#named + 1] = terms[pid]
    end
  end
  self.hints, self.named, self.name_of = hints, named, name_of
end

function Sweep:read(answer)
  local rows, terms = {}, {}
  local last = self.pass and self.pass.processes or {}
  for _, tuple in ipairs(answer[1]) do
    local row = read_row(self, tuple)
    row = unless_idle(row, last[row.pid])
    rows[row.pid], terms[row.pid] = row, tuple[1]
  end
  local unanswered = {}
  for i, term in ipairs(answer[4]) do
    unanswered[i] = tostring(term)
  end
  self.avoid = answer[4]
  local pass = {
    swept_at = self.clock.wall_ms(),
    total = answer[2],
    skipped = answer[3],
    unanswered = unanswered,
    partial = answer[3] > 0,
    mono_ms = answer[5],
    took_ms = answer[6],
    work_ms = answer[7],
    processes = rows,
    top = {},
  }
  for order, field in pairs(ORDERS) do
    pass.top[order] = ranked(rows, field)
  end
  self:remember(pass, terms)
  return pass
end

-- Makes one pass.
function Sweep:run()
  local count, err, code = self.target:call("erlang", "system_info",
    { require("host.dist").atom("process_count") }, { timeout_ms = 5000 })
  if not count then
    return nil, err, code
  end
  local bindings = { Hints = self.hints, Named = self.named, Avoid = self.avoid }
  for name, value in pairs(self.bindings) do
    bindings[name] = value
  end
  local answer
  answer, err, code = self.target:eval(source, bindings, {
    timeout_ms = TIMEOUT_MS,
    -- The list of all pids, a copy of it, and what 2 000 answers take.
    max_heap_words = 4 * 1024 * 1024 + 12 * count,
  })
  if not answer then
    return nil, err, code
  end
  return self:read(answer)
end

-- How long after its start the next pass may begin. What a pass took on a busy node is no measure
-- of its work: the cheapest of the last passes, per process, is.
function Sweep:interval_ms(pass)
  local total = math.max(1, pass.total)
  table.insert(self.costs, 1, pass.work_ms / total)
  self.costs[REMEMBERED_COSTS + 1] = nil
  local cost = math.min(math.min(unpack(self.costs)) * total,
    BASE_COST_MS + COST_PER_PROCESS_MS * total)
  return math.max(self.min_interval_ms, cost / SHARE)
end

function Sweep:once()
  local pass, err, code = self:run()
  if pass then
    self.pass, self.err, self.code = pass, nil, nil
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
      local pause_ms = pass and started_ms + self:interval_ms(pass) - self.clock.now_ms()
        or math.max(RETRY_MS, self.min_interval_ms)
      async.sleep(math.max(0, pause_ms))
    else
      async.sleep(RETRY_MS) -- a refusal ends the wait at once
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
  return nil, ("ETIMEDOUT: no sweep of the processes of %s within %d ms%s"):format(
    self.target.node, timeout_ms, self.err and ": " .. self.err or ""), "ETIMEDOUT"
end

return M
