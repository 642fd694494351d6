--- `beamlens resume WATCHER`: ends a pause.

local control = require("runtime.commands.control")

local M = {}

---@param args string[]
---@return integer status
function M.main(args)
  return control.main(args, {
    usage = "resume WATCHER [OPTION...]", needs_watcher = true,
    options = control.WATCHER_OPTIONS,
    request = function(opts)
      return { command = "resume", watcher = opts[1], node = opts.node }
    end,
    tell = function(watcher)
      return "resumed " .. control.name_of(watcher)
    end,
  })
end

return M
