--- One connection to a node, from the attempt to its end: who we are to the node, the calls in
--- flight, and when the node last answered. What happens before and after is runtime/target.lua's.

local async = require("runtime.async")
local dist = require("host.dist")
local members = require("runtime.members")
local world = require("runtime.world")

local M = {}

-- Failures of a call that the node itself answered with.
local ANSWERED = { EREMOTE = true, EHEAP = true, ETOOBIG = true, ETERM = true }

-- What a call may use on the node when its caller does not say: 64 MiB on a 64-bit node.
local MAX_HEAP_WORDS = 8 * 1024 * 1024

local LONGEST_TIMER_MS = 3600000

---@class link.Link
---@field info table What host.dist says: node, creation, own_name, flags.
---@field last_answer_ms number When the node last answered, by the monotonic clock.
---@field on_answer fun() Called at each answer.
---@field priority "low"|"normal" What calls run at that do not say.
local Link = {}
local link_mt = { __index = Link }

-- A function that begins to connect. `on_event(is_up, …)` gets the connection's info, or why it
-- failed or has ended.
local function dialler(opts, own_name)
  return function(on_event)
    return dist.connect({
      node = opts.node,
      own_name = own_name,
      cookie = opts.cookie,
      epmd_port = opts.epmd_port,
      timeout_ms = opts.timeout_ms,
    }, function(info)
      on_event(true, info)
    end, function(err, code)
      on_event(false, err, code)
    end)
  end
end

-- Tries one own name. Returns a link that stands, or nil, err, code.
local function connect(opts, own_name)
  local self = setmetatable({
    node = opts.node,
    clock = opts.clock,
    pending = members.new(), -- { settle, until_ms } of the calls in flight
    over = async.signal(),
    priority = "low",
    on_answer = function() end,
  }, link_mt)
  -- epmd and the handshake have `timeout_ms` each, and say themselves when it is over.
  local ok, err, code = async.await(2 * opts.timeout_ms + 1000, function(done)
    self.conn = world.open("connect", dialler(opts, own_name), function(is_up, ...)
      if is_up then
        self.info = ...
        done(true)
      else
        self:finish(...)
        done(nil, ...)
      end
    end, opts.node, own_name)
    return function()
      self:close()
    end
  end)
  if not ok then
    return nil, err, code
  end
  self.last_answer_ms = self.clock.now_ms()
  return self
end

--- Connects with the first of our names that the node does not know as alive.
---@async
---@param opts { node: string, own_names: string[], first: integer, cookie: string,
--- epmd_port?: integer, timeout_ms: number, clock: clock.Clock }
--- `first` is the index of the name to begin with; the others follow in a circle.
---@return link.Link? link Its `name_index` says which name it has.
---@return string? err
---@return string? code A code of `host.dist.connect`.
function M.open(opts)
  local count = #opts.own_names
  local err, code
  for i = 0, count - 1 do
    local index = (opts.first - 1 + i) % count + 1
    local link
    link, err, code = connect(opts, opts.own_names[index])
    if link then
      link.name_index = index
      return link
    end
    if code ~= "EALIVE" then
      return nil, err, code
    end
  end
  if count > 1 then
    err = ("EALIVE: %s is connected to all of %s to %s already: stop one, or use --name"):format(
      opts.node, opts.own_names[1], opts.own_names[count])
  end
  return nil, err, code
end

-- The connection is over, by itself or by us: every call in flight ends.
function Link:finish(err, code)
  if self.down then
    return
  end
  self.down = { err = err, code = code }
  local pending = self.pending
  self.pending = members.new()
  if self.timer then
    self.timer:close()
    self.timer = nil
  end
  for _, flight in ipairs(pending:list()) do
    flight.settle(nil, ("EDOWN: the connection to %s ended: %s"):format(self.node, err), "EDOWN")
  end
  self.over:fire(true)
end

--- Closes the connection. May be called twice.
function Link:close()
  if not self.down then
    self.conn:close()
    self:finish("it was closed", "EDOWN")
  end
end

--- Waits until the connection is over.
---@async
---@return string err
---@return string code
function Link:wait_over()
  if not self.down then
    self.over:wait()
  end
  return self.down.err, self.down.code
end

-- Ends the calls whose time is over, and sleeps until the next one's is.
function Link:expire()
  local now_ms, next_ms = async.now_ms(), math.huge
  local expired = self.pending:list(function(flight)
    if flight.until_ms > now_ms then
      next_ms = math.min(next_ms, flight.until_ms)
      return false
    end
    return true
  end)
  self.armed_ms = nil
  if next_ms < math.huge then
    self:arm(next_ms)
  end
  for _, flight in ipairs(expired) do
    flight.settle(nil, "ETIMEDOUT: no answer in time", "ETIMEDOUT")
  end
end

-- Has the one timer of all calls fire in time for this one. Calls that are answered leave it as it
-- is: to set and close a timer for each would take a tenth of the call's time.
function Link:arm(until_ms)
  if self.armed_ms and self.armed_ms <= until_ms then
    return
  end
  self.armed_ms = until_ms
  local wait_ms = math.min(math.max(0, until_ms - async.now_ms()), LONGEST_TIMER_MS)
  if self.timer then
    self.timer:close()
  end
  self.timer = world.timer(wait_ms, function()
    self:expire()
  end)
end

-- Sends one call. Returns the function that abandons it.
function Link:send(mod, fun, args, opts, done)
  local over, id, flight = false, nil, {}
  function flight.settle(value, err, code)
    if over then
      return
    end
    over = true
    self.pending:remove(flight)
    if code == "ETIMEDOUT" and not self.down then
      self.conn:cancel(id)
    end
    if code == nil or ANSWERED[code] then
      self.last_answer_ms = self.clock.now_ms()
      self.on_answer()
    end
    done(value, err, code)
  end
  id = world.open("call", function(on_event)
    return self.conn:call(mod, fun, args, {
      max_heap_words = opts.max_heap_words or MAX_HEAP_WORDS,
      priority = opts.priority or self.priority,
      reply = opts.reply or "exit",
    }, on_event)
  end, flight.settle, mod, fun, args)
  if not over then
    flight.until_ms = async.now_ms() + opts.timeout_ms
    self.pending:add(flight)
    self:arm(flight.until_ms)
  end
  return function()
    over = true
    self.pending:remove(flight)
    if not self.down then
      self.conn:cancel(id)
    end
  end
end

--- Calls a function on the node. Past its time the process there is killed.
---@async
---@param mod string
---@param fun string
---@param args any[]
---@param opts { timeout_ms: number, max_heap_words?: integer, priority?: "low"|"normal",
--- reply?: "exit"|"message" } `priority` is the link's own unless given.
---@return any value Never nil when it succeeded.
---@return string? err
---@return string? code `"ETIMEDOUT"`, `"EDOWN"`, `"EBUSY"` the node takes nothing more,
--- `"EREMOTE"`, `"EHEAP"`, `"ETOOBIG"`, `"ETERM"`
function Link:call(mod, fun, args, opts)
  if self.down then
    return nil, ("EDOWN: the connection to %s ended: %s"):format(self.node, self.down.err), "EDOWN"
  end
  local value, err, code = async.await(nil, function(done)
    return self:send(mod, fun, args, opts, done)
  end)
  if code == "ETIMEDOUT" then
    err = ("ETIMEDOUT: %s did not answer %s:%s/%d within %d ms"):format(self.node, mod, fun, #args,
      opts.timeout_ms)
  end
  return value, err, code
end

--- How long the node has not answered, in milliseconds.
function Link:silent_ms()
  return self.clock.now_ms() - self.last_answer_ms
end

return M
