--- Keeps a ledger's spending in the store, so that a restart does not refill a budget.
---
--- One writer at a time writes all that has changed; requests under way are written as they are
--- estimated. A store that fails is told once, and the ledger goes on from memory.

local async = require("runtime.async")
local json = require("runtime.json")

local M = {}

-- `is_told` is 1 where it was said that a budget is spent, 2 where that calm watching has used its
-- share of it, and 3 where both.
local SCHEMA = [[
CREATE TABLE IF NOT EXISTS spending (
  account TEXT NOT NULL, budget TEXT NOT NULL, start_ms INTEGER NOT NULL, used REAL NOT NULL,
  is_told INTEGER NOT NULL, PRIMARY KEY (account, budget)) WITHOUT ROWID]]
local READ = "SELECT account, budget, start_ms, used, is_told FROM spending WHERE start_ms > ?1"
local WRITE = [[
INSERT INTO spending (account, budget, start_ms, used, is_told)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?1) WHERE true
ON CONFLICT (account, budget) DO UPDATE SET start_ms = excluded.start_ms, used = excluded.used,
  is_told = excluded.is_told]]
-- No window is longer than a day: what is older says nothing.
local LOOK_BACK_MS = 2 * 86400000

---@class spending_store.Keeper
local Keeper = {}
local keeper_mt = { __index = Keeper }

--- Creates a keeper; `restore` reads what is there.
---@param opts { store: store.Store, clock: clock.Clock, warn: fun(text: string) }
---@return spending_store.Keeper
function M.new(opts)
  return setmetatable({ store = opts.store, clock = opts.clock, warn = opts.warn, changed = {},
    idle = async.signal() }, keeper_mt)
end

local function fail(self, err)
  if not self.has_failed then
    self.has_failed = true
    self.warn(("the store %s: %s; spending is kept in memory alone, and a restart forgets it")
      :format(self.store.path, tostring(err):gsub("^E%u+: ", "")))
  end
end

--- Gives a ledger what was spent before.
---@async
---@param ledger spending.Ledger
function Keeper:restore(ledger)
  local ok, err = self.store:query(SCHEMA)
  local rows
  if ok then
    rows, err = self.store:query(READ, self.clock.wall_ms() - LOOK_BACK_MS)
  end
  if not rows then
    fail(self, err)
    -- What could not be read must not be overwritten by less.
    self.is_off = true
    return
  end
  for i, row in ipairs(rows) do
    rows[i] = { account = row[1], budget = row[2], start_ms = row[3], used = row[4],
      is_told = row[5] % 2 == 1, is_calm_told = row[5] >= 2 }
  end
  ledger:restore(rows)
end

-- Writes until nothing has changed since.
local function write_all(self)
  while next(self.changed) do
    local rows = {}
    for window, account in pairs(self.changed) do
      rows[#rows + 1] = { account, window.kind, window.start_ms, window.used + window.under_way,
        (window.is_told and 1 or 0) + (window.is_calm_told and 2 or 0) }
    end
    self.changed = {}
    table.sort(rows, function(a, b)
      return a[1] .. a[2] < b[1] .. b[2]
    end)
    local ok, err = self.store:query(WRITE, json.encode(rows))
    if not ok then
      fail(self, err)
    end
  end
end

--- Notes a change: what a ledger takes as `on_change`.
---@param account string
---@param window spending.Window
function Keeper:note(account, window)
  if self.is_off then
    return
  end
  self.changed[window] = account
  if self.writes then
    return
  end
  self.writes = true
  async.spawn(function()
    -- Changes of the same turn of the loop go together.
    async.sleep(0)
    write_all(self)
    self.writes = false
    self.idle:fire()
  end, { name = "spending", detached = true, on_error = function(err)
    self.writes = false
    fail(self, err)
  end })
end

--- Waits until all is written.
---@async
---@param timeout_ms number
function Keeper:flush(timeout_ms)
  if self.writes then
    self.idle:wait(timeout_ms)
  end
end

return M
