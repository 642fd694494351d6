-- File systems of one case: a small one that can be full, one that is read-only for a while.
--
--   it("…", mounts.case(function()
--     local disk = mounts.small(512)                -- KiB; disk.path
--     disk:fill(); disk:free(); disk:read_only(true)
--   end))

local support = require("support")
local tree = require("support.tree")

local M = {}

local Disk = {}
local disk_mt = { __index = Disk }

local forbidden

-- Why nothing can be mounted here, or false.
local function find_forbidden()
  local dir = os.tmpname()
  os.remove(dir)
  os.execute(("mkdir '%s'"):format(dir))
  local ok = os.execute(("mount -t tmpfs -o size=64k tmpfs '%s' 2> /dev/null"):format(dir))
  if ok == 0 or ok == true then
    os.execute(("umount '%s'"):format(dir))
  end
  os.execute(("rmdir '%s'"):format(dir))
  return not (ok == 0 or ok == true) and "file systems cannot be mounted here"
end

local function run(command, ...)
  local ok = os.execute(command:format(...))
  assert(ok == 0 or ok == true, command)
end

--- A case that mounts; it is skipped, with the reason, where that is forbidden.
---@param body async fun()
---@param timeout_s? number
function M.case(body, timeout_s)
  return function()
    if forbidden == nil then
      forbidden = find_forbidden()
    end
    if forbidden then
      pending(forbidden)
    end
    support.async(body, timeout_s)()
  end
end

--- An empty file system of this size. It goes when the case ends.
---@param size_kib integer
function M.small(size_kib)
  local self = setmetatable({ path = tree.make({ ["disk/x"] = "" }) .. "/disk" }, disk_mt)
  run("mount -t tmpfs -o size=%dk tmpfs '%s'", size_kib, self.path)
  support.on_cleanup(function()
    run("umount -l '%s'", self.path)
  end)
  return self
end

--- Writes until there is no room left.
function Disk:fill()
  os.execute(("cat /dev/zero > '%s/filler' 2> /dev/null"):format(self.path))
end

--- Makes room again.
function Disk:free()
  assert(os.remove(self.path .. "/filler"))
end

--- Forbids all writing, or allows it again. Nothing may be open for writing.
function Disk:read_only(is_read_only)
  run("mount -o remount,%s '%s'", is_read_only and "ro" or "rw", self.path)
end

return M
