--- The part of the sweep that looks at ETS tables: the best 50 by memory and by size, and how many
--- there are of each name. See runtime/sweep/tables_source.lua for what runs on the node.

local names = require("runtime.names")
local ranking = require("runtime.sweep.ranking")
local source = require("runtime.sweep.tables_source")

local M = {}

local GROUPS = 20
local BUDGET_MS = 5000
local PATIENCE_MS = 500
local TIMEOUT_MS = 15000
local MAX_HEAP_WORDS = 16 * 1024 * 1024
local RANKING = ranking.new({ orders = { memory = "memory_kb", size = "size" }, id = "id",
  is_before = function(a, b)
    return a.id < b.id
  end })

---@class sweep.TableRow
---@field id string Its name, or `#Ref<0.1.2.3>` of one without.
---@field name string As given to `ets:new/2`.
---@field subject string The name; of an unnamed table with its owner's. Never a reference or a pid.
---@field named boolean
---@field owner string The owner's pid.
---@field owner_name string Registered name, else label, else initial call.
---@field type string
---@field protection string
---@field size integer Objects.
---@field memory_kb integer
---@field compressed boolean

---@class sweep.Tables: sweep.Result
---@field rows table<string, sweep.TableRow> By id.
---@field total_mb number Of all tables that were looked at.
---@field groups { name: string, count: integer }[] The 20 names that most tables have.

---@class sweep.TablePart
local Part = {}
local part_mt = { __index = Part }

--- Creates the part of one node.
---@param opts? { tables_ms?: number } See `sweep.new`. `tables_ms` bounds the walk (default 5000).
---@return sweep.TablePart
function M.new(opts)
  return setmetatable({
    budget_ms = opts and opts.tables_ms or BUDGET_MS,
    tracked = { "memory_kb", "size" },
    ranking = RANKING,
  }, part_mt)
end

--- Nothing is kept from pass to pass.
function Part:forget()
  return self
end

local function owner_name(registered, called)
  if type(registered) == "string" and registered ~= "undefined" then
    return names.atom(registered)
  end
  local label = type(called) == "table" and called[1]
  local call = type(called) == "table" and called[2]
  if type(label) == "string" and label ~= "undefined" then
    return names.label(label)
  end
  return type(call) == "table" and names.mfa(call) or "unknown"
end

local function read_row(tuple, wordsize)
  local is_named = tuple[3]
  local name, owner = names.atom(tuple[2]), owner_name(tuple[5], tuple[6])
  return {
    id = is_named and names.atom(tuple[1]) or names.clean(tuple[1]),
    name = name,
    subject = is_named and name or ("%s of %s"):format(name, names.stable(owner)),
    named = is_named,
    owner = tostring(tuple[4]),
    owner_name = owner,
    type = tuple[7],
    protection = tuple[8],
    size = tuple[9],
    memory_kb = math.floor(tuple[10] * wordsize / 1024 + 0.5),
    compressed = tuple[11],
  }
end

--- Looks at all tables of a node.
---@async
---@param target table
---@param top integer How many of each order.
---@param budget_ms? number
---@return sweep.Tables?
---@return string? err
---@return string? code
function M.read(target, top, budget_ms)
  local answer, err, code = target:eval(source,
    { Budget = budget_ms or BUDGET_MS, Patience = PATIENCE_MS, Top = top, GroupsTop = GROUPS },
    { timeout_ms = TIMEOUT_MS, max_heap_words = MAX_HEAP_WORDS })
  if not answer then
    return nil, err, code
  end
  local rows, groups = {}, {}
  for _, tuple in ipairs(answer[1]) do
    local row = read_row(tuple, answer[6])
    rows[row.id] = row
  end
  for i, group in ipairs(answer[5]) do
    groups[i] = { name = names.atom(group[1]), count = group[2] }
  end
  return {
    rows = rows,
    total = answer[2],
    skipped = answer[3],
    total_mb = answer[4] * answer[6] / 1024 / 1024,
    groups = groups,
    mono_ms = answer[7],
    took_ms = answer[8],
    work_ms = answer[8],
    top = RANKING:of(rows, top),
  }
end

--- Makes one pass.
---@async
---@param target table
---@return sweep.Tables?
---@return string? err
---@return string? code
function Part:run(target)
  return M.read(target, ranking.MOST, self.budget_ms)
end

return M
