-- Made-up lives of a node for specs of rules: a rule is asked after each sample of one.

local history = require("runtime.history")

local M = {}

--- The rule of a type among a domain's.
function M.rule(rules, type_name)
  for _, rule in ipairs(rules) do
    if rule.type == type_name then
      return rule
    end
  end
  error("no rule " .. type_name)
end

--- Runs a rule over `life.seconds`, a sample each `every` s (default 10) and a pass of the sweep
--- each `sweep_every` s (default 10). `life.data(t)` is a sample's data, `life.pass(t)` the parts of
--- a pass by name, without times. A finding is held from `hold_s` (default 60) on.
---@param rule table
---@param life table
---@param parts string[] The parts of the sweep whose rows are followed.
---@return table<number, table[]> found By second: what the rule found then.
function M.live(rule, life, parts)
  local h = history.new({ parts = parts })
  local last_pass, since, held, found = nil, {}, {}, {}
  for t = 0, life.seconds, life.every or 10 do
    local data = life.data(t)
    data.uptime_s, data.mono_ms = data.uptime_s or 7200 + t, t * 1000
    if t % (life.sweep_every or 10) == 0 then
      last_pass = life.pass(t)
      last_pass.mono_ms, last_pass.swept_at = t * 1000 - 500, t * 1000
      for _, name in ipairs(parts) do
        last_pass[name].mono_ms = last_pass.mono_ms
      end
    end
    h:add({ id = ("%016d"):format(t), at_ms = t * 1000, mono_ms = t * 1000, data = data,
      sweep = last_pass, took_ms = 1 })
    local result = rule.when(h, { name = "n@h", uptime_s = data.uptime_s,
      schedulers_online = data.schedulers_online or 2 }, held)
    local is_list = result and (result[1] or next(result) == nil)
    local list = is_list and result or (result and { result }) or {}
    found[t], held = list, {}
    local now_since = {}
    for _, finding in ipairs(list) do
      now_since[finding.subject] = since[finding.subject] or t
      if t - now_since[finding.subject] >= (life.hold_s or 60) then
        held[finding.subject] = finding
      end
    end
    since = now_since
  end
  return found
end

--- The seconds at which anything was found.
function M.count(found)
  local count = 0
  for _, list in pairs(found) do
    count = count + (list[1] and 1 or 0)
  end
  return count
end

return M
