--- Keeps a ledger's spending in the store, so that a restart does not refill a budget.
---
--- A part of runtime/store/keeper.lua. Requests under way are written as they are estimated.

local rows = require("runtime.store.rows")

local M = {}

local READ = "SELECT account, budget, start_ms, used, is_told FROM spending WHERE start_ms > ?1"
local PUT = [[
INSERT INTO spending (account, budget, start_ms, used, is_told)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
FROM json_each($ROWS) WHERE true
ON CONFLICT (account, budget) DO UPDATE SET start_ms = excluded.start_ms, used = excluded.used,
  is_told = excluded.is_told]]
-- No window is longer than a day: what is older says nothing.
local LOOK_BACK_MS = 2 * 86400000

---@class spending_store.Part: store_keeper.Part
local Part = {}
local part_mt = { __index = Part }

-- A key is a window with the name of its account, kept in `accounts`.
local function row_of(self, window)
  return { self.accounts[window], window.kind, window.start_ms, window.used + window.under_way,
    (window.is_told and 1 or 0) + (window.is_calm_told and 2 or 0) }
end

local function all_windows(self)
  local list = {}
  for name, account in pairs(self.ledger.accounts) do
    for _, window in pairs(account.windows) do
      self.accounts[window] = name
      list[#list + 1] = window
    end
  end
  return list
end

--- Creates the part.
---@param opts { ledger: spending.Ledger, clock: clock.Clock }
---@return spending_store.Part
function M.new(opts)
  local self = setmetatable({ ledger = opts.ledger, clock = opts.clock,
    accounts = setmetatable({}, { __mode = "k" }) }, part_mt)
  self.changed = rows.new({
    put = PUT,
    row = function(window)
      return row_of(self, window)
    end,
    keys = function()
      return all_windows(self)
    end,
  })
  self.rows = { self.changed }
  return self
end

--- Reads what was spent before; see runtime/store/keeper.lua.
---@async
function Part:read(query)
  return query(READ, self.clock.wall_ms() - LOOK_BACK_MS)
end

--- Gives it to the ledger.
---@param found any[][]
function Part:restore(found)
  local list = {}
  for i, row in ipairs(found) do
    list[i] = { account = row[1], budget = row[2], start_ms = row[3], used = row[4],
      is_told = row[5] % 2 == 1, is_calm_told = row[5] >= 2 }
  end
  self.ledger:restore(list)
end

--- Notes a change: what a ledger takes as `on_change`.
---@param account string
---@param window spending.Window
function Part:note(account, window)
  if self.keeper then
    self.accounts[window] = account
    self.keeper:note(self.changed, window)
  end
end

return M
