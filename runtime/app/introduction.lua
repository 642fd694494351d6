--- What `run` says first: a line for each watcher of the files, however many nodes it watches.

local units = require("runtime.units")

local M = {}

local MAX_NAMED = 3

-- Of a limit in tokens, what it means in money at worst.
local function worst_of(tokens_per_hour, token_usd)
  return token_usd and token_usd > 0
    and (" (%.2f USD a day at worst)"):format(tokens_per_hour * 24 * token_usd) or ""
end

local function limits_of(limits, token_usd)
  local parts = {}
  if limits.tokens_per_hour then
    parts[#parts + 1] = ("%s tokens an hour%s"):format(units.format_count(limits.tokens_per_hour),
      limits.usd_per_day and "" or worst_of(limits.tokens_per_hour, token_usd))
  end
  if limits.usd_per_day then
    parts[#parts + 1] = ("%.2f USD a day"):format(limits.usd_per_day)
  end
  return #parts > 0 and table.concat(parts, " and ") or nil
end

-- What a watcher on one node, and all together, may cost. A model without a limit is told, too.
local function limits(policy, registry)
  local token_usd = registry:dearest_token_usd(policy.client)
  local own = limits_of(policy.limits, token_usd)
  local all = limits_of(registry.limits, token_usd)
  if token_usd == 0 then
    return own and ", at most " .. own or ""
  elseif own or all then
    return (own and ", at most " .. own or "") .. (all and ", all together at most " .. all or "")
  end
  return ", no budget"
end

-- "a@h", "a@h, b@h and c@h", "a@h, b@h, c@h and 47 more", "the cluster of a@h".
local function where(group)
  local names = {}
  for _, policy in ipairs(group) do
    names[#names + 1] = (policy.follows and "the cluster of " or "") .. policy.node
  end
  if #names == 1 then
    return names[1]
  end
  local last = #names > MAX_NAMED + 1 and ("%d more"):format(#names - MAX_NAMED)
    or names[#names]
  local shown = #names > MAX_NAMED + 1 and MAX_NAMED or #names - 1
  return table.concat(names, ", ", 1, shown) .. " and " .. last
end

--- The lines.
---@param all unit.Unit[]
---@return string[]
function M.lines(all)
  local groups, order = {}, {}
  for _, unit in ipairs(all) do
    local origin = unit.policy.origin
    if not groups[origin] then
      groups[origin] = {}
      order[#order + 1] = unit
    end
    table.insert(groups[origin], unit.policy)
  end
  local lines = {}
  for i, unit in ipairs(order) do
    local policy = unit.policy
    lines[i] = ("watcher %s on %s: domain %s, sampled every %s, client %s%s"):format(policy.name,
      where(groups[policy.origin]), policy.domain, units.format_duration(policy.sample_ms),
      policy.client or unit.registry.primary, limits(policy, unit.registry))
  end
  return lines
end

return M
