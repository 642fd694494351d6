--- One cycle of a watcher: from an opening message, call by call, to the wait that follows it.
---
--- The cycle has a trace id that every event carries, keeps what was executed as evidence, and ends
--- by itself: at a wait, after `calls_per_cycle` calls, at the third mistake in a row, when the
--- model goes in circles, or when the node is gone.

local compaction = require("runtime.watcher.compaction")
local conversation = require("runtime.watcher.conversation")
local ids = require("runtime.ids")
local json = require("runtime.json")
local repeats = require("runtime.watcher.repeats")
local tool_call = require("runtime.watcher.tool_call")
local tools = require("runtime.tools")
local views = require("runtime.watcher.views")

local M = {}

local MISTAKES_IN_A_ROW = 3
local DECIDE_MS = 120000
-- What a client reports when the model answered, but not with a call that can be read.
local NO_CALL = { no_tool_call = true, bad_tool_call = true, truncated = true }

---@class cycle.Cycle
---@field trace_id string 32 hex digits.
---@field executions table[] Records of what was executed, for alerts.
local Cycle = {}
local cycle_mt = { __index = Cycle }

--- Creates a cycle.
---@param watcher watcher.Watcher
---@return cycle.Cycle
function M.new(watcher)
  local self = setmetatable({
    watcher = watcher,
    trace_id = ids.hex(32),
    executions = {},
    calls = 0,
    mistakes = 0,
    repeats = repeats.new(),
  }, cycle_mt)
  self.conversation = conversation.new({ on_shorten = function(before, after)
    watcher:emit("beamlens.watcher.compaction", { by = "age" }, { before_bytes = before,
      after_bytes = after })
  end })
  return self
end

function Cycle:request(wait)
  local watcher = self.watcher
  local meta = watcher.meta
  return {
    system = watcher:system_prompt(),
    tools = tools.for_request(),
    messages = self.conversation:messages(),
    cache_to = self.conversation:settled(),
    context = {
      findings = watcher.detector:findings(),
      state = watcher.current.name,
      wait = wait,
      alerts = watcher.alerts:firing({ watcher = meta.watcher, node = meta.node }),
    },
    account = watcher.account,
    meta = { watcher = meta.watcher, domain = meta.domain, node = meta.node,
      trace_id = self.trace_id, is_calm = not self:is_woken() },
  }
end

-- True when a finding woke the watcher for this cycle, or came while it ran.
function Cycle:is_woken()
  self.has_finding = self.watcher.waking:take_finding() or self.has_finding
  return self.has_finding == true
end

-- The rules decide while no model does; their waits end when the model is to be tried again.
local function decide_by_rules(self)
  local watcher = self.watcher
  local left_ms = math.max(tools.SHORTEST_WAIT_MS, watcher.model:retry_in_ms())
  local bounds = { min_ms = math.min(watcher.policy.wait.min_ms, left_ms),
    max_ms = math.min(watcher.policy.wait.max_ms, left_ms) }
  local decision, err = watcher.registry:decide("rules", self:request(bounds),
    { timeout_ms = DECIDE_MS })
  if not decision then
    return nil, "the rules client failed too: " .. tostring(err)
  end
  decision.source, decision.wait = "rule", bounds
  return decision
end

-- True when the rules answered as the last resort of a fallback: no model did.
local function stood_in(self, decision)
  local watcher = self.watcher
  return decision.provider == "rules" and decision.client
    and decision.client ~= (watcher.policy.client or watcher.registry.primary)
end

-- A budget that is spent was told by its own event; other failures are told here.
local function model_failed(self, decision, err, kind, detail)
  local watcher = self.watcher
  local until_ms = (decision or detail or {}).budget_until_ms
  if until_ms then
    watcher.model:exhausted(until_ms, (decision or detail).is_reserved)
    return
  end
  local retry_ms = watcher.model:failed(kind, detail)
  watcher:emit("beamlens.watcher.llm_error", {
    error = decision and "every model of the fallback failed" or tostring(err), kind = kind,
  }, { retry_ms = retry_ms })
end

-- Asks the model, with a shorter conversation where it would not take the whole.
local function ask_model(self)
  local watcher = self.watcher
  local function ask(request)
    return watcher.registry:decide(watcher.policy.client, request, { timeout_ms = DECIDE_MS })
  end
  local request = self:request(watcher.policy.wait)
  if compaction.if_needed(self, request) then
    request = self:request(watcher.policy.wait)
  end
  local decision, err, kind, detail = ask(request)
  if kind == "context_length" and compaction.run(self, request) then
    return ask(self:request(watcher.policy.wait))
  end
  return decision, err, kind, detail
end

-- Asks the model. Returns its decision, or nil, a mistake of its own to tell it, or nothing when it
-- failed.
local function decide_by_model(self)
  local watcher = self.watcher
  local decision, err, kind, detail = ask_model(self)
  if decision and not stood_in(self, decision) then
    watcher.model:answered()
    decision.source = decision.provider == "rules" and "rule" or "model"
    return decision
  elseif NO_CALL[kind] then
    watcher.model:answered()
    return nil, tostring(err)
  end
  model_failed(self, decision, err, kind, detail)
end

--- Asks the model, or the rules while it fails.
---@async
---@return table? decision
---@return string? forced Why the cycle has to end.
---@return string? mistake What the model has to be told: it called nothing that can be read.
function Cycle:decide()
  local watcher = self.watcher
  watcher.iteration = watcher.iteration + 1
  watcher:emit("beamlens.watcher.iteration_start", { state = watcher.current.name },
    { iteration = watcher.iteration, system_time = watcher.clock.wall_ms() })
  if watcher.model:is_due(self:is_woken()) then
    local decision, mistake = decide_by_model(self)
    if decision or mistake then
      return decision, nil, mistake
    end
  end
  return decide_by_rules(self)
end

-- Counts a mistake of the model. True when it was one too many.
function Cycle:mistaken(tool, err)
  self.mistakes = self.mistakes + 1
  self.watcher:emit("beamlens.watcher.invalid_tool", { tool = tool, error = err },
    { in_a_row = self.mistakes })
  if tool == "fire_alert" then
    self.watcher:emit("beamlens.watcher.alert_failed", { error = err })
  end
  return self.mistakes >= MISTAKES_IN_A_ROW
end

-- Adds a result to the conversation, redacted; `text` is its JSON, bounded.
function Cycle:answer(call, text, info)
  self.conversation:add_result(call, self.watcher.hooks:redact(text), info)
end

function Cycle:refuse(call, err)
  self:answer(call, conversation.fit({ error = err }, views.ORDER), { is_error = true })
end

-- Lets the guard see the action. Returns the tool's name and arguments to run, or nil and why not.
-- What it returns is checked again: it may have changed the arguments.
local function guarded(self, name, args, source)
  local watcher = self.watcher
  if not watcher.hooks:has("guard") then
    return name, args
  end
  local action, reason = watcher.hooks:guard({ tool = name, source = source,
    args = json.decode((json.encode(args))) }, watcher:public_view())
  if not action then
    return nil, reason
  end
  local cleaned, err = tools.validate(action.tool, action.args)
  if not cleaned then
    watcher.hooks:failed("guard", "returned an action that no tool accepts: " .. err)
    return name, args
  end
  return action.tool, cleaned
end

-- Performs a valid call. As `step`.
local function perform(self, call, args)
  local name, allowed_args = guarded(self, call.tool, args, call.source)
  if not name then
    local reason = allowed_args
    self.watcher:happened(("the operator's guard refused %s: %s"):format(call.tool, reason))
    local text = "refused by the operator's guard: " .. reason
    return self:conclude(call, call.tool, args, { error = text }, { is_error = true })
  end
  local result, info = tool_call.run(self.watcher, name, allowed_args, call)
  if info.wait then
    return info.wait
  end
  return self:conclude(call, name, allowed_args, result, info)
end

-- Answers a call, and notices when the model goes in circles.
function Cycle:conclude(call, name, args, result, info)
  local notice
  local text = conversation.fit(result, views.ORDER)
  if name == "wait" and not info.is_error then
    self.repeats:clear()
  else
    local verdict, times = self.repeats:add(name, args, text)
    if verdict == "enough" then
      return nil, ("%s was repeated %d times without anything new"):format(name, times)
    elseif verdict == "notice" then
      notice = ("Notice: you have done this %d times with nothing new. Do something else, or wait.")
        :format(times)
    end
  end
  self:answer(call, text, { is_error = info.is_error, notice = notice })
end

-- One decision and what follows. Returns the wait by which the cycle ends; nil and a reason when it
-- has to be ended; nothing when it goes on.
local function step(self)
  self.watcher:progress()
  local call, forced, mistake = self:decide()
  self.calls = self.calls + 1
  if forced then
    return nil, forced
  elseif mistake then
    if self:mistaken(nil, mistake) then
      return nil, "three answers in a row were no valid call; the last: " .. mistake
    end
    self.conversation:remark(("Your last answer was no tool call that can be read: %s. Answer "
      .. "with exactly one tool call."):format(
        conversation.fence(self.watcher.hooks:redact((json.encode(mistake))), "note")))
    return
  end
  call.id = call.id or ("call_%d"):format(self.watcher.iteration)
  -- Another model may read it, and a call of the rules holds what the node wrote.
  local hooks = self.watcher.hooks
  self.conversation:add_call({ id = call.id, tool = call.tool, origin = call.origin,
    text = call.text and hooks:redact(call.text),
    args = json.object(type(call.args) == "table" and hooks:redact_value(call.args) or {}) })
  local args, err = tools.validate(call.tool, call.args)
  if not args then
    if self:mistaken(call.tool, err) then
      return nil, "three answers in a row were no valid call; the last: " .. err
    end
    return self:refuse(call, err)
  end
  self.mistakes = 0
  self.watcher.last_decision = { tool = call.tool, source = call.source,
    at_ms = self.watcher.clock.wall_ms() }
  return perform(self, call, args)
end

--- Runs the cycle to its end.
---@async
---@return tool_call.Wait? wait What it ends with; nil when the node is gone or the watcher paused.
function Cycle:run()
  local watcher = self.watcher
  self.conversation:open(watcher:opening())
  while watcher:is_in_contact() and not watcher.paused do
    local limit = watcher.policy.limits.calls_per_cycle
    if self.calls >= limit then
      return watcher:forced_wait(("%d calls without a long wait"):format(self.calls))
    end
    local wait, forced = step(self)
    if wait then
      watcher.forced_waits = 0
      return wait
    elseif forced then
      return watcher:forced_wait(forced)
    end
  end
end

return M
