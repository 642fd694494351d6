--- The clocks as users' files read them: while a session is recorded or replayed, `os.time`,
--- `os.date` and `os.clock` are those of the session, for what is a part of it.

local world = require("runtime.world")

local M = {}

local builtin = { time = os.time, date = os.date, clock = os.clock }

local function wall_s()
  return math.floor(world.wall_ms() / 1000)
end

local own = {}

function own.time(when)
  return when and builtin.time(when) or wall_s()
end

function own.date(format, when)
  return builtin.date(format or "%c", when or wall_s())
end

-- CPU time comes with nothing; it is taken for the time that passes.
function own.clock()
  return world.now_ms() / 1000
end

-- To a session, what it sees from outside has the real ones.
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
