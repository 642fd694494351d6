--- `beamlens pause WATCHER`: no decisions of that watcher, while sampling and rules go on.

local common = require("runtime.commands.common")
local control = require("runtime.commands.control")
local options = require("runtime.options")
local units = require("runtime.units")

local M = {}

---@param args string[]
---@return integer status
function M.main(args)
  return control.main(args, {
    usage = "pause WATCHER [--for TIME] [OPTION...]", needs_watcher = true,
    options = common.with(control.WATCHER_OPTIONS, {
      ["for"] = { arg = "TIME", doc = "resume it after this time, such as 30m",
        parse = options.duration },
    }),
    request = function(opts)
      return { command = "pause", watcher = opts[1], node = opts.node, for_ms = opts["for"] }
    end,
    tell = function(watcher)
      local until_ms = watcher.paused and watcher.paused.until_ms
      return ("paused %s%s"):format(control.name_of(watcher),
        until_ms and (" until %s UTC"):format(units.format_clock(until_ms)) or "")
    end,
  })
end

return M
