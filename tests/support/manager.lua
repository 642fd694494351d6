-- A service manager for specs: a real datagram socket that keeps what it is sent. libuv has no such
-- socket, so it is made by calls of the C library.
--
--   local m = manager.open("/tmp/x/notify")     -- or "@name"
--   beamlens.start({ … }, { env = { "NOTIFY_SOCKET=" .. m.path } })
--   m:wait_for("READY=1")

local ffi = require("ffi")
local support = require("support")
local uv = require("luv")

local M = {}

ffi.cdef([[
int socket(int domain, int type, int protocol);
int bind(int fd, const void *address, unsigned size);
ssize_t recv(int fd, void *buffer, size_t size, int flags);
int close(int fd);
]])

local AF_UNIX, SOCK_DGRAM, SOCK_CLOEXEC, MSG_DONTWAIT = 1, 2, 0x80000, 0x40

local Manager = {}
local manager_mt = { __index = Manager }

--- Opens a socket at a path, or, behind an "@", an abstract one. It goes with the case. What comes
--- is read at once (the kernel keeps few messages), unless it `is_deaf`.
function M.open(path, is_deaf)
  local name = path:gsub("^@", "\0")
  local address = string.char(AF_UNIX, 0) .. name .. (path:sub(1, 1) == "@" and "" or "\0")
  local fd = ffi.C.socket(AF_UNIX, bit.bor(SOCK_DGRAM, SOCK_CLOEXEC), 0)
  assert(fd >= 0, "no socket")
  assert(ffi.C.bind(fd, address, #address) == 0, "cannot bind " .. path)
  local self = setmetatable({ path = path, fd = fd, messages = {} }, manager_mt)
  local poll = not is_deaf and uv.new_poll(fd)
  if poll then
    poll:start("r", function()
      self:read()
    end)
  end
  support.on_cleanup(function()
    if poll then
      poll:close()
    end
    ffi.C.close(fd)
  end)
  return self
end

--- Takes what has come, and returns all messages so far, each a list of lines.
function Manager:read()
  local buffer = ffi.new("char[4096]")
  while true do
    local size = ffi.C.recv(self.fd, buffer, 4096, MSG_DONTWAIT)
    if size < 0 then
      return self.messages
    end
    local lines = {}
    for line in ffi.string(buffer, size):gmatch("[^\n]+") do
      lines[#lines + 1] = line
      lines[line] = true
    end
    self.messages[#self.messages + 1] = lines
  end
end

--- How many messages hold this line.
function Manager:count(line)
  local count = 0
  for _, message in ipairs(self:read()) do
    count = count + (message[line] and 1 or 0)
  end
  return count
end

--- Waits until a line has come `count` times (default once).
---@async
function Manager:wait_for(line, count)
  support.wait_until(function()
    return self:count(line) >= (count or 1)
  end, 60000, ("%d times %s"):format(count or 1, line))
end

return M
