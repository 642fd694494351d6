--- Reads a recording, line by line.

local format = require("runtime.session.format")
local values = require("runtime.session.values")

local M = {}

---@class session.Reader
---@field path string
---@field header session.Header
---@field line integer Of the entry that was read last.
---@field is_cut boolean The last line is not whole: its writer was killed.
---@field entries integer How many entries were read.
local Reader = {}
local reader_mt = { __index = Reader }

-- The next line without its end, and whether it had one.
local function read_line(self)
  local ok, text, err = pcall(self.file.read, self.file, "*L")
  if not ok or err then
    return nil, ("%s: %s"):format(self.path, tostring(err or text))
  elseif not text then
    return nil
  end
  self.line = self.line + 1
  self.is_cut = text:sub(-1) ~= "\n"
  return text:gsub("\n$", "")
end

--- Opens a recording and reads its header.
---@param path string
---@return session.Reader?
---@return string? err
function M.open(path)
  local file, err = io.open(path, "rb")
  if not file then
    return nil, err
  end
  local self = setmetatable({ path = path, file = file, line = 0, entries = 0, is_cut = false },
    reader_mt)
  local text
  text, err = read_line(self)
  if not text then
    file:close()
    return nil, err or ("%s: it is empty"):format(path)
  end
  self.header, err = format.check_header(values.from_line(text))
  if not self.header then
    file:close()
    return nil, ("%s: %s"):format(path, err)
  end
  return self
end

--- The next entry.
---@return table? entry nil at the end of the file, also where its last line is cut.
---@return string? err Where a line is damaged: `FILE:LINE: text`.
function Reader:next()
  local text, err = read_line(self)
  if not text then
    return nil, err
  end
  local entry
  entry, err = format.check_entry(values.from_line(text))
  if entry then
    self.entries = self.entries + 1
    return entry
  elseif self.is_cut then
    return nil
  end
  return nil, ("%s:%d: %s"):format(self.path, self.line, err)
end

--- Closes the file. May be called twice.
function Reader:close()
  if self.file then
    self.file:close()
    self.file = nil
  end
end

return M
