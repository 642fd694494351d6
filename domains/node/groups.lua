--- Which kinds of things become more: the ports of one driver, the tables of one name.

local M = {}

local LEAST_SPAN_MS = 60000 -- from the first pass to the last, to say which kind grows
local LEAST_SHARE = 0.25 -- of all that is new

local function counts(pass)
  local by_name = {}
  for _, group in ipairs(pass.groups) do
    by_name[group.name] = group.count
  end
  return by_name
end

local function names_of(held)
  local list = {}
  for name in pairs(held) do
    list[#list + 1] = name
  end
  table.sort(list)
  return list
end

--- The kinds that have a quarter or more of what is new since the oldest pass that is kept; one
--- that is held stays while it grows at all. Each may be a culprit of its own, and ends alone.
---@param history history.History
---@param part string The part of the sweep: its passes have `total` and `groups`.
---@param held table<string, table> By name.
---@return string[] names What is all of them together is called as the part.
function M.growing(history, part, held)
  local passes = {}
  for _, pass in ipairs(history:sweeps()) do
    passes[#passes + 1] = pass[part]
  end
  local first, last = passes[1], passes[#passes]
  if not first or last.mono_ms - first.mono_ms < LEAST_SPAN_MS then
    return next(held) and names_of(held) or { part }
  elseif last.total <= first.total then
    return names_of(held)
  end
  local before, list = counts(first), {}
  for _, group in ipairs(last.groups) do
    local more = group.count - (before[group.name] or 0)
    if more > 0 and (held[group.name] or more >= LEAST_SHARE * (last.total - first.total)) then
      list[#list + 1] = group.name
    end
  end
  return list[1] and list or { part }
end

return M
