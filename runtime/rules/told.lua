--- Who is told of what rules find: each watcher that has them, in its own name.

local async = require("runtime.async")
local record = require("runtime.alerts.record")

local M = {}

--- The name of the first watcher, and those of all when there are several.
---@param users { meta: { watcher: string } }[]
---@return string? watcher
---@return string[]? watchers
function M.names(users)
  local names = {}
  for i, user in ipairs(users) do
    names[i] = user.meta.watcher
  end
  return names[1], names[2] and names or nil
end

--- A finding as it is for one watcher, with its alert.
---@param entry rules.Entry
---@param user detector.Detector
---@return rules.Finding
function M.view(entry, user)
  local finding = record.copy(entry.finding)
  finding.alert_id, finding.refused = entry.alert_of[user], entry.refused_by[user]
  return finding
end

-- Calls those who listen for a watcher.
local function notify(rules, user, entry, what)
  for _, fn in ipairs(user.listeners or {}) do
    local ok, err = async.pcall(fn, M.view(entry, user), what)
    if not ok then
      rules.reports:tell(entry.finding.type,
        "a listener of findings failed: " .. tostring(err), user)
    end
  end
end

--- Tells one watcher.
---@param rules rules.Rules
---@param user detector.Detector
---@param entry rules.Entry
---@param what "pending"|"firing"|"worsened"|"cleared" All but the third are events, too.
function M.one(rules, user, entry, what)
  if what ~= "worsened" then
    local now_ms, cleared = rules.clock.wall_ms(), what == "cleared"
    rules.telemetry:execute("beamlens.finding." .. what, { system_time = now_ms,
      value = not cleared and entry.finding.value or nil,
      duration = cleared and rules.clock.now_ms() - entry.begun_ms or nil }, {
      watcher = user.meta.watcher, domain = rules.meta.domain, node = rules.meta.node,
      finding = M.view(entry, user),
    })
  end
  notify(rules, user, entry, what)
end

--- Tells all watchers that have the rules and have begun.
---@param rules rules.Rules
---@param entry rules.Entry
---@param what "pending"|"firing"|"worsened"|"cleared"
function M.all(rules, entry, what)
  for _, user in ipairs(rules.users:told()) do
    M.one(rules, user, entry, what)
  end
end

return M
