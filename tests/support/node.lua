-- Real Erlang nodes for specs, under an epmd of this run's own on a free loopback port.
--
--   local n = node.start({ name = "t1" })          -- waits until the node runs
--   n.name, n.cookie, n.epmd_port, n.pid           -- "t1@localhost", …
--   n:eval("erlang:system_info(process_count).")   -- text, as ~p prints it
--   n:log()                                        -- all that the node has printed
--   n:kill("sigstop"); n:stop(); n:start_again()
--   node.start({ name = "t2", elixir = true })      -- the same, started as Elixir starts one
--
-- A node that a case leaves running is stopped when the case ends.
--
-- With BEAMLENS_TEST_RUN, a command and its first arguments, the nodes are started through that:
-- `env PATH=/opt/otp-28/bin:$PATH` or `tests/nodes/in-root build/otp/trixie`.

local async = require("runtime.async")
local dist = require("host.dist")
local support = require("support")
local uv = require("luv")

local M = {}

local Node = {}
local node_mt = { __index = Node }

local CODE_DIR = "build/nodes"
local LOCK_MS = 240000
-- Below what Linux gives to sockets that ask for none (32768 to 60999).
local FIRST_PORT, PORTS = 12000, 20000
local epmd_port
local started = 0

local function is_free(port)
  local tcp = uv.new_tcp()
  -- Whether the port is in use is told by listen at the latest.
  local ok = tcp:bind("127.0.0.1", port) and tcp:listen(1, function() end)
  tcp:close()
  return ok
end

--- A loopback port that was free a moment ago, and that no connection gets as its own end's: it is
--- below those that the system gives away.
function M.free_port()
  for _ = 1, 100 do
    local a, b = uv.random(2):byte(1, 2)
    local port = FIRST_PORT + (a * 256 + b) % PORTS
    if is_free(port) then
      return port
    end
  end
  error("no port is free")
end

--- Runs a program to its end. Returns its exit code and its output.
---@async
function M.run_program(command, args, env)
  local path = support.tmp_path("program-" .. started)
  started = started + 1
  local fd = assert(uv.fs_open(path, "w+", 384))
  local code = async.await(support.patience_ms(), function(done)
    local handle, pid
    handle, pid = uv.spawn(command, { args = args, env = env, stdio = { nil, fd, fd } },
      function(status, signal)
        handle:close()
        done(signal ~= 0 and 128 + signal or status)
      end)
    assert(handle, pid)
    return function()
      handle:kill("sigkill")
    end
  end)
  uv.fs_close(fd)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  os.remove(path)
  return code, text
end

local function mtime(path)
  local stat = uv.fs_stat(path)
  return stat and stat.mtime.sec + stat.mtime.nsec / 1e9
end

-- Runs `fn` while no other run of the specs does.
local function alone(fn)
  local lock = CODE_DIR .. ".lock"
  local deadline = async.deadline(LOCK_MS)
  while not uv.fs_mkdir(lock, 493) do
    if deadline:left_ms() == 0 then
      error(lock .. " stays: remove it when no other specs run")
    end
    async.sleep(50)
  end
  local ok, err = async.pcall(fn)
  uv.fs_rmdir(lock)
  assert(ok, err)
end

-- Compiles tests/nodes/*.erl where the .beam is older.
local function compile_stale()
  local stale = {}
  local scan = assert(uv.fs_scandir("tests/nodes"))
  for name in uv.fs_scandir_next, scan do
    local module = name:match("^(.*)%.erl$")
    if module then
      local beam = mtime(CODE_DIR .. "/" .. module .. ".beam")
      if not beam or beam < mtime("tests/nodes/" .. name) then
        stale[#stale + 1] = "tests/nodes/" .. name
      end
    end
  end
  if #stale > 0 then
    local code, text = M.run_program("erlc", { "-o", CODE_DIR, unpack(stale) })
    assert(code == 0, text)
  end
end

local function compile()
  uv.fs_mkdir("build", 493)
  uv.fs_mkdir(CODE_DIR, 493)
  alone(compile_stale)
end

-- The program that makes the daemon ends before the daemon listens, or finds its port taken.
local function epmd_answers(port)
  local arguments = { "-port", tostring(port), "-names" }
  return M.run_program("epmd", arguments) == 0
end

--- Starts this run's epmd, once, and waits until it answers. Returns its port.
---@async
function M.start_epmd()
  if not epmd_port then
    local port = M.free_port()
    local code, text = M.run_program("epmd",
      { "-port", tostring(port), "-address", "127.0.0.1", "-relaxed_command_check", "-daemon" })
    assert(code == 0, text)
    support.wait_until(function()
      return epmd_answers(port)
    end, nil, "epmd to answer")
    epmd_port = port
  end
  return epmd_port
end

--- Ends this run's epmd. The runner calls it after the last case.
---@async
function M.stop_epmd()
  if epmd_port then
    M.run_program("epmd", { "-port", tostring(epmd_port), "-kill" })
    epmd_port = nil
  end
end

-- Whether epmd still knows a node of this name: it sees the end of one somewhat later than we do,
-- and until then no other gets the name.
local function is_registered(name)
  local list = async.await(support.patience_ms(), function(done)
    local request = dist.epmd_names("127.0.0.1", epmd_port, done)
    return function()
      request:cancel()
    end
  end)
  for _, entry in ipairs(assert(list)) do
    if entry.name == name then
      return true
    end
  end
  return false
end

local function environment(extra)
  local env = { "ERL_EPMD_PORT=" .. epmd_port, "ERL_CRASH_DUMP_SECONDS=0" }
  for _, name in ipairs({ "PATH", "HOME", "LANG" }) do
    env[#env + 1] = name .. "=" .. (os.getenv(name) or "")
  end
  for _, pair in ipairs(extra or {}) do
    env[#env + 1] = pair
  end
  return env
end

-- Listens for the node's control connection; accepted(socket) once.
local function listen(accepted)
  local server = uv.new_tcp()
  assert(server:bind("127.0.0.1", 0))
  server:listen(1, function()
    local socket = uv.new_tcp()
    server:accept(socket)
    server:close()
    accepted(socket)
  end)
  return server, server:getsockname().port
end

-- Elixir's applications as a project of its has them: `elixir` alone does not start Logger.
local ELIXIR_START = "{:ok, _} = Application.ensure_all_started(:logger); :control.start()"

-- The program that starts a node, and its arguments.
local function command_line(self, opts, control_port)
  local args = { "-noshell", opts.long and "-name" or "-sname", self.name,
    "-setcookie", self.cookie,
    "-pa", CODE_DIR, "-kernel", "inet_dist_use_interface", "{127,0,0,1}" }
  for _, argument in ipairs(opts.args or {}) do
    args[#args + 1] = argument
  end
  if control_port then
    args[#args + 1] = "-control_port"
    args[#args + 1] = tostring(control_port)
  end
  if not opts.elixir then
    args[#args + 1] = "-s"
    args[#args + 1] = "control"
    args[#args + 1] = "start"
    return "erl", args
  end
  for _, argument in ipairs(args) do
    assert(not argument:find("%s"), "elixir splits --erl at spaces: " .. argument)
  end
  return "elixir", { "--erl", table.concat(args, " "), "--no-halt", "-e", ELIXIR_START }
end

-- A command line that runs another through BEAMLENS_TEST_RUN.
local function run_through(command, args)
  local words = {}
  for word in (os.getenv("BEAMLENS_TEST_RUN") or ""):gmatch("%S+") do
    words[#words + 1] = word
  end
  if #words == 0 then
    return command, args
  end
  words[#words + 1] = command
  for _, argument in ipairs(args) do
    words[#words + 1] = argument
  end
  return table.remove(words, 1), words
end

local function spawn_node(self, opts, control_port)
  local command, args = run_through(command_line(self, opts, control_port))
  local fd = assert(uv.fs_open(self.log_path, "w", 384))
  self.stdout = opts.unread and uv.new_pipe() or nil
  local handle, pid = uv.spawn(command, { args = args, env = environment(opts.env),
    stdio = { nil, self.stdout or fd, fd } }, function()
    self.handle:close()
    self.handle = nil
    if self.on_exit then
      self.on_exit()
    end
  end)
  uv.fs_close(fd)
  assert(handle, pid)
  self.handle, self.pid = handle, pid
end

-- Starts it, and waits for its control connection.
local function boot(self)
  self.on_exit = nil
  self.socket = async.await(support.patience_ms(), function(done)
    local server, port = listen(done)
    spawn_node(self, self.opts, port)
    return function()
      server:close()
    end
  end)
  assert(self.socket, "the node did not start: " .. self:raw_log())
end

--- Starts a node and waits until it runs.
---@async
---@param opts { name: string, host?: string, long?: boolean, cookie?: string, args?: string[],
---  env?: string[], control?: boolean, elixir?: boolean, unread?: boolean }
--- `host` is "localhost" unless given; `long` uses -name; with `control = false` the node gets no
--- control connection, so that nothing but OTP's own boot has run on it. An `elixir` node runs
--- Elixir's applications elixir and logger; its `args` have no spaces. The standard output of an
--- `unread` one is a pipe that nobody reads before `read_output`.
function M.start(opts)
  compile()
  M.start_epmd()
  support.wait_until(function()
    return not is_registered(opts.name)
  end, nil, "the name to be free: " .. opts.name)
  started = started + 1
  local self = setmetatable({
    name = opts.name .. "@" .. (opts.host or "localhost"),
    cookie = opts.cookie or "spec-cookie",
    epmd_port = epmd_port,
    log_path = support.tmp_path(("node-%s-%d.log"):format(opts.name, started)),
    opts = opts,
  }, node_mt)
  support.on_cleanup(function()
    self:stop()
  end)
  if opts.control == false then
    spawn_node(self, opts)
    support.wait_until(function()
      return self:raw_log():find("ready\n", 1, true)
    end, nil, "the node to start: " .. self.log_path)
    return self
  end
  boot(self)
  return self
end

--- Arguments for a node that speaks TLS to other nodes, with a certificate of this case's own.
---@async
---@return string[]
function M.tls_args()
  local key, cert = support.tmp_path("tls.key"), support.tmp_path("tls.crt")
  support.on_cleanup(function()
    os.remove(key)
    os.remove(cert)
  end)
  local code, text = M.run_program("openssl", { "req", "-x509", "-newkey", "rsa:2048", "-nodes",
    "-days", "1", "-subj", "/CN=localhost", "-keyout", key, "-out", cert })
  assert(code == 0, text)
  return { "-proto_dist", "inet_tls", "-ssl_dist_opt", "server_certfile", cert,
    "server_keyfile", key }
end

-- Sends one request and waits for the answer's frame.
local function exchange(self, source)
  local length = #source
  local frame = string.char(math.floor(length / 2 ^ 24) % 256, math.floor(length / 2 ^ 16) % 256,
    math.floor(length / 256) % 256, length % 256) .. source
  return async.await(support.patience_ms(self.eval_timeout_ms), function(done)
    local buffer = ""
    self.socket:read_start(function(err, chunk)
      if not chunk then
        self.socket:read_stop()
        done(nil, err or "the node closed its control connection")
        return
      end
      buffer = buffer .. chunk
      if #buffer >= 4 then
        local a, b, c, d = buffer:byte(1, 4)
        if #buffer >= 4 + ((a * 256 + b) * 256 + c) * 256 + d then
          self.socket:read_stop()
          done(buffer:sub(5))
        end
      end
    end)
    self.socket:write(frame)
    return function()
      self.socket:read_stop()
    end
  end)
end

--- Evaluates Erlang on the node. Raises when it fails there.
---@async
---@param source string Ends with a full stop.
---@return string As `~0tp` prints the value.
function Node:eval(source)
  local reply, err = exchange(self, source)
  if not reply then
    error(("%s: %s"):format(self.name, err), 2)
  end
  if reply:sub(1, 1) ~= "+" then
    error(("%s: %s"):format(self.name, reply:sub(2)), 2)
  end
  return reply:sub(2)
end

--- Evaluates Erlang that gives a number.
---@async
---@return number
function Node:number(source)
  local text = self:eval(source)
  return tonumber(text) or error(("not a number: %s"):format(text), 2)
end

--- Evaluates Erlang that gives a binary or a string of bytes, and returns its bytes.
---@async
---@return string
function Node:bytes(source)
  local hex = self:eval(("binary:encode_hex(iolist_to_binary(begin %s end))."):format(
    (source:gsub("%.%s*$", ""))))
  return (hex:match('"(%x*)"'):gsub("%x%x", function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

--- All that the node has printed, the first `ready` included.
function Node:raw_log()
  local file = assert(io.open(self.log_path))
  local text = file:read("*a")
  file:close()
  return text
end

--- All that the node has printed since it was ready.
function Node:log()
  return (self:raw_log():gsub("ready\n", "", 1))
end

--- Reads, and forgets, what an `unread` node prints.
function Node:read_output()
  self.stdout:read_start(function() end)
end

--- Sets how many file descriptors the node's OS process may have.
---@async
function Node:limit_files(count)
  local code, text = M.run_program("prlimit",
    { "--pid", tostring(self.pid), ("--nofile=%d:%d"):format(count, count) })
  assert(code == 0, text)
end

local function is_stopped(pid)
  local folder = ("/proc/%d/task"):format(pid)
  for task in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
    local file = io.open(("%s/%s/stat"):format(folder, task))
    local text = file and file:read("*a")
    if file then
      file:close()
    end
    if text and not text:find("%) [Tt] ") then
      return false
    end
  end
  return true
end

--- Sends a signal to the node's OS process: "sigkill", "sigstop", "sigcont", "sigterm". After
--- "sigstop" none of its threads runs any more.
---@async
function Node:kill(signal)
  assert(uv.kill(self.pid, signal))
  if signal == "sigstop" then
    support.wait_until(function()
      return is_stopped(self.pid)
    end, nil, "the node to stop")
  end
end

--- Waits until the node's OS process has ended.
---@async
function Node:wait_exit(timeout_ms)
  if self.handle then
    assert(async.await(support.patience_ms(timeout_ms), function(done)
      self.on_exit = function()
        done(true)
      end
    end))
  end
  for _, name in ipairs({ "socket", "stdout" }) do
    if self[name] then
      self[name]:close()
      self[name] = nil
    end
  end
end

--- Ends the node at once. May be called twice.
---@async
function Node:stop()
  if self.handle then
    uv.kill(self.pid, "sigkill")
  end
  self:wait_exit()
end

--- Starts it anew once it has been stopped: another incarnation, whose log begins anew.
---@async
function Node:start_again()
  assert(not self.handle, "the node still runs")
  boot(self)
end

return M
