--- Writing to stdout without ever blocking the loop: a pipe or a terminal is written
--- asynchronously, a file at once. A reader that stops reading costs lines, not the watchers.

local async = require("runtime.async")
local uv = require("luv")

local M = {}

-- More than this waiting for a slow reader, and lines are dropped (and counted).
local MAX_QUEUED_BYTES = 8 * 1024 * 1024

---@class output.Output
---@field dropped integer Lines dropped because the reader is too slow.
---@field is_terminal boolean
local Output = {}
local output_mt = { __index = Output }

local function open_stream(fd, kind)
  if kind == "tty" then
    return assert(uv.new_tty(fd, false))
  elseif kind == "pipe" then
    local pipe = uv.new_pipe(false)
    assert(pipe:open(fd))
    return pipe
  end
end

--- Opens a descriptor for writing lines.
---@param fd integer
---@param on_closed fun(err: string) Called once when the other end is closed.
---@return output.Output
function M.new(fd, on_closed)
  local kind = uv.guess_handle(fd)
  return setmetatable({
    fd = fd,
    stream = open_stream(fd, kind),
    is_terminal = kind == "tty",
    on_closed = on_closed,
    dropped = 0,
    queued = 0,
    idle = async.signal(),
  }, output_mt)
end

local function fail(self, err)
  if not self.failed then
    self.failed = true
    self.on_closed(err)
  end
end

--- Writes one line. After the other end was closed it does nothing.
---@param text string Without the line's end.
function Output:write_line(text)
  if self.failed or self.closed then
    return
  end
  local line = text .. "\n"
  if not self.stream then
    local written, err = uv.fs_write(self.fd, line, -1)
    if not written then
      fail(self, err)
    end
    return
  end
  if self.queued + #line > MAX_QUEUED_BYTES then
    self.dropped = self.dropped + 1
    return
  end
  self.queued = self.queued + #line
  self.stream:write(line, function(err)
    self.queued = self.queued - #line
    if err then
      fail(self, err)
    end
    if self.queued == 0 then
      self.idle:fire()
    end
  end)
end

--- Waits until all is written, then closes.
---@async
---@param timeout_ms number What is not written by then is lost.
function Output:close(timeout_ms)
  if self.closed then
    return
  end
  self.closed = true
  if self.queued > 0 and not self.failed then
    self.idle:wait(timeout_ms)
  end
  if self.stream then
    self.stream:close()
  end
end

return M
