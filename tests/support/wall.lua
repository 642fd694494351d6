-- A wall clock that a spec moves under a real process; see wall.c.
--
--   local wall = wall_clock.new()
--   local b = beamlens.start({ … }, { env = wall.env })
--   wall:set(86400)                -- a day ahead of the machine's

local ffi = require("ffi")
local support = require("support")

local M = {}

local Wall = {}
local wall_mt = { __index = Wall }

local made = 0

--- Compiles the library and makes the file with the offset, 0. Both go with the case.
function M.new()
  made = made + 1
  local cwd = require("luv").cwd()
  local library = ("%s/%s"):format(cwd, support.tmp_path(("wall-%d.so"):format(made)))
  local offset = ("%s/%s"):format(cwd, support.tmp_path(("wall-%d"):format(made)))
  local self = setmetatable({ path = offset }, wall_mt)
  support.on_cleanup(function()
    os.remove(library)
    os.remove(offset)
  end)
  self:set(0)
  assert(os.execute(("cc -shared -fPIC -o '%s' tests/support/wall.c"):format(library)) == 0)
  -- The sanitizer wants to be the first library, but does not need to be.
  local asan = os.getenv("ASAN_OPTIONS")
  self.env = { "LD_PRELOAD=" .. library, "WALL_OFFSET=" .. offset,
    "ASAN_OPTIONS=" .. (asan and asan .. ":" or "") .. "verify_asan_link_order=0" }
  return self
end

--- Sets how far the clock is ahead of the machine's.
---@param seconds integer
function Wall:set(seconds)
  local file = assert(io.open(self.path, "r+b") or io.open(self.path, "wb"))
  file:write(ffi.string(ffi.new("int64_t[1]", seconds), 8))
  file:close()
end

return M
