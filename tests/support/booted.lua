-- A systemd of one case, with beamlens installed: real, but in namespaces of its own.
--
--   it("…", booted.case(function()
--     local m = booted.start()
--     assert(m:shell("systemctl start beamlens") == 0)
--     m:property("MainPID")                        -- of the service
--   end, 300))

local async = require("runtime.async")
local node = require("support.node")
local support = require("support")
local tree = require("support.tree")
local uv = require("luv")

local M = {}

local BOOT_MS = 120000

local Machine = {}
local machine_mt = { __index = Machine }

local function read(path)
  local file = io.open(path)
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return text
end

-- Where the control groups of version 2 are; nil where there are none.
local function hierarchy()
  return read("/proc/mounts"):match("\n%S+ (%S+) cgroup2 rw")
end

-- Why no systemd can be booted here, or nil.
local function hindrance()
  if not uv.fs_stat("/lib/systemd/systemd") or not uv.fs_stat("/usr/bin/nsenter") then
    return "there is no systemd here"
  elseif not hierarchy() then
    return "there are no control groups of version 2 that can be written"
  elseif node.run_program("unshare", { "--mount", "--cgroup", "--pid", "--fork", "true" }) ~= 0 then
    return "there may be no namespaces here"
  end
end

--- A case with such a machine; it is skipped, with the reason, where none can be booted.
---@param body async fun()
---@param timeout_s? number
function M.case(body, timeout_s)
  return function()
    local why
    support.async(function()
      why = hindrance()
    end)()
    if why then
      pending(why)
    end
    support.async(body, timeout_s)()
  end
end

-- Ends it, with all that runs there.
local function stop(self)
  if self.handle then
    self.handle:kill("sigkill")
    support.wait_until(function()
      return not self.handle
    end, BOOT_MS, "systemd to end")
  end
  support.wait_until(function()
    node.run_program("find", { self.cgroup, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+" })
    return not uv.fs_stat(self.cgroup)
  end, BOOT_MS, "all of its processes to be gone")
end

--- Boots it, and waits until services can be started.
---@async
function M.start()
  local folder = tree.make({})
  local self = setmetatable({ log = folder .. ".log", cgroup = ("%s/beamlens-spec-%d"):format(
    hierarchy(), uv.os_getpid()) }, machine_mt)
  support.on_cleanup(function()
    stop(self)
    os.remove(self.log)
  end)
  local fd = assert(uv.fs_open(self.log, "w", 384))
  local pid
  self.handle, pid = uv.spawn("tests/support/boot-systemd", { stdio = { nil, fd, fd },
    args = { folder, self.cgroup, "B=" .. uv.exepath():match("^(.*)/[^/]*$") } }, function()
    self.handle:close()
    self.handle = nil
  end)
  uv.fs_close(fd)
  assert(self.handle, pid)
  support.wait_until(function()
    assert(self.handle, "systemd did not boot: " .. read(self.log))
    self.pid = read(("/proc/%d/task/%d/children"):format(pid, pid)):match("%d+")
    return self.pid and self:shell("systemctl is-active -q spec.target") == 0
  end, BOOT_MS, "systemd to boot: " .. read(self.log))
  return self
end

--- Runs a line of the shell there. Returns its status and what it said.
---@async
---@param line string
function Machine:shell(line)
  return node.run_program("nsenter", { "-t", self.pid, "-m", "-u", "-i", "-n", "-p", "-C", "--root",
    "--wd", "--", "sh", "-c", line }, { "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" })
end

--- Writes a file there, with its folder.
---@async
function Machine:write(path, text)
  local code, said = self:shell(("mkdir -p \"$(dirname %s)\" && cat > %s <<'END'\n%s\nEND"):format(
    path, path, text))
  assert(code == 0, said)
end

--- A property of the service, as text.
---@async
function Machine:property(name)
  local _, text = self:shell("systemctl show beamlens --value -p " .. name)
  return (text:gsub("%s+$", ""))
end

--- What the service has printed, and what systemd says of it.
---@async
function Machine:journal()
  return (select(2, self:shell("journalctl -o cat --no-pager -u beamlens")))
end

--- Waits until something of the machine is as it should be.
---@async
---@param condition async fun(): any
---@param what string
function Machine:wait_until(condition, what)
  local deadline = async.deadline(BOOT_MS)
  while not condition() do
    assert(deadline:left_ms() > 0, ("waited for %s; the journal has %s"):format(what,
      self:journal()))
    async.sleep(200)
  end
end

return M
