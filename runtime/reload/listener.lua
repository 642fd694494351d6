--- Listens for changes of files, and tells of many at once: what a session sees of the disk between
--- two rounds is that it was called.

local quiet = require("runtime.reload.quiet")
local watch = require("runtime.reload.watch")

local M = {}

---@class reload_listener.Listener
local Listener = {}
local listener_mt = { __index = Listener }

--- Listens to nothing yet.
---@param opts { clock: clock.Clock, on_quiet: fun(is_early: boolean), look_ms?: number,
--- has_more: fun(): boolean } `on_quiet` as in runtime/reload/quiet.lua; `has_more` is asked at
--- each look: whether other files are to be watched.
---@return reload_listener.Listener
function M.new(opts)
  local self = setmetatable({}, listener_mt)
  self.quiet = quiet.new({ clock = opts.clock, on_quiet = opts.on_quiet })
  self.watch = watch.new({ look_ms = opts.look_ms,
    on_change = function()
      self.quiet:note()
    end,
    on_look = function()
      if opts.has_more() then
        self.quiet:note()
      end
    end })
  return self
end

--- Says that something has changed.
function Listener:note()
  self.quiet:note()
end

--- Whether something was noted since the last call.
---@return boolean
function Listener:is_due()
  return self.quiet:is_due()
end

--- Takes the present state of all files as known.
function Listener:mark()
  self.watch:mark()
end

--- Changes what is watched; see runtime/reload/watch.lua.
---@param files string[]
---@param listings string[]
function Listener:set(files, listings)
  self.watch:set(files, listings)
end

--- Ends.
function Listener:close()
  self.quiet:close()
  self.watch:close()
end

return M
