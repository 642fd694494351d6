--- Looks at a store without changing it: what `beamlens doctor` says of it.

local failures = require("runtime.store.failures")
local schema = require("runtime.store.schema")
local store = require("runtime.store")
local units = require("runtime.units")
local uv = require("luv")

local M = {}

local function folder_of(path)
  local folder = path:match("^(.*)/[^/]*$")
  return folder == "" and "/" or folder or "."
end

-- The folder that is there, in which others may have to be made.
local function nearest_folder(path)
  local folder = folder_of(path)
  while not uv.fs_stat(folder) and folder ~= "/" and folder ~= "." do
    folder = folder_of(folder)
  end
  return folder
end

local function may_write(path)
  if uv.fs_access(path, "W") then
    return true
  end
  return nil, failures.text(path .. " cannot be written", "EROFS")
end

-- One that is not there yet.
local function absent(path)
  local folder = nearest_folder(path)
  local ok, err = may_write(folder)
  if ok and uv.fs_stat(folder).type ~= "directory" then
    ok, err = nil, folder .. " is no folder"
  end
  if not ok then
    return false, ("%s cannot be made: %s"):format(path, err)
  end
  return true, path .. ", which the first run makes"
end

local function size_of(path)
  local bytes = 0
  for _, suffix in ipairs({ "", "-wal" }) do
    local stat = uv.fs_stat(path .. suffix)
    bytes = bytes + (stat and stat.size or 0)
  end
  return units.format_size(bytes)
end

local function check(path)
  local opened, err, code = store.read(path)
  local version
  if opened then
    version, err, code = schema.check(opened)
    opened:close()
  end
  return version, err, code
end

--- Says how a store is.
---@async
---@param path? string nil: none is wanted.
---@return boolean ok
---@return string text What it is, or what is wrong and what to do.
function M.describe(path)
  if not path then
    return true, "none: nothing outlives a restart"
  end
  local stat = uv.fs_stat(path)
  if not stat then
    return absent(path)
  end
  local owner = store.owner(path)
  local version, err, code = check(path)
  if not version then
    return false, ("%s: %s"):format(path, failures.text(err, code))
  end
  for _, place in ipairs({ path, folder_of(path) }) do
    local ok, access_err = may_write(place)
    if not ok then
      return false, access_err
    end
  end
  return true, ("%s, %s, schema %d%s"):format(path, size_of(path), version,
    owner and (", belongs to the running beamlens, pid %d"):format(owner) or "")
end

return M
