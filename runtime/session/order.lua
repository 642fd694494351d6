--- A `pairs` whose order is the same in each process: numbers, then texts, both ascending.
---
--- LuaJIT's own goes by hashes with a seed of the process. While a session is recorded or replayed
--- this one stands in its place, for the runtime and for users' files alike. Other keys come last,
--- in no defined order: what goes through objects uses runtime/members.lua.

local M = {}

local builtin = pairs

local RANK = { number = 1, string = 2, boolean = 3 }
local LAST = 4

local function is_before(a, b)
  local rank_a, rank_b = RANK[type(a)] or LAST, RANK[type(b)] or LAST
  if rank_a ~= rank_b then
    return rank_a < rank_b
  elseif rank_a <= 2 then
    return a < b
  elseif rank_a == 3 then
    return not a and b
  end
  return false
end

--- As `pairs`. Fields that are cleared on the way are not visited.
---@generic K, V
---@param t table<K, V>
---@return fun(): K?, V?
---@return table<K, V>
---@return nil
function M.pairs(t)
  local keys, count, is_sorted = {}, 0, true
  for key in next, t do
    count = count + 1
    keys[count] = key
    is_sorted = is_sorted and key == count
  end
  if not is_sorted then
    table.sort(keys, is_before)
  end
  local i = 0
  return function()
    while i < count do
      i = i + 1
      local value = t[keys[i]]
      if value ~= nil then
        return keys[i], value
      end
    end
  end, t, nil
end

--- Puts it in the place of `pairs`.
function M.install()
  rawset(_G, "pairs", M.pairs)
end

--- Puts LuaJIT's own back.
function M.remove()
  rawset(_G, "pairs", builtin)
end

return M
