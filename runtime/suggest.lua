--- "Did you mean": the nearest of the allowed words.

local M = {}

-- Edit distance in which swapping two neighbours is one edit.
local function distance(a, b)
  local before, previous = nil, {}
  for j = 0, #b do
    previous[j] = j
  end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before, previous = previous, row
  end
  return previous[#b]
end

--- The allowed word nearest to `word`, if it is near at all.
---@param word string
---@param allowed string[]
---@return string?
function M.nearest(word, allowed)
  local best, best_distance = nil, math.max(1, math.floor(#word / 3)) + 1
  for _, candidate in ipairs(allowed) do
    local d = distance(word:lower(), candidate:lower())
    if d < best_distance then
      best, best_distance = candidate, d
    end
  end
  return best
end

--- What to add to an error about an unknown word: `; did you mean "x"?`, or the allowed words.
---@param word string
---@param allowed string[]
---@return string
function M.hint(word, allowed)
  local near = M.nearest(tostring(word), allowed)
  if near then
    return ("; did you mean %q?"):format(near)
  end
  local sorted = { unpack(allowed) }
  table.sort(sorted)
  return "; allowed: " .. table.concat(sorted, ", ")
end

--- The keys of a table, sorted.
---@return string[]
function M.keys(t)
  local keys = {}
  for key in pairs(t) do
    keys[#keys + 1] = tostring(key)
  end
  table.sort(keys)
  return keys
end

return M
