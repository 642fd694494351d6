--- Policy hooks: the operator's own functions, run so that none can stop or break a watcher.
---
--- A hook has 100 ms of running Lua; time that it waits does not count. One that raises or runs
--- over emits `watcher.hook_failed` and has no effect, except that a text which `redact` failed on
--- is withheld: whoever wrote `redact` wants nothing to leave unread.

local async = require("runtime.async")
local members = require("runtime.members")
local metered = require("runtime.metered")
local redact = require("runtime.redact")

local M = {}

local LIMIT_MS = 100
-- How long a hook that the loop depends on may wait.
local ANSWER_MS = 10000

M.WITHHELD = "(withheld: the policy's redact hook failed)"

---@class hooks.Hooks
local Hooks = {}
local hooks_mt = { __index = Hooks }

--- Creates the hooks of a watcher.
---@param opts { policy: table, emit: fun(event: string, metadata: table), node?: string }
--- `node` is the watched one, whose name is no e-mail address.
---@return hooks.Hooks
function M.new(opts)
  local self = setmetatable({ emit = opts.emit, node = opts.node, tasks = members.new() },
    hooks_mt)
  self:set_policy(opts.policy)
  return self
end

--- Takes the hooks of this policy from now on.
---@param policy table
function Hooks:set_policy(policy)
  self.functions = {}
  for _, name in ipairs({ "guard", "on_alert", "on_state", "redact" }) do
    local fn = policy[name]
    if fn and debug.getinfo(fn, "S").what ~= "C" then
      -- Compiled code does not look at the count hook.
      jit.off(fn, true)
    end
    self.functions[name] = fn
  end
end

--- Whether the policy has this hook.
---@param name string
---@return boolean
function Hooks:has(name)
  return self.functions[name] ~= nil
end

function Hooks:failed(name, err)
  self.emit("beamlens.watcher.hook_failed", { hook = name, error = tostring(err):sub(1, 2000) })
end

-- Runs a hook as a task of its own.
local function start(self, name, ...)
  local fn = self.functions[name]
  local outcome = {}
  local task
  task = async.spawn(function(...)
    local function keep(ok, ...)
      outcome = { ok = ok, n = select("#", ...), ... }
    end
    keep(metered.call({ label = "hook " .. name, limit_ms = LIMIT_MS }, fn, ...))
    if not outcome.ok then
      self:failed(name, outcome[1])
    end
    self.tasks:remove(task or false)
  end, { name = "hook " .. name, detached = true, on_error = function(err)
    self:failed(name, err)
  end }, ...)
  if not task.done then
    self.tasks:add(task)
  end
  return task, function()
    return outcome
  end
end

-- Runs a hook and waits for what it returns: `{ ok = …, … }`.
local function ask(self, name, ...)
  local task, outcome = start(self, name, ...)
  if not task.done and task:join(ANSWER_MS) == nil then
    self.tasks:remove(task)
    task:cancel()
    self:failed(name, ("gave no answer within %d ms"):format(ANSWER_MS))
    return { ok = false }
  end
  return outcome()
end

--- Runs `on_alert` or `on_state` beside the caller; nothing waits for it.
---@param name "on_alert"|"on_state"
---@param ... any Its arguments.
function Hooks:notify(name, ...)
  if self.functions[name] then
    start(self, name, ...)
  end
end

--- Asks `guard` about an action.
---@async
---@param action { tool: string, args: table, source: "model"|"rule" }
---@param watcher table What the hook may know of the watcher.
---@return table? action The same, or another one that the guard put in its place.
---@return string? reason Why it was refused.
function Hooks:guard(action, watcher)
  if not self.functions.guard then
    return action
  end
  local outcome = ask(self, "guard", action, watcher)
  if not outcome.ok then
    return action
  elseif outcome[1] == nil or outcome[1] == false then
    return nil, type(outcome[2]) == "string" and outcome[2] or "no reason given"
  elseif type(outcome[1]) ~= "table" then
    self:failed("guard", ("returned a %s, not an action"):format(type(outcome[1])))
    return action
  end
  return outcome[1]
end

--- Asks `guard` about the alert of a rule, as if it were a call of fire_alert. The guard may change
--- severity, title and summary; the rest of the request stays.
---@async
---@param request table What `alerts:fire` takes.
---@param watcher table
---@return table? request
---@return string? reason
function Hooks:guard_alert(request, watcher)
  local args = { type = request.type, subject = request.subject, severity = request.severity,
    title = request.title, summary = request.summary }
  local action, reason = self:guard({ tool = "fire_alert", args = args, source = "rule" }, watcher)
  if not action then
    return nil, reason
  elseif type(action.args) ~= "table" then
    self:failed("guard", "returned an action without args")
    return request
  end
  local severity = action.args.severity
  if severity == "info" or severity == "warning" or severity == "critical" then
    request.severity = severity
  end
  request.title = type(action.args.title) == "string" and action.args.title or request.title
  request.summary = type(action.args.summary) == "string" and action.args.summary
    or request.summary
  return request
end

--- Takes secrets and addresses out of a text that leaves the host, and passes what remains through
--- the policy's `redact`.
---@async
---@param text string
---@return string
function Hooks:redact(text)
  text = redact.text(text, { node = self.node })
  if not self.functions.redact then
    return text
  end
  local outcome = ask(self, "redact", text)
  if outcome.ok and type(outcome[1]) ~= "string" then
    self:failed("redact", ("returned a %s, not text"):format(type(outcome[1])))
    return M.WITHHELD
  end
  return outcome.ok and outcome[1] or M.WITHHELD
end

--- Passes all text in a value through `redact`; keys and everything else stay.
---@async
---@param value any
---@return any A copy.
function Hooks:redact_value(value)
  if type(value) == "string" then
    return self:redact(value)
  elseif type(value) ~= "table" then
    return value
  end
  local copy = setmetatable({}, getmetatable(value))
  for key, item in pairs(value) do
    copy[key] = self:redact_value(item)
  end
  return copy
end

--- Cancels hooks that still wait.
function Hooks:close()
  for _, task in ipairs(self.tasks:list()) do
    task:cancel()
  end
  self.tasks = members.new()
end

return M
