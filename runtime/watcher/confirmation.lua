--- Alerts of a model that no finding supports, until they are confirmed.
---
--- Their events are emitted at once, but people are to be disturbed by one only if it still stands
--- when the next cycle comes to its wait, that is, when the model has looked again and not resolved
--- it, or as soon as a finding supports it. `alert_confirmed` says so: sinks deliver such an alert
--- then. The policy's `uncorroborated` may say `at_once` or `never` instead.

local M = {}

---@class confirmation.Confirmation
local Confirmation = {}
local confirmation_mt = { __index = Confirmation }

--- Nothing waits for its confirmation.
---@param watcher { alerts: alerts.Alerts, policy: table,
--- emit: fun(self: table, event: string, metadata: table) }
---@return confirmation.Confirmation
function M.new(watcher)
  return setmetatable({ watcher = watcher,
    waiting = nil, -- id -> the cycle that fired it; nil: none ever waited
    confirmed = nil, -- id -> true, while it fires
  }, confirmation_mt)
end

function Confirmation:confirm(alert)
  self.waiting[alert.id], self.confirmed[alert.id] = nil, true
  self.watcher:emit("beamlens.watcher.alert_confirmed", { alert = alert })
end

--- Takes an alert that was fired.
---@param alert alerts.Alert
---@param cause string What was told: new, raised, renotified or reopened.
---@param trace_id? string Of the running cycle.
function Confirmation:fired(alert, cause, trace_id)
  local mode = self.watcher.policy.uncorroborated
  if alert.source ~= "model" or alert.corroborated or mode == "never" then
    return
  end
  self.waiting, self.confirmed = self.waiting or {}, self.confirmed or {}
  if mode == "at_once" or (self.confirmed[alert.id] and cause ~= "reopened") then
    self:confirm(alert)
  elseif not self.waiting[alert.id] then
    self.waiting[alert.id] = trace_id or ""
  end
end

local function firing(self, id)
  local alert = self.watcher.alerts:get(id)
  return alert and alert.status == "firing" and alert or nil
end

--- Looks at what waits, when a cycle comes to a wait.
---@param trace_id? string Of the running cycle.
function Confirmation:look(trace_id)
  if not self.waiting then
    return
  end
  for id in pairs(self.confirmed) do
    self.confirmed[id] = firing(self, id) and true or nil
  end
  for id, fired_in in pairs(self.waiting) do
    local alert = firing(self, id)
    if not alert then
      self.waiting[id] = nil
    elseif alert.corroborated or fired_in ~= trace_id then
      self:confirm(alert)
    end
  end
end

return M
