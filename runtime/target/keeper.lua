--- The keeper of a target's connection: connects, asks what an attach needs to know, watches that
--- the node answers, and tries again with backoff when the connection ends.

local async = require("runtime.async")
local dist = require("host.dist")
local link = require("runtime.target.link")
local own_names = require("runtime.target.own_names")
local releases = require("runtime.releases")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

-- Attempts that log a line on the node when it refuses them, and what only an upgrade can change:
-- tried again only after `refused_ms`.
local LOGGED = { ECOOKIE = true, ETLS = true, EREFUSED = true, EOLD = true }

local ATTACH_TIMEOUT_MS = 5000
local STEADY_MS = 10000 -- a connection that stood this long starts the backoff anew

---@class keeper.Keeper
local Keeper = {}
local keeper_mt = { __index = Keeper }

--- Creates a keeper. `target` is told by `came_up(link, facts, took_ms)`,
--- `went_down(failure, retry_ms)` and `fell_silent(silent_ms)`.
---@param target target.Target
---@param opts table The options of `target.new`, with their defaults.
---@return keeper.Keeper
function M.new(target, opts)
  local host = own_names.host_for(target.node, world.value("hostname", uv.os_gethostname))
  return setmetatable({
    target = target,
    opts = opts,
    clock = opts.clock,
    own_names = opts.own_name and { opts.own_name } or own_names.list(host),
    name_index = 1,
    failures = 0,
    retry = async.signal(),
  }, keeper_mt)
end

-- 64-bit FNV-1a: enough to see that a cookie is another, without keeping it.
local function digest(text)
  local hash = 0xcbf29ce484222325ULL
  for i = 1, #text do
    hash = bit.bxor(hash, text:byte(i) + 0ULL) * 0x100000001b3ULL
  end
  return tostring(hash)
end

--- The pause before the next attempt: doubling, less up to a quarter of jitter, so that many do not
--- come at the same time.
---@param failures integer In a row, from 1.
---@param bounds { first: number, max: number }
---@return number
function M.backoff_ms(failures, bounds)
  local pause = math.min(bounds.max, bounds.first * 2 ^ math.min(failures - 1, 30))
  return pause * (1 - world.random(1):byte() / 255 / 4)
end

-- Text of a charlist such as "25", which arrives as a list of its characters.
local function charlist(value)
  return type(value) == "table" and string.char(unpack(value)) or nil
end

-- Asks the node what an attach needs to know; what is late is left out.
function Keeper:attach(l)
  local facts = {}
  local deadline = async.deadline(ATTACH_TIMEOUT_MS)
  local function ask(key, fun, item, convert)
    return async.spawn(function()
      local value = l:call("erlang", fun, { dist.atom(item) },
        { timeout_ms = deadline:left_ms(), priority = "normal" })
      facts[key] = value ~= nil and convert(value) or nil
    end, { name = "attach" })
  end
  local questions = {
    ask("otp_release", "system_info", "otp_release", charlist),
    ask("uptime_ms", "statistics", "wall_clock", function(pair)
      return pair[1]
    end),
    ask("schedulers_online", "system_info", "schedulers_online", tonumber),
  }
  local target = self.target
  target.modules:forget()
  target.evaluator:check(deadline)
  facts.loaded = target.modules.loaded
  for _, question in ipairs(questions) do
    question:join()
  end
  facts.tested = releases.is_tested(facts.otp_release)
  return facts
end

-- A cheap question, whose answer also says whether calls at low priority get their turn.
function Keeper:beat(l, schedulers_online)
  local run_queue = l:call("erlang", "statistics", { dist.atom("total_run_queue_lengths") },
    { timeout_ms = self.opts.unresponsive_ms, priority = "normal" })
  if run_queue and schedulers_online then
    l.priority = run_queue > 2 * schedulers_online and "normal" or "low"
  end
end

-- Asks every `heartbeat_ms`, and says when no answer came for `unresponsive_ms`.
function Keeper:heartbeat(l, schedulers_online)
  local opts, now_ms = self.opts, self.clock.now_ms
  local next_beat = now_ms()
  while true do
    if now_ms() >= next_beat then
      async.spawn(self.beat, { name = "beat" }, self, l, schedulers_online)
      next_beat = now_ms() + opts.heartbeat_ms
    end
    local limit_in = opts.unresponsive_ms - l:silent_ms()
    if limit_in <= 0 then
      self.target:fell_silent(l:silent_ms())
      limit_in = math.huge
    end
    local pause = math.max(1, math.min(next_beat - now_ms(), limit_in))
    local wake_at = now_ms() + pause
    async.sleep(pause)
    if now_ms() > wake_at + opts.heartbeat_ms then
      -- We did not run ourselves (stopped, or a machine that slept): that silence was ours.
      l.last_answer_ms = now_ms()
    end
  end
end

-- One connection from attempt to end. Returns how it failed.
function Keeper:session()
  local started = self.clock.now_ms()
  local cookie, err, code = world.secret("cookie", self.opts.cookie)
  if not cookie then
    return { err = err, code = code or "ENOCOOKIE" }
  end
  self.tried = digest(cookie)
  local l
  l, err, code = link.open({
    node = self.opts.node,
    own_names = self.own_names,
    first = self.name_index,
    cookie = cookie,
    epmd_port = self.opts.epmd_port,
    timeout_ms = self.opts.connect_timeout_ms,
    clock = self.clock,
  })
  if not l then
    return { err = err, code = code }
  end
  self.name_index = l.name_index
  self.target:connected(l)
  local facts = self:attach(l)
  local up = not l.down
  if up then
    local stood_since = self.clock.now_ms()
    self.target:came_up(l, facts, stood_since - started)
    local beats = async.spawn(self.heartbeat, { name = "heartbeat" }, self, l,
      facts.schedulers_online)
    l:wait_over()
    beats:cancel()
    if self.clock.now_ms() - stood_since >= STEADY_MS then
      self.failures = 0
    end
  end
  return { err = l.down.err, code = l.down.code, was_up = up }
end

-- Waits until the next attempt is due. A refused cookie is tried again as soon as it is another.
function Keeper:wait_retry(failure, retry_ms)
  local deadline = async.deadline(retry_ms)
  local step = LOGGED[failure.code] and self.opts.cookie_check_ms or math.huge
  while deadline:left_ms() > 0 do
    if self.retry:wait(math.min(step, deadline:left_ms())) then
      self.failures = 0
      return
    end
    local cookie = step < math.huge and world.secret("cookie", self.opts.cookie)
    if cookie and digest(cookie) ~= self.tried then
      return
    end
  end
end

--- Keeps the connection until its task is cancelled.
---@async
function Keeper:run()
  while true do
    local ok, failure = async.pcall(self.session, self)
    if not ok then
      self.target:disconnect()
      failure = { err = "EINTERNAL: " .. tostring(failure), code = "EINTERNAL" }
    end
    self.failures = self.failures + 1
    local retry_ms = LOGGED[failure.code] and self.opts.refused_ms
      or M.backoff_ms(self.failures, self.opts.backoff_ms)
    self.target:went_down(failure, retry_ms)
    self:wait_retry(failure, retry_ms)
  end
end

--- Where, and with which cookie, the next attempt is made.
---@param address string
---@param cookie fun(): string?, string?, string?
function Keeper:reach_by(address, cookie)
  self.opts.node, self.opts.cookie = address, cookie
end

--- Ends the pause before the next attempt.
function Keeper:retry_now()
  self.retry:fire(true)
end

return M
