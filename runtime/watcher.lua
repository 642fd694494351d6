--- A watcher: the loop in which a model, or the rules when there is none, picks one tool at a time.
---
--- The watcher outlives its task: its state, note, snapshots and alerts survive a crash, and its
--- supervisor starts the task again. One cycle is runtime/watcher/cycle.lua, the tools are
--- runtime/tools.lua. No model is asked while there is no contact with the node.
---
---   local w = watcher.new({ meta = { watcher = "beam", domain = "beam", node = "shop@db1" }, … })
---   w:start()
---   print(w:state())           -- healthy
---   w:stop("reload")

local async = require("runtime.async")
local confirmation = require("runtime.watcher.confirmation")
local cycle = require("runtime.watcher.cycle")
local hooks = require("runtime.watcher.hooks")
local journal = require("runtime.watcher.journal")
local json = require("runtime.json")
local model_state = require("runtime.watcher.model_state")
local pauses = require("runtime.watcher.pause")
local prompt_texts = require("runtime.watcher.prompt_texts")
local snapshots = require("runtime.watcher.snapshots")
local state = require("runtime.watcher.state")
local supervisor = require("runtime.watcher.supervisor")
local tool_call = require("runtime.watcher.tool_call")
local turns = require("runtime.turns")
local waking = require("runtime.watcher.waking")
local world = require("runtime.world")
local watcher_opening = require("runtime.watcher.facts")

local M = {}

-- Without contact, how often the status is looked at although the target tells of changes.
local LOOK_MS = 30000
-- A cycle that the runtime had to end is followed by a longer wait each time.
local FORCED_WAIT_MS = 60000

---@class watcher.Watcher
---@field meta { watcher: string, domain: string, node: string }
---@field policy table
---@field domain table
---@field detector table
---@field alerts alerts.Alerts
---@field executor table
---@field registry table
---@field snapshots snapshots.Store
---@field hooks hooks.Hooks
---@field model model_state.ModelState
---@field current state.State
---@field state fun(self: watcher.Watcher): string, table See runtime/watcher/state.lua.
---@field change_state fun(self: watcher.Watcher, name: string, reason: string, source: string)
---@field confirm_state fun(self: watcher.Watcher)
---@field settle fun(self: watcher.Watcher, source: "model"|"rule")
---@field trace_id? string Of the running cycle.
---@field cycle? cycle.Cycle
---@field paused? pause.Pause|false
---@field busy_since_ms? number By the monotonic clock: the beginning of the present decision.
---@field last_decision? { tool: string, source: string, at_ms: number }
---@field note? { text: string, at_ms: number } The model's own, carried over.
---@field rests? tool_call.Wait The wait between two cycles, while it lasts.
---@field journal journal.Journal What it decided, carried over.
---@field on_change? fun(is_urgent?: boolean) Set by runtime/state_store.lua.
local Watcher = { forced_waits = 0, reloads = 0 }
local watcher_mt = { __index = Watcher }

--- What all watchers of a host have in common is kept once: to be given to `new` as `common`.
---@param fields { alerts: alerts.Alerts, telemetry: telemetry.Bus, clock: clock.Clock }
---@return table metatable Of the watchers.
function M.common(fields)
  fields.turns, fields.prompt_texts = turns.new(), prompt_texts.new()
  return { __index = setmetatable(fields, watcher_mt) }
end

---@class watcher.Options
---@field meta { watcher: string, domain: string, node: string }
---@field policy table Normalised.
---@field domain table
---@field detector table
---@field common? table From `common`. Default: its own, with `alerts`, `telemetry` and `clock`.
---@field executor table
---@field registry table
---@field prompt fun(variables: table): string?, string? Renders the system prompt.
---@field target? table Default: none; there is always contact.
---@field account? spending.Account What this watcher spends, and may spend.
---@field pace? pace.Pace
---@field await? async fun(ms: number?, start: function): ... For specs. Default: `async.await`.
---@field after? fun(ms: number, fn: fun()): table For specs. Default: `world.timer`.

--- Creates a watcher; `start` begins.
---@param opts watcher.Options
---@return watcher.Watcher
function M.new(opts)
  local self = setmetatable({
    meta = opts.meta, policy = opts.policy, domain = opts.domain, detector = opts.detector,
    executor = opts.executor, registry = opts.registry, prompt = opts.prompt,
    target = opts.target, account = opts.account, pace = opts.pace,
    iteration = 0, cycles = 0, status = "stopped",
  }, opts.common or M.common({ alerts = opts.alerts, telemetry = opts.telemetry,
    clock = opts.clock }))
  state.begin(self)
  self.snapshots = snapshots.new({ limit = self.policy.history.snapshots })
  self.model = model_state.new({ clock = self.clock })
  self.journal = journal.new()
  self.waking = waking.new({ clock = self.clock, await = opts.await or async.await,
    after = opts.after or world.timer, turns = self.turns })
  self.confirmation = confirmation.new(self)
  local function emit(...)
    self:emit(...)
  end
  self.hooks = hooks.new({ policy = self.policy, emit = emit, node = self.meta.node })
  self.supervisor = supervisor.new(self, opts.await)
  return self
end

--- For tasks, and errors in them.
---@return string
function Watcher:title()
  return ("watcher %s %s"):format(self.meta.watcher, self.meta.node)
end

--- Emits an event with this watcher's metadata.
---@param event string
---@param metadata table
---@param measurements? table Default: the time.
function Watcher:emit(event, metadata, measurements)
  metadata.watcher, metadata.domain, metadata.node = self.meta.watcher, self.meta.domain,
    self.meta.node
  metadata.trace_id = self.trace_id
  self.telemetry:execute(event, measurements or { system_time = self.clock.wall_ms() }, metadata)
end

--- Says that what is to outlive a restart (runtime/watcher/kept.lua) has changed.
---@param is_urgent? boolean
function Watcher:changed(is_urgent)
  if self.on_change then
    self.on_change(is_urgent)
  end
end

--- Notes what happened, for the next opening message.
---@param text string
function Watcher:happened(text)
  self.waking:note(text)
end

-- What others tell the watcher: findings, its node, its alerts.
local function subscribe(self)
  local meta = self.meta
  local forget_findings = self.detector:on_finding(function(finding, what)
    if self.status ~= "stopped" then
      self:settle("rule")
      self.waking:finding(finding, what)
    end
  end)
  local forget_target = self.target and self.target:subscribe(function(kind)
    self.waking:node(kind)
  end)
  self.alerts:on_fired(meta.watcher, meta.node, function(alert, cause)
    self.hooks:notify("on_alert", alert)
    self.confirmation:fired(alert, cause, self.trace_id)
    self:settle(alert.source)
  end)
  return function()
    self.alerts:on_fired(meta.watcher, meta.node, nil)
    forget_findings()
    if forget_target then
      forget_target()
    end
  end
end

--- Starts the loop.
function Watcher:start()
  assert(self.status == "stopped" and not self.unsubscribe, "a watcher is started once")
  self.status = "starting"
  self.unsubscribe = subscribe(self)
  self:emit("beamlens.watcher.started", { client = self.policy.client or self.registry.primary },
    { system_time = self.clock.wall_ms(), sample_ms = self.policy.sample_ms })
  self.supervisor:start()
end

--- Stops the loop and all that it waits for. Stopping twice does nothing.
---@param reason? string For the event.
function Watcher:stop(reason)
  if self.status == "stopped" then
    return
  end
  self.status = "stopped"
  if self.rests then
    self.waking:end_rest(nil, true)
    tool_call.cancel(self, self.rests)
  end
  self.supervisor:stop(reason)
  self.hooks:close()
  self.unsubscribe()
end

--- Pauses: no decisions until `resume`, or for a time. Sampling and rules go on; a decision that
--- is being made is finished.
---@param opts? { by?: string, reason?: string, for_ms?: number } Default: by the operator.
function Watcher:pause(opts)
  self.paused = pauses.begin(self, opts or {})
  self:changed(true)
  self.waking:wake("the operator paused the watcher")
end

--- Ends a pause.
---@param by? string Default: the operator.
function Watcher:resume(by)
  if self.paused then
    pauses.finish(self, self.paused, by or "operator")
    self.paused = false
    self:changed(true)
    self.waking:wake("the pause of the watcher is over")
  end
end

--- Ends a running wait.
---@param reason? string
function Watcher:wake(reason)
  self.waking:wake(reason or "the operator woke the watcher")
end

--- Takes what its files say now, from the next decision on; state, snapshots and conversation stay.
---@param changes { policy: table, domain: table, registry: table,
--- prompt: fun(variables: table): string?, string? }
function Watcher:reload(changes)
  local asks_others = changes.registry ~= self.registry
    or changes.policy.client ~= self.policy.client
  self.policy, self.domain = changes.policy, changes.domain
  self.prompt, self.registry = changes.prompt, changes.registry
  self.hooks:set_policy(self.policy)
  self.snapshots:set_limit(self.policy.history.snapshots)
  self.system, self.reloads = nil, self.reloads + 1
  self:happened("the watcher's files were reloaded")
  if asks_others and self.model.failing_since_ms then
    self.model = model_state.new({ clock = self.clock })
    self.waking:wake("the models that can be asked have changed")
  end
  self.waking:limit(self.policy.wait.max_ms)
end

--- True while the node answers.
function Watcher:is_in_contact()
  return not self.target or self.target:status().status == "up"
end

Watcher.state, Watcher.change_state = state.show, state.change
Watcher.confirm_state, Watcher.settle = state.confirm, state.settle

--- The findings as a model sees them. What it has seen needs not wake it.
---@return table[]
function Watcher:finding_views()
  self.waking:seen()
  return watcher_opening.findings(self)
end

--- What the guard hook may know.
---@return table
function Watcher:public_view()
  return { name = self.meta.watcher, domain = self.meta.domain, node = self.meta.node,
    state = self.current.name }
end

--- Asks the policy's guard about the alert of a rule: what a detector takes as its `guard`.
---@async
---@param request table What `alerts:fire` takes.
---@return table? request
---@return string? reason Why it is refused.
function Watcher:guard_alert(request)
  return self.hooks:guard_alert(request, self:public_view())
end

--- The opening message of a cycle.
---@async
---@return string
function Watcher:opening()
  return watcher_opening.text(self)
end

-- A wait begins, and is over. `wait` is what it was asked for.
local function begin_wait(self, ms, wait)
  self.confirmation:look(self.trace_id)
  self:emit("beamlens.watcher.wait", { note = wait.note },
    { ms = ms, asked_ms = wait.asked_ms or ms })
  self.status, self.busy_since_ms = "waiting", nil
  return self.clock.now_ms()
end

local function end_wait(self, began_ms, woken_by)
  self.status = "deciding"
  self:progress()
  return { waited_ms = math.floor(self.clock.now_ms() - began_ms + 0.5),
    woken_by = woken_by or json.null }
end

--- Waits, until the time is over or something wakes the watcher.
---@async
---@param ms number
---@param opts { asked_ms?: number, note?: string }
---@return { waited_ms: integer, woken_by: any } result
function Watcher:wait(ms, opts)
  local began_ms = begin_wait(self, ms, opts)
  return end_wait(self, began_ms, self.waking:sleep(ms))
end

--- The wait after a cycle that does not end itself: a minute, twice as long each time in a row.
---@param reason string
---@return tool_call.Wait
function Watcher:forced_wait(reason)
  local bounds = self.policy.wait
  local ms = math.min(bounds.max_ms, math.max(bounds.min_ms,
    FORCED_WAIT_MS * 2 ^ math.min(20, self.forced_waits)))
  self.forced_waits = self.forced_waits + 1
  self.ended = reason
  return { ms = ms, note = "ended by the runtime: " .. reason, result = {} }
end

--- Says that it begins with something: a decision, or a cycle.
function Watcher:progress()
  self.busy_since_ms = self.clock.now_ms()
end

--- For how long it has been at the present decision; nil while it waits, also for its restart.
---@return number?
function Watcher:busy_ms()
  return self.busy_since_ms and self.supervisor:is_running()
    and self.clock.now_ms() - self.busy_since_ms or nil
end

--- Ends what the loop is at, and has its supervisor start it again.
---@param reason string
function Watcher:restart(reason)
  self.supervisor:restart(reason)
end

local function await_contact(self)
  self.status = "no contact"
  while not self:is_in_contact() do
    self.waking:sleep(LOOK_MS)
  end
end

--- The system prompt: the same until the files change, unless `redact` failed on it.
---@async
---@return string
function Watcher:system_prompt()
  if not self.system or self.system.text == hooks.WITHHELD then
    local reloads = self.reloads
    local system = self.prompt_texts:get(self)
    if self.reloads ~= reloads then
      return system.text
    end
    self.system = system
  end
  return self.system.text
end

local function run_cycle(self)
  self.status = "deciding"
  self:progress()
  self.cycles = self.cycles + 1
  self.cycle = cycle.new(self)
  self.trace_id = self.cycle.trace_id
  local wait = self.cycle:run()
  self.cycle = nil
  return wait
end

-- Ends the wait between two cycles.
local function finish_wait(self, wait, woken_by)
  async.unwinding(function()
    tool_call.cancel(self, wait)
  end, self.waking.rested, self.waking, woken_by)
  tool_call.finish(self, wait, end_wait(self, wait.began_ms, woken_by))
  self.trace_id, self.busy_since_ms = nil, nil
end

-- Begins the wait between two cycles. True when the watcher rests: its task ends, and another one
-- goes on with `finish_wait`.
local function begin_rest(self, wait)
  wait.began_ms = begin_wait(self, wait.ms, wait)
  self.rests = wait
  local rests = self.waking:rest(wait.ms, function(woken_by)
    wait.woken_by = woken_by
    self.supervisor:go_on()
  end)
  if not rests then
    self.rests = nil
    tool_call.finish(self, wait, end_wait(self, wait.began_ms, self.waking.pending))
    self.waking:seen()
    self.trace_id, self.busy_since_ms = nil, nil
  end
  return rests
end

-- Where a task begins: after a rest, at the start, or after a crash.
local function begin(self)
  local wait = self.rests
  self.rests = nil
  if wait then
    finish_wait(self, wait, wait.woken_by)
    return
  end
  self.trace_id, self.cycle, self.busy_since_ms = nil, nil, nil
  if self.supervisor.restarts > 0 then
    self:happened("your loop failed and was started again")
  end
end

-- The body of the task. Returns true when the watcher rests between two cycles.
function Watcher:run()
  begin(self)
  while true do
    if self.paused then
      self.status = "paused"
      self.waking:sleep(pauses.left_ms(self, self.paused))
      if self.paused and pauses.left_ms(self, self.paused) == 0 then
        self:resume("time")
      end
    elseif not self:is_in_contact() then
      await_contact(self)
    else
      local wait = async.apart("cycle", run_cycle, self)
      self.snapshots:unpin_all()
      if not wait then
        self.trace_id, self.busy_since_ms = nil, nil
      elseif begin_rest(self, wait) then
        return true
      end
    end
  end
end

return M
