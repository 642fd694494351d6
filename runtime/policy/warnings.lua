--- What a watcher file says without effect: no mistake, but its author should know.

local compaction = require("runtime.watcher.compaction")
local prompts = require("runtime.prompts")
local suggest = require("runtime.suggest")
local tools = require("runtime.tools")
local units = require("runtime.units")

local M = {}

-- The rules of every node; see runtime/reachability.lua.
local NODE_RULES = { "node_down", "node_unresponsive", "node_restarted" }

local function without_model(policy, parts)
  local client = parts.registry.clients[policy.client or parts.registry.primary]
  return client and client.provider == "rules"
end

-- The types of rule that a policy can change.
local function known_rules(policy, parts)
  local known = {}
  for _, source in ipairs({ parts.domain.rules, policy.rules }) do
    for _, rule in ipairs(source) do
      if type(rule) == "table" and rule.type then
        known[rule.type] = true
      end
    end
  end
  for _, name in ipairs(policy.has_no_node and {} or NODE_RULES) do
    known[name] = true
  end
  return known
end

-- What a budget in USD means for models of which no price is known; nil where there are none.
local function unpriced(policy, parts)
  local limits, names = { policy.limits, parts.registry.limits }, {}
  if limits[1].usd_per_day or limits[2].usd_per_day then
    for _, client in ipairs(parts.registry:unpriced(policy.client)) do
      names[#names + 1] = client.model
    end
  end
  if #names == 0 then
    return nil
  end
  local text = (limits[1].tokens_per_hour or limits[2].tokens_per_hour)
    and "usd_per_day does not count %s: no price is known, so only tokens_per_hour does"
    or "%s is not asked: no price is known, so usd_per_day cannot be kept; set tokens_per_hour as "
      .. "well, or a price"
  return text:format(table.concat(names, ", ")) .. " (price of the client, or prices.lua)"
end

-- What a prompt means for a context that it fills alone; nil where there is room.
local function too_long(policy, parts)
  local limit = compaction.limit(parts.registry, policy.client)
  local offered = tools.for_request()
  local text = limit and parts.prompt(prompts.variables({ domain = parts.domain, policy = policy,
    tools = offered }))
  local tokens = text and compaction.estimate_tokens(text, offered)
  if tokens and tokens > limit then
    return ("the prompt takes about %s tokens of a context that has room for %s: use a model with "
      .. "a larger one, and set context_tokens of its client to its size"):format(
        units.format_count(math.floor(tokens)), units.format_count(math.floor(limit)))
  end
end

-- What names a rule that there is not.
local function rule_warnings(policy, known, warn)
  local function unknown(name, about, what)
    if not known[name] then
      warn(about, "%s has no effect: domain %s has no such rule%s", what, policy.domain,
        suggest.hint(name, suggest.keys(known)))
    end
  end
  for _, name in ipairs(suggest.keys(policy.rules)) do
    if policy.rules[name] then
      unknown(name, "rules " .. name, "rules." .. name)
    end
  end
  for i, window in ipairs(policy.mute) do
    for _, name in ipairs(window.types or {}) do
      if name ~= "other" then
        unknown(name, ("mute [%d]: types"):format(i), "mute of " .. name)
      end
    end
  end
end

--- The warnings about a watcher.
---@param policy table
---@param parts parts.Parts
---@return string[] `FILE:LINE: message` each.
function M.of(policy, parts)
  local list = {}
  -- `about` is the field, and what of it is meant.
  local function warn(about, text, ...)
    list[#list + 1] = ("%s:%d: %s"):format(policy.file,
      policy.line_of(about:match("^[%w_]+"), about), text:format(...))
  end
  if policy.instructions and without_model(policy, parts) then
    warn("instructions", "the instructions have no effect: the client is rules, not a model")
  end
  if policy.has_no_node and policy.cookie_file then
    warn("cookie_file", "cookie_file has no effect: domain %s watches no node", policy.domain)
  end
  local text = unpriced(policy, parts)
  if text then
    warn("limits usd_per_day", "%s", text)
  end
  text = too_long(policy, parts)
  if text then
    warn("client", "%s", text)
  end
  rule_warnings(policy, known_rules(policy, parts), warn)
  return list
end

return M
