--- Keeps what is to outlive the host in the store: reads it at the start, writes what changes, a
--- transaction for all that came together, and goes on from memory while the store fails.
---
--- What is kept belongs to parts (runtime/spending_store.lua); they are the truth, the file is
--- their copy. A store that fails is told once (`store.failed`) and tried again with backoff; when
--- it works again all of it is written (`store.recovered`). A file that is broken is set aside,
--- never deleted, and a new one begun.
---
---   local keeper = store_keeper.new({ path = path, parts = { spending }, … })
---   local ok, err, code, pid = keeper:open()      -- nil: the store has another owner
---   keeper:start()

local async = require("runtime.async")
local failures = require("runtime.store.failures")
local schema = require("runtime.store.schema")
local set_aside = require("runtime.store.set_aside")
local store = require("runtime.store")
local teller = require("runtime.store.teller")
local world = require("runtime.world")

local M = {}

local FIRST_RETRY_MS, MAX_RETRY_MS = 1000, 60000
-- The least time from one transaction to the next, whatever the hurry.
local GAP_MS = 100
-- A transaction takes along what is due so soon after it.
local TOGETHER_MS = 1000

---@class store_keeper.Part
---@field rows store_rows.Rows[] What of it has changed.
---@field read async fun(self, query: function): any, string?, string? Reads what is there, and
--- changes nothing; nil and an error when it cannot be read.
---@field restore fun(self, found: any, is_late: boolean) Takes over what was read; `is_late` when
--- the host has been running without it.
---@field keeper? store_keeper.Keeper Set by the keeper.

---@class store_keeper.Keeper
local Keeper = {}
local keeper_mt = { __index = Keeper }

--- A keeper that has opened nothing yet.
---@param opts { path: string, parts: store_keeper.Part[], clock: clock.Clock,
--- telemetry: telemetry.Bus, warn: fun(text: string), retry_ms?: { first: number, max: number } }
--- `warn` tells people; `retry_ms` is the pause before the store is tried again, 1 s doubling to
--- 1 min.
---@return store_keeper.Keeper
function M.new(opts)
  local retry = opts.retry_ms or { first = FIRST_RETRY_MS, max = MAX_RETRY_MS }
  local self = setmetatable({ path = opts.path, parts = opts.parts, clock = opts.clock,
    warn = opts.warn, retry = retry, retry_ms = retry.first, teller = teller.new(opts),
    wake = async.signal(), idle = async.signal(), wrote_ms = -math.huge }, keeper_mt)
  for _, part in ipairs(self.parts) do
    part.keeper = self
  end
  return self
end

--- Emits an event of the store.
---@param event string Without `beamlens.store.`.
---@param measurements table
---@param metadata table
function Keeper:emit(event, measurements, metadata)
  self.teller:emit(event, measurements, metadata)
end

-- What was remembered of changes says nothing any more: all is written when the store works again.
function Keeper:failed(err, code)
  self.is_ready = false
  for _, part in ipairs(self.parts) do
    for _, rows in ipairs(part.rows) do
      rows:forget()
    end
  end
  self.teller:failed(err, code, self.retry_ms)
  if self.store and code ~= "ETIMEDOUT" then
    self.store:drop()
  end
end

-- Moves a broken file out of the way before SQLite closes it.
function Keeper:set_aside(err)
  local aside, aside_err = world.value("set aside", function()
    return set_aside.move(self.path, self.clock.wall_ms())
  end)
  self.store:drop()
  if not aside then
    return nil, ("EBROKEN: %s, and it cannot be set aside: %s"):format(failures.plain(err),
      aside_err), "EBROKEN"
  end
  self.teller:set_aside(err, aside)
  return true
end

-- Reads all parts, once; only then they take over what was there.
function Keeper:restore()
  if self.was_read then
    return true
  end
  local found = {}
  local function query(...)
    return self.store:query(...)
  end
  for i, part in ipairs(self.parts) do
    local err, code
    found[i], err, code = part:read(query)
    if found[i] == nil then
      return nil, err, code
    end
  end
  self.was_read = true
  self.is_restoring = true -- what changes by that is to be written
  for i, part in ipairs(self.parts) do
    part:restore(found[i], self.has_started == true)
  end
  self.is_restoring = false
  return true
end

local function attempt(self)
  local ok, err, code, pid
  if not self.store then
    self.store, err, code, pid = store.open({ path = self.path })
    if not self.store then
      return nil, err, code, pid
    end
  end
  ok, err, code = schema.prepare(self.store)
  if ok then
    ok, err, code = self:restore()
  end
  return ok, err, code
end

-- Opens the file, or a new one in the place of one that is broken.
function Keeper:attempt()
  local ok, err, code, pid = attempt(self)
  if not ok and code == "EBROKEN" and self.store then
    ok, err, code = self:set_aside(err)
    if ok then
      ok, err, code = attempt(self)
    end
  end
  self.is_ready = ok == true
  return ok, err, code, pid
end

local function due_ms(self)
  local first
  for _, part in ipairs(self.parts) do
    for _, rows in ipairs(part.rows) do
      local due = rows:due_ms()
      first = due and math.min(first or due, due) or first
    end
  end
  return first
end

-- One transaction with all that is due. True also when nothing was.
local function write_once(self, until_ms)
  local sql, params = {}, {}
  for _, part in ipairs(self.parts) do
    for _, rows in ipairs(part.rows) do
      for _, statement in ipairs(rows:take(until_ms)) do
        params[#params + 1] = statement.rows
        sql[#sql + 1] = statement.sql:gsub("%$ROWS", "?" .. #params)
      end
    end
  end
  if not sql[1] then
    return true
  end
  self.is_writing = true
  local ok, err, code = self.store:query(("BEGIN IMMEDIATE; %s; COMMIT"):format(
    table.concat(sql, "; ")), unpack(params))
  self.is_writing, self.wrote_ms = false, self.clock.now_ms()
  return ok and true, err, code
end

-- Writes until nothing is due, each time with what will soon be.
function Keeper:write()
  local now_ms = self.flushes and math.huge or self.clock.now_ms()
  local due
  repeat
    local ok, err, code = write_once(self, now_ms + TOGETHER_MS)
    if not ok then
      self:failed(err, code)
      return
    end
    due = due_ms(self)
  until not due or due > now_ms
end

function Keeper:recover()
  for _, part in ipairs(self.parts) do
    for _, rows in ipairs(part.rows) do
      rows:touch_all()
    end
  end
  self:write()
  if self.is_ready then
    self.retry_ms = self.retry.first
    self.teller:recovered()
  end
end

-- Waits until rows are due, together with those of the same turn of the loop.
local function wait_due(self)
  while true do
    local now_ms, due = self.clock.now_ms(), due_ms(self)
    local left_ms = due and (self.flushes and 0
      or math.max(due, self.wrote_ms + GAP_MS) - now_ms)
    if left_ms and left_ms <= 0 then
      async.sleep(0)
      return
    end
    if not due then
      self.idle:fire() -- whoever waited for that runs now, and may note changes
    end
    if due or not due_ms(self) then
      self.wake_at_ms = due
      self.wake:wait(left_ms)
      self.wake_at_ms = nil
    end
  end
end

function Keeper:run()
  while true do
    if self.is_ready and self.teller:is_failing() then
      self:recover()
    elseif self.is_ready then
      wait_due(self)
      self:write()
    else
      self.idle:fire()
      async.sleep(self.retry_ms)
      self.retry_ms = math.min(self.retry.max, self.retry_ms * 2)
      local ok, err, code = self:attempt()
      if not ok then
        self:failed(err, code)
      end
    end
  end
end

--- Becomes the owner of the store, and gives the parts what it holds. Whatever is wrong with it,
--- the parts go on from memory.
---@async
---@return true? ok
---@return string? err
---@return string? code `ELOCKED`: another process is the owner.
---@return integer? pid Of that process.
function Keeper:open()
  local ok, err, code, pid = self:attempt()
  if not ok and code == "ELOCKED" then
    return nil, err, code, pid
  elseif not ok then
    self:failed(err, code)
  end
  return true
end

--- Begins to write. Failures are events from now on; what failed before is told now.
function Keeper:start()
  self.has_started = true
  self.teller:start()
  self.task = async.spawn(self.run, { name = "store", detached = true, on_error = function(err)
    self.is_ready = false
    self.warn(("the store %s is not kept any more: %s"):format(self.path, err))
  end }, self)
end

--- Notes that a row of a part has changed.
---@param rows store_rows.Rows
---@param key any
---@param within_ms? number How soon it is to be written. Default: at once.
function Keeper:note(rows, key, within_ms)
  if not self.is_ready and not self.is_restoring then
    return
  end
  local due = self.clock.now_ms() + (within_ms or 0)
  rows:touch(key, due)
  if self.task and (not self.wake_at_ms or due < self.wake_at_ms) then
    self.wake:fire()
  end
end

--- Writes what has changed, and waits until that is done.
---@async
---@param timeout_ms number
function Keeper:flush(timeout_ms)
  if self.task and not self.task.done and self.is_ready
    and (self.is_writing or due_ms(self)) then
    self.flushes = true
    self.wake:fire()
    self.idle:wait(timeout_ms)
    self.flushes = false
  end
end

--- Ends. What was not written is lost.
function Keeper:close()
  if self.task then
    self.task:cancel()
  end
  if self.store then
    self.store:close()
  end
  self.is_ready = false
end

return M
