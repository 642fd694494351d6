--- What goes wrong in rules, told once: the same error again, and more than can be new, are left
--- out.

local record = require("runtime.alerts.record")
local told = require("runtime.rules.told")

local M = {}

local MAX_ERRORS = 20

---@class rules_reports.Reports
local Reports = {}
local reports_mt = { __index = Reports }

--- Nothing was told yet.
---@param opts { meta: { domain: string, node: string }, users: rules_users.Users,
--- telemetry: telemetry.Bus, clock: clock.Clock }
---@return rules_reports.Reports
function M.new(opts)
  return setmetatable({ meta = opts.meta, users = opts.users, telemetry = opts.telemetry,
    clock = opts.clock, errors = {} }, reports_mt)
end

--- Forgets what was told: the rules are others now.
function Reports:clear()
  self.errors = {} -- type -> the errors that were told
end

--- Tells of an error.
---@param type_name string
---@param text string
---@param user? detector.Detector Default: it concerns all watchers.
function Reports:tell(type_name, text, user)
  local known = self.errors[type_name] or { count = 0 }
  self.errors[type_name] = known
  local first_line = text:match("^[^\n]*") .. (user and "\n" .. user.meta.watcher or "")
  if known[first_line] or known.count >= MAX_ERRORS then
    return
  end
  known[first_line] = true
  known.count = known.count + 1
  local watcher, watchers = told.names(user and { user } or self.users:list())
  self.telemetry:execute("beamlens.rule.failed", { system_time = self.clock.wall_ms() }, {
    watcher = watcher, watchers = watchers, domain = self.meta.domain, node = self.meta.node,
    type = type_name, error = record.summary(text),
  })
end

return M
