--- The key of a watcher's rules: watchers of a feed for which it is the same share one evaluation.
---
--- It is made of all that decides what is found and how it is told: the changes to the domain's
--- rules and the mutes by what they say, detectors of the file also by which functions they are,
--- `renotify`, and the limits of investigations.

local M = {}

-- What a detector of a file may say.
local FIELDS = {
  "type", "severity", "hold", "clear_hold", "hold_ms", "clear_hold_ms", "looks_back", "when",
  "subject", "left_to", "investigate", "title", "next",
}

local function rule_text(keys, rule)
  local written, texts = rule.written or rule, {}
  for i, name in ipairs(FIELDS) do
    texts[i] = keys:text(written[name])
  end
  return table.concat(texts, ",")
end

--- The key.
---@param policy table
---@param keys detector_keys.Keys Of the node.
---@return string
function M.of(policy, keys)
  local texts, changes = {}, {}
  for name, item in pairs(policy.rules or {}) do
    if type(name) == "string" then
      changes[name] = item
    end
  end
  for _, rule in ipairs(policy.rules or {}) do
    texts[#texts + 1] = rule_text(keys, rule)
  end
  texts[#texts + 1] = keys:text(changes)
  for _, window in ipairs(policy.mute or {}) do
    texts[#texts + 1] = keys:text({ window.from, window.to, window.tz or "UTC",
      window.types or false })
  end
  texts[#texts + 1] = keys:text(policy.renotify_ms)
  texts[#texts + 1] = keys:text(policy.execute)
  return table.concat(texts, "\n")
end

return M
