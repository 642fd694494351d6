-- A folder of one case with files in it; it goes when the case ends.
--
--   local root = tree.make({ ["domains/tap.lua"] = "return …", ["watchers/tap.lua"] = "return …" })

local support = require("support")
local uv = require("luv")

local M = {}

local function make_folders(root, path)
  local folder = root
  for name in path:gmatch("([^/]+)/") do
    folder = folder .. "/" .. name
    uv.fs_mkdir(folder, 448)
  end
end

--- Makes the folder. Returns its path, as a whole one.
---@param files table<string, string> By path below the folder.
---@return string root
function M.make(files)
  local root = assert(uv.fs_realpath(assert(uv.fs_mkdtemp(support.tmp_path("tree-XXXXXX")))))
  support.on_cleanup(function()
    os.execute(("rm -rf '%s'"):format(root))
  end)
  for path, text in pairs(files) do
    make_folders(root, path)
    support.write_file(root .. "/" .. path, text)
  end
  return root
end

return M
