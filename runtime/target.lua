--- A target: one watched node, its state, and the calls to it.
---
--- Its keeper (runtime/target/keeper.lua) holds one lasting connection. A node that is absent is
--- watched until it comes. What logs a line on the node when refused (a wrong cookie, a plain
--- attempt at TLS) is tried again only after ten minutes, `retry_now` or a change of the cookie.
---
---   local t = target.new({ node = "shop@db1", cookie = cookie.find({}), telemetry = bus })
---   t:start()
---   assert(t:wait_up(5000))
---   t:eval("length(processes()) - N.", { N = 1 }, { timeout = "1s" })
---   t:stop()

local async = require("runtime.async")
local clock = require("runtime.clock")
local eval = require("runtime.target.eval")
local keeper = require("runtime.target.keeper")
local node_modules = require("runtime.target.modules")
local node_name = require("runtime.node_name")
local units = require("runtime.units")

local M = {}

-- Failures that will not pass by themselves: the status is "refused".
local REFUSED = {
  ECOOKIE = true, ETLS = true, EREFUSED = true, ENAME = true, EALIVE = true, EOLD = true,
  ENOCOOKIE = true, EBADCOOKIE = true, EPERMISSIONS = true,
}

local OPTIONS = {
  node = "string", cookie = "function", own_name = "string", epmd_port = "number",
  clock = "table", telemetry = "table", connect_timeout_ms = "number", heartbeat_ms = "number",
  unresponsive_ms = "number", refused_ms = "number", cookie_check_ms = "number",
  backoff_ms = "table",
}

local DEFAULTS = {
  connect_timeout_ms = 5000,
  heartbeat_ms = 5000,
  unresponsive_ms = 15000,
  refused_ms = 600000,
  cookie_check_ms = 5000,
  backoff_ms = { first = 250, max = 30000 },
}

local CALL_OPTIONS = { timeout_ms = true, timeout = true, max_heap_words = true, priority = true }
local CALL_TIMEOUT_MS = 5000

---@class target.Target
---@field node string The node's name, without a port.
---@field modules node_modules.Modules
---@field evaluator eval.Evaluator
local Target = {}
local target_mt = { __index = Target }

local function check_options(opts)
  for key, value in pairs(opts) do
    if not OPTIONS[key] then
      error(("unknown option %q"):format(tostring(key)), 3)
    elseif type(value) ~= OPTIONS[key] then
      error(("option %s is a %s, not a %s"):format(key, OPTIONS[key], type(value)), 3)
    end
  end
  if not (opts.node and opts.node:find("^[^@]+@[^@]+$")) then
    error(("a node is named name@host, not %q"):format(tostring(opts.node)), 3)
  end
  if not (opts.cookie and opts.telemetry) then
    error("a target needs a cookie and telemetry", 3)
  end
end

--- Creates a target; `start` connects it.
---@param opts { node: string, cookie: (fun(): string?, string?, string?), telemetry: telemetry.Bus,
--- own_name?: string, epmd_port?: integer, clock?: clock.Clock, connect_timeout_ms?: number,
--- heartbeat_ms?: number, unresponsive_ms?: number, refused_ms?: number, cookie_check_ms?: number,
--- backoff_ms?: { first: number, max: number } }
--- `node` is "name@host", or "name@host:port" where there is no epmd; `cookie` is asked before each
--- attempt; `own_name` fixes our name, which is one of beamlens1@HOST to beamlens16@HOST otherwise.
--- The times default to 5 s, 5 s, 15 s, 10 min, 5 s, and 0.25 s to 30 s.
---@return target.Target
function M.new(opts)
  check_options(opts)
  local settings = {}
  for _, from in ipairs({ DEFAULTS, opts }) do
    for key, value in pairs(from) do
      settings[key] = value
    end
  end
  settings.clock = opts.clock or clock.system()
  local self = setmetatable({
    node = node_name.of(opts.node),
    clock = settings.clock,
    telemetry = opts.telemetry,
    subscribers = {},
    changed = async.signal(),
    restarts = 0,
  }, target_mt)
  local function raw_call(...)
    return self:raw_call(...)
  end
  self.modules = node_modules.new(raw_call)
  self.evaluator = eval.new({ call = raw_call, modules = self.modules })
  self.keeper = keeper.new(self, settings)
  self:set_state({ status = "down", code = "ESTOPPED", err = "ESTOPPED: not started" })
  return self
end

--- Says which incarnation of the node was known before: another one is told as a restart.
---@param creation number
function Target:remember(creation)
  self.known = self.known or { creation = creation, uptime_ms = 0 }
end

--- Starts to connect, and keeps at it until `stop`.
function Target:start()
  if self.task then
    return
  end
  self:set_state({ status = "connecting" })
  self.task = async.spawn(self.keeper.run, { name = "target " .. self.node, detached = true },
    self.keeper)
end

--- Closes the connection. Calls in flight end with EDOWN. May be called twice.
function Target:stop()
  if not self.task then
    return
  end
  local task = self.task
  self.task = nil
  task:cancel()
  self:disconnect()
  self:set_state({ status = "down", code = "ESTOPPED", err = "ESTOPPED: stopped" })
  self.changed:fire(true)
end

--- For the keeper: closes the connection, if there is one.
function Target:disconnect()
  if self.link then
    self.link:close()
    self.link = nil
  end
end

--- Ends the pause before the next attempt, as a reload does.
function Target:retry_now()
  self.keeper:retry_now()
end

--- Takes another place, or another cookie, for the next attempt, which is made at once where the
--- node is not up.
---@param address string As `node` of `new`, of the same name.
---@param cookie fun(): string?, string?, string?
function Target:reach_by(address, cookie)
  self.keeper:reach_by(address, cookie)
  self:retry_now()
end

-- Enters a state. Its time of beginning is kept when only the details differ. Who waits for a
-- change is woken by `changed`, after the change has been told.
function Target:set_state(state)
  local before = self.state
  state.since_ms = before and before.status == state.status and before.since_ms
    or self.clock.wall_ms()
  self.state = state
end

--- What is known of the node now.
---@return { status: string, since_ms: number, code?: string, err?: string, info?: table }
--- `status` is "connecting" (before the first result), "up", "unresponsive", "down" or "refused";
--- `info` is of the last connection: otp_release, creation, own_name, uptime_ms (at attach),
--- tested (whether the release is; nil where it is not known), schedulers_online, loaded, and eval
--- (false: only plain calls go) with eval_err.
function Target:status()
  local state, info = self.state, self.info
  if info then
    local refusal = self.evaluator.refusal
    info.eval, info.eval_err = refusal == nil, refusal and refusal.err
  end
  return { status = state.status, since_ms = state.since_ms, code = state.code, err = state.err,
    info = info }
end

local function is_up(state)
  return state.status == "up" or state.status == "unresponsive"
end

--- Waits until the connection stands. A refusal ends the wait at once.
---@async
---@param timeout_ms number
---@param opts? { first: boolean } `first`: whatever the first attempt fails with ends the wait.
---@return true? ok
---@return string? err Why the last attempt failed.
---@return string? code That attempt's code; `"ETIMEDOUT"` when none has ended yet.
function Target:wait_up(timeout_ms, opts)
  local deadline = async.deadline(timeout_ms)
  local is_final = { refused = true, down = opts and opts.first }
  while not is_up(self.state) do
    local state = self.state
    if is_final[state.status] or not self.task then
      return nil, state.err, state.code
    end
    local ok, err, code = self.changed:wait(deadline:left_ms())
    if not ok and not is_up(self.state) then
      return nil, self.state.err or err, self.state.code or code
    end
  end
  return true
end

--- Has `fn(kind, info)` called at each change; it must not wait. Kinds: "up" (info as in `status`),
--- "down" and "refused" ({code, err, retry_ms, was_up}), "unresponsive" ({silent_ms}),
--- "responsive" ({}) and "restarted" ({creation, previous_creation, restarts}), which follows "up".
---@param fn fun(kind: string, info: table)
---@return fun() unsubscribe
function Target:subscribe(fn)
  local entry = { fn = fn }
  table.insert(self.subscribers, entry)
  return function()
    for i, other in ipairs(self.subscribers) do
      if other == entry then
        table.remove(self.subscribers, i)
        return
      end
    end
  end
end

-- Each subscriber is a task of its own: an error in one is reported and reaches no other.
function Target:notify(kind, info)
  for _, entry in ipairs({ unpack(self.subscribers) }) do
    async.spawn(entry.fn, { name = "subscriber of " .. self.node, detached = true }, kind, info)
  end
end

--- For the keeper: a connection stands, its attach is not done yet.
function Target:connected(link)
  self.link = link
  self.restarted_from = self.known and self.known.creation ~= link.info.creation and self.known
  if self.restarted_from then
    self.evaluator:forget()
  end
end

--- For the keeper: the attach is done.
function Target:came_up(link, facts, took_ms)
  local known = self.known
  local previous = self.restarted_from
  if not previous and known and (facts.uptime_ms or math.huge) < known.uptime_ms then
    previous = known
    self.evaluator:forget()
  end
  facts.creation, facts.own_name = link.info.creation, link.info.own_name
  self.known = { creation = facts.creation, uptime_ms = facts.uptime_ms or 0 }
  self.info = facts
  link.on_answer = function()
    self:answered()
  end
  self:set_state({ status = "up" })
  self.telemetry:execute("beamlens.node.up", { duration = took_ms }, {
    node = self.node,
    otp_release = facts.otp_release,
    tested = facts.tested,
    creation = facts.creation,
    own_name = facts.own_name,
    loaded = facts.loaded,
  })
  self:notify("up", self:status().info)
  if previous then
    self:tell_restart(facts, previous)
  end
  self.changed:fire(true)
end

function Target:tell_restart(facts, previous)
  self.restarts = self.restarts + 1
  self.telemetry:execute("beamlens.node.restarted", { restarts = self.restarts },
    { node = self.node, creation = facts.creation, previous_creation = previous.creation })
  self:notify("restarted", { creation = facts.creation, previous_creation = previous.creation,
    restarts = self.restarts })
end

--- For the keeper: an attempt failed, or the connection ended. Told once per change of the code.
function Target:went_down(failure, retry_ms)
  self.link = nil
  local before = self.state
  local status = REFUSED[failure.code] and "refused" or "down"
  self:set_state({ status = status, code = failure.code, err = failure.err })
  if before.status ~= status or before.code ~= failure.code then
    local was_up = failure.was_up or false
    self.telemetry:execute("beamlens.node.down", { retry_ms = retry_ms },
      { node = self.node, code = failure.code, error = failure.err, was_up = was_up })
    self:notify(status, { code = failure.code, err = failure.err, retry_ms = retry_ms,
      was_up = was_up })
  end
  self.changed:fire(true)
end

--- For the keeper: no answer for too long.
function Target:fell_silent(silent_ms)
  if self.state.status == "up" then
    self:set_state({ status = "unresponsive" })
    self.telemetry:execute("beamlens.node.unresponsive", { silent_ms = silent_ms },
      { node = self.node })
    self:notify("unresponsive", { silent_ms = silent_ms })
  end
end

-- The link's `on_answer`.
function Target:answered()
  if self.state.status == "unresponsive" then
    self:set_state({ status = "up" })
    self:notify("responsive", {})
  end
end

-- A call over the connection, whatever the state.
function Target:raw_call(mod, fun, args, opts)
  if not self.link then
    return self:refuse_call()
  end
  return self.link:call(mod, fun, args, opts)
end

function Target:refuse_call()
  return nil, ("EDOWN: no connection to %s (%s)"):format(self.node,
    self.state.err or "still connecting"), "EDOWN"
end

local function call_options(opts)
  opts = opts or {}
  for key in pairs(opts) do
    if not CALL_OPTIONS[key] then
      error(("unknown option %q"):format(tostring(key)), 3)
    end
  end
  local timeout_ms, err = units.duration_ms(opts.timeout_ms or opts.timeout or CALL_TIMEOUT_MS)
  if not timeout_ms then
    error(err, 3)
  end
  return { timeout_ms = timeout_ms, max_heap_words = opts.max_heap_words, priority = opts.priority }
end

--- Calls a function on the node.
---@async
---@param mod string A literal of our own source: it becomes an atom on the node.
---@param fun string As `mod`.
---@param args any[]
---@param opts? { timeout_ms?: number, timeout?: number|string, max_heap_words?: integer,
--- priority?: "low"|"normal" } The timeout is for all of the call; past it the process on the node
--- is killed. Default: 5 s. Without a priority it is low, and normal where low would starve.
---@return any value Never nil when it succeeded.
---@return string? err
---@return string? code `"EDOWN"` (at once when there is no connection), `"ETIMEDOUT"`,
--- `"EBUSY"` the node takes nothing more, `"EREMOTE"` it raised there, `"EHEAP"`, `"ETOOBIG"`,
--- `"ETERM"`, `"ENOMODULE"`, `"ECODESERVER"`: the module is not loaded and the node's code_server
--- does not answer.
function Target:call(mod, fun, args, opts)
  opts = call_options(opts)
  if not is_up(self.state) then
    return self:refuse_call()
  end
  local deadline = async.deadline(opts.timeout_ms)
  local ok, err, code = self.modules:confirm({ mod }, deadline, { [mod] = true })
  if not ok then
    return nil, err, code
  end
  opts.timeout_ms = deadline:left_ms()
  return self:raw_call(mod, fun, args, opts)
end

--- Evaluates Erlang on the node.
---@async
---@param source string Constant expressions that end with a full stop. It is parsed there once.
---@param bindings? table<string, any> Values of variables of the source, by name.
---@param opts? table As for `call`.
---@return any value Never nil when it succeeded.
---@return string? err
---@return string? code As for `call`. `"ECODESERVER"`, and `"ENOEVAL"` where modules are lacking:
--- nothing can be evaluated on this node.
function Target:eval(source, bindings, opts)
  opts = call_options(opts)
  if not is_up(self.state) then
    return self:refuse_call()
  end
  return self.evaluator:run(source, bindings, opts)
end

return M
