--- Strict globals: reading or writing an undeclared global is an error that names it.

local M = {}

-- luv reads _THREAD, the name under which it marks states of other threads.
local ALLOWED = { _THREAD = true }
-- Libraries of Lua 5.1 that set a global of their name when they are opened: it is not kept.
local DROPPED = { lpeg = true }

--- Makes every later use of an undeclared global an error.
---@param globals? table The table to lock. Default: `_G`.
function M.lock(globals)
  setmetatable(globals or _G, {
    __index = function(_, name)
      if ALLOWED[name] then
        return nil
      end
      error(("undeclared global %q"):format(tostring(name)), 2)
    end,
    __newindex = function(_, name)
      if DROPPED[name] then
        return
      end
      error(("assignment to undeclared global %q"):format(tostring(name)), 2)
    end,
  })
end

return M
