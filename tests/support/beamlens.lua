-- Runs the beamlens binary under test as a process of its own, and reads its events.
--
--   local b = beamlens.start({ "run", file, "--node", n.name }, { env = { "X=1" } })
--   local event = b:wait_for("beamlens.watcher.alert_fired", function(e) … end, 5000)
--   b:kill("sigterm"); b:wait_exit()          -- status
--   b.events, b:stdout(), b:stderr()

local async = require("runtime.async")
local json = require("runtime.json")
local rerun = require("support.rerun")
local support = require("support")
local uv = require("luv")

local M = {}

local Process = {}
local process_mt = { __index = Process }

local function environment(extra)
  local env = {}
  for _, name in ipairs({ "PATH", "LANG", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS" }) do
    local value = os.getenv(name)
    env[#env + 1] = value and name .. "=" .. value
  end
  -- No key, cookie, store or configuration of the person who runs the specs; and no limit of the
  -- host's own that a busy machine or a sanitizer would pass.
  local own = { HOME = "/nonexistent", BEAMLENS_STORE = "none", BEAMLENS_MAX_RSS = "none",
    BEAMLENS_MAX_CPU = "none" }
  for _, pair in ipairs(extra or {}) do
    own[pair:match("^[^=]*")] = nil
    env[#env + 1] = pair
  end
  for name, value in pairs(own) do
    env[#env + 1] = name .. "=" .. value
  end
  return env
end

local function on_line(self, line)
  self.lines[#self.lines + 1] = line
  local event = json.decode(line)
  if type(event) == "table" and event.event then
    self.events[#self.events + 1] = event
  end
  self.changed:fire()
end

local function read_lines(self, pipe)
  local rest = ""
  pipe:read_start(function(_, chunk)
    if not chunk then
      pipe:close()
      self.stdout_closed = true
      self.changed:fire()
      return
    end
    rest = rest .. chunk
    for line in rest:gmatch("(.-)\n") do
      on_line(self, line)
    end
    rest = rest:match("[^\n]*$")
  end)
end

--- Starts the binary. It is killed at the end of the case if it still runs.
---@param args string[]
---@param opts? { env?: string[], stdin?: string, cwd?: string, is_cleanup?: boolean }
--- `is_cleanup`: it is started by a cleanup, which removes `stderr_path` itself.
function M.start(args, opts)
  opts = opts or {}
  local self = setmetatable({ lines = {}, events = {}, changed = async.signal(), next = 1,
    stderr_path = support.tmp_path("stderr-" .. uv.hrtime()) }, process_mt)
  local recording, put_back
  args, recording, put_back = rerun.recorded(args)
  local pipe = uv.new_pipe(false)
  local fd = assert(uv.fs_open(self.stderr_path, "w", 384))
  local pid
  local stdin = opts.stdin and uv.new_pipe(false)
  self.handle, pid = uv.spawn(uv.exepath(), { args = args, env = environment(opts.env),
    cwd = opts.cwd, stdio = { stdin, pipe, fd } }, function(status, signal)
    self.handle:close()
    self.handle = nil
    self.status = signal ~= 0 and 128 + signal or status
    self.changed:fire()
  end)
  uv.fs_close(fd)
  assert(self.handle, pid)
  self.pid = pid
  if stdin then
    stdin:write(opts.stdin)
    stdin:shutdown(function()
      stdin:close()
    end)
  end
  read_lines(self, pipe)
  local function clean_up()
    if self.handle then
      self.handle:kill("sigkill")
      self:wait_exit()
    end
    if recording then
      put_back()
      rerun.check(self, recording, function(replay)
        local process = M.start(replay, { env = opts.env, cwd = opts.cwd, is_cleanup = true })
        local ok, status = async.pcall(process.wait_exit, process)
        if not ok then
          process:kill("sigkill")
          process:wait_exit()
        end
        local stderr = process:stderr() .. (ok and "" or tostring(status))
        status = ok and status or 1
        os.remove(process.stderr_path)
        return status, process:stdout(), stderr
      end)
    end
    os.remove(self.stderr_path)
  end
  if not opts.is_cleanup then
    support.on_cleanup(clean_up)
  end
  return self
end

--- Runs the binary to its end. Returns its status, stdout and stderr.
---@async
function M.run(args, opts)
  local self = M.start(args, opts)
  local status = self:wait_exit((opts or {}).timeout_ms)
  return status, self:stdout(), self:stderr()
end

--- Sends a signal by name: "sigterm", "sigint".
function Process:kill(signal)
  assert(self.handle, "the process has ended")
  self.handle:kill(signal)
end

--- Waits for the end. Returns the exit status; 128 + n when a signal ended it.
---@async
function Process:wait_exit(timeout_ms)
  support.wait_until(function()
    return self.status and self.stdout_closed
  end, timeout_ms, "the end of beamlens; it said: " .. self:stderr())
  return self.status
end

function Process:stdout()
  return table.concat(self.lines, "\n")
end

function Process:stderr()
  local file = assert(io.open(self.stderr_path))
  local text = file:read("*a")
  file:close()
  return text
end

--- All events of a name so far, that `predicate` accepts.
function Process:all(name, predicate)
  local found = {}
  for _, event in ipairs(self.events) do
    if event.event == name and (not predicate or predicate(event)) then
      found[#found + 1] = event
    end
  end
  return found
end

--- Waits for the first event of a name that `predicate` accepts, past or to come.
---@async
---@param name string With or without "beamlens.".
---@param predicate? fun(event: table): any
---@param timeout_ms? number See `support.patience_ms`.
function Process:wait_for(name, predicate, timeout_ms)
  local full = name:find("^beamlens%.") and name or "beamlens." .. name
  timeout_ms = support.patience_ms(timeout_ms)
  local deadline = async.deadline(timeout_ms)
  while true do
    local found = self:all(full, predicate)[1]
    if found then
      return found
    end
    local left = deadline:left_ms()
    if left == 0 or (self.status and self.stdout_closed) then
      local tail = {}
      for i = math.max(1, #self.lines - 20), #self.lines do
        tail[#tail + 1] = self.lines[i]:sub(1, 200)
      end
      tail = table.concat(tail, "\n")
      error(("no %s within %d ms (exit status %s)\n%s\n%s"):format(full, timeout_ms,
        tostring(self.status), tail, self:stderr()), 2)
    end
    self.changed:wait(left)
  end
end

return M
