--- What the disk says of users' files: their texts, what there is, what is in a folder.
---
--- All that decides what is loaded is asked here, so that a recorded session has it: see
--- runtime/session/files.lua.

local uv = require("luv")
local world = require("runtime.world")

local M = {}

local function read_text(path)
  local file, err = io.open(path, "rb")
  if not file then
    return nil, err
  end
  local text
  text, err = file:read("*a")
  file:close()
  return text, not text and ("%s: %s"):format(path, err) or nil
end

--- Reads a file. The error names the path once.
---@param path string
---@return string? text
---@return string? err
function M.read(path)
  return world.disk("text", path, read_text)
end

local function type_of(path)
  return (uv.fs_stat(path) or {}).type
end

--- What lies there: "file", "directory", … Links are followed.
---@param path string
---@return string? kind nil: nothing.
function M.type(path)
  return world.disk("type", path, type_of)
end

local function names_in(folder)
  local scan, err = uv.fs_scandir(folder)
  if not scan then
    return nil, err
  end
  local names = {}
  for name in uv.fs_scandir_next, scan do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- The names in a folder, sorted.
---@param folder string
---@return string[]? names
---@return string? err
function M.list(folder)
  return world.disk("list", folder, names_in)
end

local function open_and_close(path)
  local file, err = io.open(path, "rb")
  if not file then
    return err
  end
  file:close()
end

--- Why a file cannot be read.
---@param path string
---@return string? err nil: it can be.
function M.refusal(path)
  return world.disk("access", path, open_and_close)
end

return M
