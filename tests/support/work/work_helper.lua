-- Run in a worker's thread by tests/work_spec.lua.

local ffi = require("ffi")
ffi.cdef("unsigned int sleep(unsigned int seconds); int getpid(void);")

local M = {}
local calls = 0

function M.count()
  calls = calls + 1
  return calls
end

function M.echo(...)
  return ...
end

function M.fail(text)
  error(text, 0)
end

function M.fail_with_table()
  error({})
end

function M.give_function()
  return 1, { deep = { print } }
end

function M.block(seconds)
  ffi.C.sleep(seconds)
  return "awake"
end

-- Until somebody opens the FIFO for writing, and closes it.
function M.block_on(fifo)
  io.open(fifo):read()
  return "awake"
end

function M.search_path()
  return package.path, package.cpath
end

return M
