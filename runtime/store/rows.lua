--- The rows of one table of the store that have changed and are not written yet.
---
--- Only keys are remembered; what a row holds is asked for when it is written, so that many changes
--- of one row are one write, and a row that is no more is deleted. Its owner keeps the truth: after
--- a failure all rows are written again, and what else is in the table goes.

local json = require("runtime.json")

local M = {}

-- At most so many rows of a table, and about so many bytes, in one transaction.
local MAX_ROWS, MAX_BYTES = 500, 1024 * 1024

---@class store_rows.Rows
local Rows = {}
local rows_mt = { __index = Rows }

--- Rows that are all written.
---@param opts { put: string, delete?: string, prune?: string, row: (fun(key: any): any[]?),
--- key?: (fun(key: any): any[]), keys: fun(): any[] }
--- `put`, `delete` and `prune` are SQL in which $ROWS stands for a list of rows in JSON: of `row`s,
--- nil for one that is no more, or of `key`s; `prune` deletes all rows but those. `keys` lists the
--- keys of all rows.
---@return store_rows.Rows
function M.new(opts)
  return setmetatable({ opts = opts, due = {} }, rows_mt)
end

--- Notes that a row has changed.
---@param key any
---@param due_ms number When it is to be written at the latest, by a monotonic clock.
function Rows:touch(key, due_ms)
  local before = self.due[key]
  if not before or due_ms < before then
    self.due[key] = due_ms
  end
end

--- Has all rows written, and all others deleted.
function Rows:touch_all()
  self.due, self.prunes = {}, self.opts.prune ~= nil
  for _, key in ipairs(self.opts.keys()) do
    self.due[key] = 0
  end
end

--- Forgets what has changed.
function Rows:forget()
  self.due, self.prunes = {}, false
end

local function next_due(self)
  local first
  for _, due_ms in pairs(self.due) do
    first = math.min(first or due_ms, due_ms)
  end
  return first
end

--- When the next row is to be written; nil when all are.
---@return number?
function Rows:due_ms()
  return self.prunes and 0 or next_due(self)
end

local function collect(self, until_ms)
  local put, gone, bytes = {}, {}, 0
  for key, due_ms in pairs(self.due) do
    if #put + #gone >= MAX_ROWS or bytes >= MAX_BYTES then
      break
    elseif due_ms <= until_ms then
      self.due[key] = nil
      local row = self.opts.row(key)
      if row then
        put[#put + 1] = json.encode(row)
        bytes = bytes + #put[#put]
      else
        gone[#gone + 1] = json.encode(self.opts.key(key))
      end
    end
  end
  return put, gone
end

local function statement(sql, encoded)
  return { sql = sql, rows = "[" .. table.concat(encoded, ",") .. "]" }
end

--- Takes the rows that are due, as statements to be run; the rest of very many comes next time.
---@param until_ms number
---@return { sql: string, rows: string }[]
function Rows:take(until_ms)
  local list = {}
  local put, gone = collect(self, until_ms)
  if put[1] then
    list[#list + 1] = statement(self.opts.put, put)
  end
  if gone[1] and self.opts.delete then
    list[#list + 1] = statement(self.opts.delete, gone)
  end
  local left = next_due(self)
  if self.prunes and not (left and left <= until_ms) then
    self.prunes = false
    local keys = {}
    for i, key in ipairs(self.opts.keys()) do
      keys[i] = json.encode(self.opts.key(key))
    end
    list[#list + 1] = statement(self.opts.prune, keys)
  end
  return list
end

return M
