--- The clock as users' files read it: while a session is recorded or replayed, `os.time` and
--- `os.date` are those of the session, for what is a part of it.

local world = require("runtime.world")

local M = {}

local builtin = { time = os.time, date = os.date }

local own = {}

function own.time(when)
  return when and builtin.time(when) or world.unix_s()
end

function own.date(format, when)
  return builtin.date(format or "%c", when or world.unix_s())
end

-- What a session sees from outside has the real ones.
local function chosen(name)
  return function(...)
    return (world.is_inside() and own or builtin)[name](...)
  end
end

--- Puts them in the place of Lua's own.
function M.install()
  for name in pairs(own) do
    os[name] = chosen(name) -- luacheck: ignore 122
  end
end

--- Puts Lua's own back.
function M.remove()
  for name, fn in pairs(builtin) do
    os[name] = fn -- luacheck: ignore 122
  end
end

return M
