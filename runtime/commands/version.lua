--- `beamlens version`: the version, and those of what it is built on.

local M = {}

---@return integer status
function M.main()
  local core = require("host.core")
  print(("beamlens %s"):format(core.version))
  print(("%s, libuv %s"):format(jit.version, require("luv").version_string()))
  return 0
end

return M
