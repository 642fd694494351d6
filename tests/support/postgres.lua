-- A PostgreSQL server of one case, on a free port of loopback, with its data in a temporary folder.
--
--   local server = postgres.start()
--   server:sql("SELECT 1")                    -- "1", by psql, as the superuser
--   local s = server:session("shop")          -- a psql with application_name shop
--   s:run("BEGIN")                            -- waits until it is done
--   s:begin("SELECT pg_sleep(60)")            -- does not
--   server:stop()  server:start()             -- also: server:signal("sigstop"), server:kill()
--
-- It refuses to run as root, so that root runs it as `nobody`.

local async = require("runtime.async")
local node = require("support.node")
local support = require("support")
local uv = require("luv")

local M = {}

local NOBODY = 65534

local CONF = [[
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 20
superuser_reserved_connections = 3
shared_buffers = 8MB
fsync = off
autovacuum = off
shared_preload_libraries = 'pg_stat_statements'
log_min_messages = fatal
]]

local HBA = [[
host all with_password 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
]]

local Server, Session = {}, {}
local server_mt, session_mt = { __index = Server }, { __index = Session }

local function binaries()
  local best
  local scan = assert(uv.fs_scandir("/usr/lib/postgresql"), "install Debian's postgresql")
  for version in uv.fs_scandir_next, scan do
    best = (not best or tonumber(version) > tonumber(best)) and version or best
  end
  return ("/usr/lib/postgresql/%s/bin/"):format(best)
end

-- Runs a program to its end. Returns its status and what it wrote to stdout and stderr.
local function run(command, opts)
  local path = support.tmp_path("postgres-" .. uv.hrtime())
  local fd = assert(uv.fs_open(path, "w+", 384))
  opts.stdio = { nil, fd, fd }
  local status = async.await(support.patience_ms(), function(done)
    local handle, err
    handle, err = uv.spawn(command, opts, function(code)
      handle:close()
      done(code)
    end)
    assert(handle, err)
    return function()
      handle:kill("sigkill")
    end
  end)
  uv.fs_close(fd)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  os.remove(path)
  return status, text
end

-- The owner of the server's files and processes; nil for ourselves.
local function owner()
  return uv.getuid() == 0 and NOBODY or nil
end

--- Makes a server and starts it.
---@async
---@return table
function M.start()
  local self = setmetatable({ bin = binaries(), port = node.free_port() }, server_mt)
  self.folder = assert(uv.fs_mkdtemp("/tmp/beamlens-postgres-XXXXXX"))
  self.data = self.folder .. "/data"
  if owner() then
    assert(uv.fs_chown(self.folder, NOBODY, NOBODY))
  end
  support.on_cleanup(function()
    self:kill()
    os.execute(("rm -rf '%s'"):format(self.folder))
  end)
  local status, output = run(self.bin .. "initdb", {
    args = { "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync", "--encoding=UTF8",
      "--locale=C", "--no-instructions" },
    uid = owner(), gid = owner(), cwd = self.folder, env = { "LC_ALL=C", "PATH=/usr/bin:/bin" },
  })
  assert(status == 0, output)
  support.write_file(self.data .. "/postgresql.auto.conf", CONF .. "port = " .. self.port .. "\n")
  support.write_file(self.data .. "/pg_hba.conf", HBA)
  self:start()
  return self
end

--- Starts it, if it does not run.
---@async
function Server:start()
  local log = assert(uv.fs_open(self.folder .. "/log", "a", 420))
  self.handle = assert(uv.spawn(self.bin .. "postgres", {
    args = { "-D", self.data }, uid = owner(), gid = owner(), cwd = self.folder,
    env = { "LC_ALL=C", "PATH=/usr/bin:/bin" }, stdio = { nil, log, log },
  }, function()
    self.handle:close()
    self.handle = nil
  end))
  uv.fs_close(log)
  support.wait_until(function()
    return run(self.bin .. "pg_isready", { args = { "-q", "-h", "127.0.0.1", "-p",
      tostring(self.port) } }) == 0
  end, 30000, "the server to accept connections")
end

function Server:signal(name)
  self.handle:kill(name)
end

local function wait_end(self)
  support.wait_until(function()
    return not self.handle
  end, 20000, "the end of the server")
end

--- Stops it; its sessions are ended.
---@async
function Server:stop()
  self:signal("sigint")
  wait_end(self)
end

--- Ends it in any case. The children of one that is killed end by themselves.
---@async
function Server:kill()
  if self.handle then
    self:signal("sigcont")
    self:signal("sigquit")
    wait_end(self)
  end
end

--- The environment of a program that connects.
---@param more? string[] They win.
---@return string[]
function Server:env(more)
  local env = { unpack(more or {}) }
  for _, pair in ipairs({ "PGHOST=127.0.0.1", "PGPORT=" .. self.port, "PGUSER=postgres",
    "PGDATABASE=postgres", "LC_ALL=C" }) do
    env[#env + 1] = pair
  end
  return env
end

--- The `connection` setting for it.
---@param more? string
function Server:connection(more)
  return ("host=127.0.0.1 port=%d user=postgres dbname=postgres %s"):format(self.port, more or "")
end

--- What psql prints for a statement: rows as lines, columns between `|`. Those that it asks about
--- are the sessions of others: its own is named "truth".
---@async
function Server:sql(text)
  local status, output = run(self.bin .. "psql", { args = { "-XAtq", "-v", "ON_ERROR_STOP=1", "-c",
    text }, env = self:env({ "PGAPPNAME=truth" }) })
  assert(status == 0, output)
  return (output:gsub("\n$", ""))
end

--- A session that stays. It is ended with the case.
---@async
---@param application string
---@return table
function Server:session(application)
  local input, out = uv.new_pipe(false), uv.new_pipe(false)
  local session = setmetatable({ input = input, out = out, text = "", count = 0 }, session_mt)
  session.handle = assert(uv.spawn(self.bin .. "psql", { args = { "-XAtq" },
    env = self:env({ "PGAPPNAME=" .. application }), stdio = { input, out } }, function()
    session.handle:close()
    session.handle = nil
  end))
  out:read_start(function(_, chunk)
    session.text = session.text .. (chunk or "")
  end)
  support.on_cleanup(function()
    session:close()
  end)
  session:run("SELECT 1")
  return session
end

--- Sends a statement and does not wait for it.
function Session:begin(text)
  self.input:write(text .. ";\n")
end

--- Sends a statement and waits until it is done.
---@async
function Session:run(text)
  self:begin(text)
  self:wait()
end

--- Waits until all that was sent is done.
---@async
function Session:wait()
  self.count = self.count + 1
  local mark = "done-" .. self.count
  self.input:write("\\echo " .. mark .. "\n")
  support.wait_until(function()
    return self.text:find(mark .. "\n", 1, true)
  end, 20000, "psql: " .. self.text)
end

--- Ends it.
---@async
function Session:close()
  if self.input:is_closing() then
    return
  end
  if self.handle then
    self.handle:kill("sigkill")
    support.wait_until(function()
      return not self.handle
    end)
  end
  self.input:close()
  self.out:close()
end

return M
