--- The file of a recording while it is written: lines are appended in order, off the loop.
---
--- What was written survives a kill of this process. A disk that refuses or falls behind ends the
--- recording, and nothing else.

local async = require("runtime.async")
local units = require("runtime.units")
local uv = require("luv")

local M = {}

local MODE = 384 -- rw-------
-- More than this waiting for the disk, and the recording ends.
local MAX_QUEUED_BYTES = 16 * 1024 * 1024

---@class journal.Journal
---@field path string
---@field written_bytes number
local Journal = {}
local journal_mt = { __index = Journal }

local function plain(err)
  return (tostring(err):gsub("^E%u+: ", ""):gsub(": .*$", ""))
end

--- Creates the file. One that is there is not overwritten.
---@param path string
---@param on_failure fun(err: string) Called once, when no more can be written.
---@return journal.Journal?
---@return string? err
function M.open(path, on_failure)
  local stat = uv.fs_stat(path)
  if stat and stat.type == "directory" then
    return nil, ("%s is a folder"):format(path)
  elseif stat and stat.type == "file" then
    return nil, ("%s is there already, and no recording is overwritten"):format(path)
  end
  local fd, err = uv.fs_open(path, stat and "a" or "wx", MODE)
  if not fd then
    return nil, ("%s: %s"):format(path, plain(err))
  end
  return setmetatable({ path = path, is_own = not stat, fd = fd, on_failure = on_failure,
    queue = {}, queued = 0, written_bytes = 0, idle = async.signal() }, journal_mt)
end

local function fail(self, err)
  if not self.failed then
    self.failed, self.queue, self.queued = true, {}, 0
    self.on_failure(err)
  end
  self.idle:fire()
end

local advance

local function on_written(self, bytes, err, count)
  self.is_writing = false
  self.queued = math.max(0, self.queued - #bytes)
  if err then
    fail(self, plain(err))
  elseif count < #bytes then
    table.insert(self.queue, 1, bytes:sub(count + 1))
    self.queued = self.queued + #bytes - count
  end
  self.written_bytes = self.written_bytes + (count or 0)
  advance(self)
end

-- Writes all that waits, as one piece.
function advance(self)
  if self.is_writing or not self.queue[1] then
    if not self.is_writing then
      self.idle:fire()
    end
    return
  end
  local bytes = table.concat(self.queue)
  self.queue, self.is_writing = {}, true
  uv.fs_write(self.fd, bytes, -1, function(err, count)
    on_written(self, bytes, err, count)
  end)
end

--- Appends a line.
---@param line string
function Journal:write(line)
  if self.failed then
    return
  end
  self.queue[#self.queue + 1] = line .. "\n"
  self.queued = self.queued + #line + 1
  if self.queued > MAX_QUEUED_BYTES then
    fail(self, ("the disk is too slow: %s wait for it"):format(
      units.format_size(MAX_QUEUED_BYTES)))
  else
    advance(self)
  end
end

--- Removes the file, in which nothing is.
function Journal:discard()
  if self.is_own then
    uv.fs_unlink(self.path)
  end
end

--- Waits until all is written, then closes the file.
---@async
---@param timeout_ms number What is not written by then is lost.
function Journal:close(timeout_ms)
  local deadline = async.deadline(timeout_ms)
  while self.is_writing and deadline:left_ms() > 0 do
    self.idle:wait(deadline:left_ms())
  end
  if not self.is_writing and self.fd then
    uv.fs_close(self.fd)
    self.fd = nil
  end
end

return M
