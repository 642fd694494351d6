--- Where the control sockets of running hosts are: `PID.sock` in a folder of the host's user.
---
--- A host takes the first place that it may use of $RUNTIME_DIRECTORY (set by systemd),
--- $XDG_RUNTIME_DIR/beamlens and /tmp/beamlens-UID. Who looks for hosts looks into these and into
--- /run/beamlens, where the shipped unit keeps its own. $BEAMLENS_RUNTIME_DIR stands for them all.

local process = require("host.process")
local uv = require("luv")

local M = {}

local SERVICE_FOLDER = "/run/beamlens"
-- What a socket's address has room for.
local MAX_PATH = 107
local OWNER_ONLY = 448 -- 0700
local OTHERS_WRITE = 18 -- 0022

local function set(env, name)
  local value = env(name)
  return value and value ~= "" and value or nil
end

--- The folders in which a host of this user may keep its socket, the best first.
---@param env? fun(name: string): string?
---@return string[]
function M.own_folders(env)
  env = env or os.getenv
  local folders = { set(env, "BEAMLENS_RUNTIME_DIR") }
  if folders[1] then
    return folders
  end
  local service = set(env, "RUNTIME_DIRECTORY")
  folders[1] = service and service:match("^[^:]+")
  local session = set(env, "XDG_RUNTIME_DIR")
  if session then
    folders[#folders + 1] = session .. "/beamlens"
  end
  folders[#folders + 1] = ("/tmp/beamlens-%d"):format(process.uid())
  return folders
end

--- The folders in which hosts are looked for.
---@param env? fun(name: string): string?
---@return string[]
function M.folders(env)
  env = env or os.getenv
  local folders, seen = M.own_folders(env), {}
  if set(env, "BEAMLENS_RUNTIME_DIR") then
    return folders
  end
  folders[#folders + 1] = ("/run/user/%d/beamlens"):format(process.uid())
  folders[#folders + 1] = SERVICE_FOLDER
  local unique = {}
  for _, folder in ipairs(folders) do
    if not seen[folder] then
      seen[folder] = true
      unique[#unique + 1] = folder
    end
  end
  return unique
end

--- Makes a folder that its owner alone may enter. One that is there is left as it is: it has to be
--- ours, and nobody else's to write into: in /tmp somebody may have been there before us.
---@param folder string
---@return true? ok
---@return string? err
---@return string? code `"EPERM"`: it is another user's, or others may write there.
function M.prepare(folder)
  local ok, err, code = uv.fs_mkdir(folder, OWNER_ONLY)
  if not ok and code ~= "EEXIST" then
    return nil, err, code
  end
  local stat
  stat, err, code = uv.fs_lstat(folder)
  if not stat then
    return nil, err, code
  end
  local wrong = stat.type ~= "directory" and "is no folder"
    or stat.uid ~= process.uid() and "belongs to another user"
    or bit.band(stat.mode, OTHERS_WRITE) ~= 0 and "may be written by others"
  if wrong then
    return nil, ("EPERM: %s %s"):format(folder, wrong), "EPERM"
  end
  return true
end

--- The path of a process's socket in a folder; nil where it is too long for a socket.
---@param folder string
---@param pid integer
---@return string?
function M.path(folder, pid)
  local path = ("%s/%d.sock"):format(folder, pid)
  return #path <= MAX_PATH and path or nil
end

--- The sockets in a folder, whether or not somebody answers there.
---@param folder string
---@return { path: string, pid: integer }[]
function M.sockets(folder)
  local found = {}
  local scan = uv.fs_scandir(folder)
  if not scan then
    return found
  end
  for name in uv.fs_scandir_next, scan do
    local pid = name:match("^(%d+)%.sock$")
    if pid then
      found[#found + 1] = { path = folder .. "/" .. name, pid = tonumber(pid) }
    end
  end
  table.sort(found, function(a, b)
    return a.pid < b.pid
  end)
  return found
end

--- Whether no process has this id.
---@param pid integer
---@return boolean
function M.is_dead(pid)
  local _, _, code = uv.kill(pid, 0)
  return code == "ESRCH"
end

return M
