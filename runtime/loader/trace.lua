--- What a load depended on: the files that it read, by a digest of their text, and the places where
--- it looked. Once one of them is different, loading again may give something else.

local crypto = require("host.crypto")
local disk = require("runtime.disk")
local world = require("runtime.world")

local M = {}

-- A file that was looked for and is there, but was not read.
local PRESENT = "present"

---@class trace.Trace
---@field seen table<string, string|false> By path: a digest; false: absent, or not to be read.
local Trace = {}
local trace_mt = { __index = Trace }

--- Nothing was read yet.
---@return trace.Trace
function M.new()
  return setmetatable({ seen = {} }, trace_mt)
end

local function digest_of(path)
  local text = disk.read(path)
  return text and crypto.sha256(text) or false
end

-- What a function reads that a session sees from outside alone is no part of the session.
local function note(self, path, seen)
  if not world.is_outside() then
    self.seen[path] = seen
  end
end

--- As `trace.read`, and remembers it.
---@param path string
---@return string? text
---@return string? err
function Trace:read(path)
  local text, err = disk.read(path)
  note(self, path, text and crypto.sha256(text) or false)
  return text, err
end

--- Whether something is there under this path; remembered, too.
---@param path string
---@return boolean
function Trace:exists(path)
  local is_there = disk.type(path) ~= nil
  if self.seen[path] == nil then
    note(self, path, is_there and PRESENT or false)
  end
  return is_there
end

--- Whether all is still as it was seen.
---@return boolean
function Trace:is_current()
  for path, digest in pairs(self.seen) do
    if digest == PRESENT then
      if not disk.type(path) then
        return false
      end
    elseif digest_of(path) ~= digest then
      return false
    end
  end
  return true
end

--- The paths of which this trace and an earlier one do not say the same, sorted. A place where
--- nothing is, and which only one of them looked at, is none.
---@param before? trace.Trace
---@return string[]
function Trace:differences(before)
  local paths, seen_before = {}, before and before.seen or {}
  for path, digest in pairs(self.seen) do
    if digest and digest ~= PRESENT and seen_before[path] ~= digest then
      paths[#paths + 1] = path
    end
  end
  for path, digest in pairs(seen_before) do
    if digest and digest ~= PRESENT and not self.seen[path] then
      paths[#paths + 1] = path
    end
  end
  table.sort(paths)
  return paths
end

return M
