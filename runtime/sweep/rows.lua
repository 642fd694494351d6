--- Rows of passes that say the same: passes are kept, and most processes are idle, so that a row is
--- shared by all passes in which nothing happened to its process.

local M = {}

--- So far may `reductions` of a shared row be behind. To be looked at costs a process some 3 to 4
--- each time.
M.IDLE_REDUCTIONS = 16

--- The row of the pass before where nothing happened since, else the new one.
---@generic Row: { reductions: number }
---@param row Row
---@param before? Row
---@return Row
function M.unless_idle(row, before)
  if not before or row.reductions - before.reductions > M.IDLE_REDUCTIONS then
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

return M
