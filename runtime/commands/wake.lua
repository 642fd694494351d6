--- `beamlens wake WATCHER`: ends its wait, so that it decides now.

local control = require("runtime.commands.control")

local M = {}

---@param args string[]
---@return integer status
function M.main(args)
  return control.main(args, {
    usage = "wake WATCHER [OPTION...]", needs_watcher = true,
    options = control.WATCHER_OPTIONS,
    request = function(opts)
      return { command = "wake", watcher = opts[1], node = opts.node }
    end,
    tell = function(watcher)
      return "woke " .. control.name_of(watcher)
    end,
  })
end

return M
