--- Passes of the sweep are kept for minutes, and on most nodes most of what one finds is what the
--- one before found. So each keeps the tables of the one before wherever they say the same.

local M = {}

-- The old value where both say the same, else the new one, with what is the same inside it shared.
local function share(old, new)
  if rawequal(old, new) then
    return old
  elseif type(old) ~= "table" or type(new) ~= "table" then
    return old == new and old or new
  end
  local is_same = true
  for key, value in pairs(new) do
    local kept = share(old[key], value)
    if not rawequal(kept, value) then
      new[key] = kept
    end
    is_same = is_same and rawequal(kept, old[key])
  end
  if is_same then
    for key in pairs(old) do
      if new[key] == nil then
        return new
      end
    end
    return old
  end
  return new
end

--- Shares what is the same in the results of one part in two passes. Nobody may change what is in
--- them afterwards.
---@param before? sweep.Result
---@param result sweep.Result
---@return sweep.Result result The one that was given.
function M.with(before, result)
  if before then
    for key, value in pairs(result) do
      result[key] = share(before[key], value)
    end
  end
  return result
end

return M
