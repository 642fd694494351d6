-- Run in a worker's thread by tests/work_spec.lua.

local ffi = require("ffi")
ffi.cdef([[
  unsigned int sleep(unsigned int seconds);
  int getpid(void);
  int posix_spawnp(int *pid, const char *file, const void *actions, const void *attributes,
    const char *const *argv, char *const *env);
  int waitpid(int pid, int *status, int options);
]])

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

-- Has a program write what the system knows of it. Without a shell, which unblocks signals.
function M.program_status(path)
  local pid = ffi.new("int[1]")
  local argv = ffi.new("const char *[4]", { "cp", "/proc/self/status", path })
  assert(ffi.C.posix_spawnp(pid, "cp", nil, nil, argv, nil) == 0)
  assert(ffi.C.waitpid(pid[0], nil, 0) == pid[0])
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
