--- `beamlens reload`: has the running host read its files again, as SIGHUP does.

local control = require("runtime.commands.control")

local M = {}

---@param args string[]
---@return integer status
function M.main(args)
  return control.main(args, {
    usage = "reload [OPTION...]",
    options = control.OPTIONS,
    request = function()
      return { command = "reload" }
    end,
    tell = function(result)
      return type(result) == "table" and result.text or "reloaded"
    end,
  })
end

return M
