--- Blocking libraries for domains: a function of a Lua module, run in a thread of its own.
---
--- Each domain file has one thread, made by its first call. Its Lua state stays from call to call,
--- so a connection that a module keeps in a local lives on. Calls of one domain run one after
--- another.

local async = require("runtime.async")
local native = require("host.work")
local uv = require("luv")

local M = {}

--- What a call may take, waiting for its turn included, unless it says otherwise.
M.TIMEOUT_MS = 5000

--- So many threads that have not answered in time are left behind and replaced at once; with one
--- more, all calls of the domain are refused until one of them comes back.
M.MAX_REPLACED = 4

---@class work.Worker
local Worker = {}
local worker_mt = { __index = Worker }

-- The absolute entries alone: nothing is found because it lies in the current folder.
local function absolute(path)
  local kept = {}
  for entry in path:gmatch("[^;]+") do
    if entry:sub(1, 1) == "/" then
      kept[#kept + 1] = entry
    end
  end
  return kept
end

local function search_paths(folder)
  local path, cpath = absolute(package.path), absolute(package.cpath)
  local real = folder and uv.fs_realpath(folder)
  if real then
    table.insert(path, 1, real .. "/?/init.lua")
    table.insert(path, 1, real .. "/?.lua")
    table.insert(cpath, 1, real .. "/?.so")
  end
  return table.concat(path, ";"), table.concat(cpath, ";")
end

--- Creates a worker; its thread starts with the first call.
---@param opts { name: string, folder?: string } `name` is for errors; modules that lie
--- in `folder` are found first.
---@return work.Worker
function M.new(opts)
  local path, cpath = search_paths(opts.folder)
  return setmetatable({
    name = opts.name, path = path, cpath = cpath, queue = {},
    left = {}, replaced = 0, -- the threads whose call has not come back, and how many they are
  }, worker_mt)
end

local function finish(entry, ...)
  entry.timer:stop()
  if not entry.timer:is_closing() then
    entry.timer:close()
  end
  entry.done(...)
end

function Worker:on_done()
  local entry = self.running
  self.running = nil
  local function pass(ok, ...)
    if ok then
      finish(entry, ...)
    else
      finish(entry, nil, "EWORK: " .. tostring((...) or "not enough memory"), "EWORK")
    end
  end
  pass(self.thread:take())
  self:next()
end

-- A call that was given up came back: its thread is not needed any more.
function Worker:on_back(thread)
  self.left[thread] = nil
  self.replaced = self.replaced - 1
  thread:close()
end

function Worker:open_thread()
  if self.thread then
    return true
  end
  local thread, err, code
  thread, err, code = native.open(self.path, self.cpath, function()
    if self.left[thread] then
      self:on_back(thread)
    else
      self:on_done()
    end
  end)
  self.thread = thread
  return thread ~= nil, err, code
end

-- Starts the next call that can be started.
function Worker:next()
  if self.is_retired and not self.running and not self.queue[1] and not self.closed then
    self:close()
  end
  while not self.running and self.queue[1] do
    local entry = table.remove(self.queue, 1)
    local ok, err, code = self:refusal()
    if ok then
      ok, err, code = self:open_thread()
    end
    if ok then
      ok, err, code = self.thread:start(entry.module, entry.fn_name,
        unpack(entry.args, 1, entry.args.n))
    end
    if ok then
      self.running = entry
    else
      finish(entry, nil, err, code)
    end
  end
end

-- true | nil, err, code
function Worker:refusal()
  if self.closed then
    return nil, "EWORK: the host is ending", "EWORK"
  end
  if self.replaced > M.MAX_REPLACED then
    return nil, ("EWORK: %s waits: %d calls have not come back; the next one is made when one has")
      :format(self.name, self.replaced), "EWORK"
  end
  return true
end

function Worker:remove(entry)
  for i, other in ipairs(self.queue) do
    if other == entry then
      table.remove(self.queue, i)
      return
    end
  end
end

function Worker:on_deadline(entry)
  local text = "ETIMEDOUT: %s.%s had no turn in %d ms"
  if self.running == entry then
    text = "ETIMEDOUT: %s.%s took longer than %d ms"
    self.left[self.thread] = true
    self.replaced = self.replaced + 1
    self.thread, self.running = nil, nil
  else
    self:remove(entry)
  end
  finish(entry, nil, text:format(entry.module, entry.fn_name, entry.timeout_ms), "ETIMEDOUT")
  self:next()
end

local function check_call(module, fn_name, args, opts)
  assert(type(module) == "string" and type(fn_name) == "string",
    "work: module and function are named by strings")
  assert(args == nil or type(args) == "table", "work: the arguments are a list")
  for key in pairs(opts or {}) do
    assert(key == "timeout", ("work: unknown option %q"):format(tostring(key)))
  end
  local timeout = opts and opts.timeout or M.TIMEOUT_MS / 1000
  assert(type(timeout) == "number" and timeout > 0, "work: `timeout` is a number of seconds")
  return timeout * 1000
end

--- Runs `require(module)[fn_name](args…)` in the thread and waits for it. Arguments and results are
--- copied: nil, booleans, numbers, strings and tables of those, 32 levels deep, 16 MiB in all.
---@async
---@param module string
---@param fn_name string
---@param args? table A list; with holes, its length is in `n`.
---@param opts? { timeout?: number } Seconds, waiting for its turn included. Default: 5.
---@return any ... What the function returns (nil for nothing); else nil, err, code. "EWORK": it
--- raised, a value cannot be copied, or too many calls have not come back. "ETIMEDOUT": its thread
--- is left behind and replaced.
function Worker:call(module, fn_name, args, opts)
  local timeout_ms = check_call(module, fn_name, args, opts)
  -- The arguments may hold a password: they are no part of what is asked.
  return async.outside("work", function()
    return self:wait(module, fn_name, args or {}, timeout_ms)
  end, module, fn_name)
end

function Worker:wait(module, fn_name, args, timeout_ms)
  return async.await(nil, function(done)
    local entry = {
      module = module, fn_name = fn_name, timeout_ms = timeout_ms, done = done,
      args = { n = args.n or #args, unpack(args, 1, args.n or #args) },
      timer = uv.new_timer(),
    }
    entry.timer:start(math.ceil(timeout_ms), 0, function()
      self:on_deadline(entry)
    end)
    self.queue[#self.queue + 1] = entry
    self:next()
    -- What runs is let run: its deadline still guards the thread.
    return function()
      entry.done = function() end
      if self.running ~= entry then
        self:remove(entry)
        finish(entry)
      end
    end
  end)
end

--- Ends the thread as soon as no call is under way or waits.
function Worker:retire()
  self.is_retired = true
  self:next()
end

--- Ends the thread, or leaves it behind while it blocks. Calls that wait fail.
function Worker:close()
  self.closed = true
  if self.thread then
    self.thread:close()
    self.thread = nil
  end
  for thread in pairs(self.left) do
    thread:close()
  end
  self.left = {}
  if self.running then
    local entry = self.running
    self.running = nil
    finish(entry, nil, "EWORK: the host is ending", "EWORK")
  end
  self:next()
end

return M
