--- Rows of passes that say the same: passes are kept, and most processes are idle, so that a row is
--- shared by all passes in which nothing happened to its process. Where only `reductions` moved, as
--- they do when a process is looked at, the new row has nothing else of its own.

local M = {}

--- So far may `reductions` of a shared row be behind. To be looked at costs a process some 3 to 4
--- each time.
M.IDLE_REDUCTIONS = 16

-- The row that has the fields of another one.
local function whole_of(row)
  local mt = getmetatable(row)
  return mt and mt.__index or row
end

--- The row of the pass before where nothing happened since, else one that says what the new one
--- does. Its fields are to be asked for by name.
---@generic Row: { reductions: number }
---@param row Row
---@param before? Row
---@return Row
function M.unless_idle(row, before)
  if not before then
    return row
  end
  local whole = whole_of(before)
  for field, value in pairs(row) do
    if whole[field] ~= value and field ~= "reductions" then
      return row
    end
  end
  for field in pairs(whole) do
    if row[field] == nil then
      return row
    end
  end
  if row.reductions - before.reductions <= M.IDLE_REDUCTIONS then
    return before
  end
  return setmetatable({ reductions = row.reductions },
    getmetatable(before) or { __index = before })
end

--- A row as a table that can be gone through.
---@generic Row: table
---@param row Row
---@return Row
function M.whole(row)
  local whole = whole_of(row)
  if whole == row then
    return row
  end
  local copy = {}
  for _, from in ipairs({ whole, row }) do
    for field, value in pairs(from) do
      copy[field] = value
    end
  end
  return copy
end

return M
