-- A network and an /etc/resolv.conf of a process' own, for specs about name servers.
--
--   local reason = private_net.missing()      -- nil where it can be had
--   private_net.run("support.names_cases", "name of a case")
--
-- The case, an async function in the table that the module returns, runs in a process that has
-- nothing but a loopback interface, and asks the name server on 127.0.0.1, if it starts one.

local uv = require("luv")

local M = {}

local HERE = "tests/support/private_net.lua"

-- A case ends before any lookup that gets no answer.
local CASE_S = 150
local RESOLV_CONF = "nameserver 127.0.0.1\noptions timeout:30 attempts:3\n"

local NEW_MOUNTS, NEW_NETWORK = 0x00020000, 0x40000000
local MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
local AF_INET, SOCK_DGRAM = 2, 2
local SIOCSIFFLAGS, IFF_UP = 0x8914, 1

local function declare(ffi)
  ffi.cdef([[
    int unshare(int flags);
    int mount(const char *from, const char *to, const char *kind, unsigned long flags, void *data);
    int socket(int domain, int type, int protocol);
    int ioctl(int fd, unsigned long request, ...);
    int close(int fd);
    typedef struct { char name[16]; short flags; char rest[22]; } private_net_ifreq;
  ]])
end

-- Ends the process where something is refused: the caller reads why.
local function need(ok, what)
  if not ok then
    io.stdout:write(("%s: errno %d\n"):format(what, require("ffi").errno()))
    os.exit(3)
  end
end

local function enter()
  local ffi = require("ffi")
  declare(ffi)
  local conf = require("support").tmp_path("resolv.conf")
  local file = assert(io.open(conf, "w"))
  file:write(RESOLV_CONF)
  file:close()
  need(ffi.C.unshare(NEW_MOUNTS + NEW_NETWORK) == 0, "unshare")
  need(ffi.C.mount("none", "/", nil, MS_REC + MS_PRIVATE, nil) == 0, "mount --make-rprivate /")
  need(ffi.C.mount(conf, "/etc/resolv.conf", nil, MS_BIND, nil) == 0, "mount /etc/resolv.conf")
  os.remove(conf)
  local fd = ffi.C.socket(AF_INET, SOCK_DGRAM, 0)
  need(fd >= 0, "socket")
  local request = ffi.new("private_net_ifreq", { name = "lo", flags = IFF_UP })
  need(ffi.C.ioctl(fd, SIOCSIFFLAGS, request) == 0, "ioctl")
  ffi.C.close(fd)
end

-- Runs in the process of the case.
local function inside(module, name)
  setmetatable(_G, nil)
  package.path = "tests/?.lua;tests/?/init.lua;" .. package.path
    .. ";/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua"
  enter()
  if not module then
    return 0
  end
  local ok, err = pcall(require("support").async(require(module)[name], CASE_S))
  if not ok then
    print(err)
  end
  return ok and 0 or 1
end

local function spawn(args)
  local async = require("runtime.async")
  local out, text = uv.new_pipe(false), {}
  local all = { "lua", HERE }
  for _, arg in ipairs(args) do
    all[#all + 1] = arg
  end
  local status = async.await(nil, function(done)
    local ended, exit_status
    local function check()
      if ended and out:is_closing() then
        done(exit_status)
      end
    end
    local process
    process = assert(uv.spawn(uv.exepath(), { args = all, stdio = { nil, out, 2 } },
      function(code, signal)
        process:close()
        ended, exit_status = true, signal ~= 0 and 128 + signal or code
        check()
      end))
    out:read_start(function(_, bytes)
      if bytes then
        text[#text + 1] = bytes
      else
        out:close()
        check()
      end
    end)
    return function()
      process:kill("sigkill")
    end
  end)
  return status, table.concat(text)
end

--- Why this process may not have a network of its own.
---@async
---@return string? reason
function M.missing()
  local status, text = spawn({})
  if status ~= 0 then
    return "no network namespace: " .. (text:match("[^\n]+") or status)
  end
end

--- Runs a case in a process of its own, and raises what it raised. What it prints is printed.
---@async
---@param module string Returns the cases by name.
---@param name string
function M.run(module, name)
  local status, text = spawn({ module, name })
  if status ~= 0 then
    error(("exit status %d\n%s"):format(status, text), 2)
  end
  io.stdout:write(text)
end

if arg and arg[0] == HERE then
  return inside(arg[1], arg[2])
end
return M
