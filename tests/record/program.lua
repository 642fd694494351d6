-- Programs of a scenario that are no test node: started with a log of their own, and ended with the
-- recording, however that ends.

local async = require("runtime.async")
local support = require("support")
local uv = require("luv")

local M = {}

-- The log of a program as it is now.
local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

--- An empty folder of this run, by its full path; removed at the end.
---@param name string
---@return string path
function M.folder(name)
  local path = uv.cwd() .. "/" .. support.tmp_path(name)
  assert(uv.fs_mkdir(path, 448))
  support.on_cleanup(function()
    os.execute("rm -rf '" .. path .. "'")
  end)
  return path
end

--- Starts a program and waits until its log says that it is ready. It must not leave its work to a
--- process of its own.
---@async
---@param command string
---@param opts { env: string[], log: string, ready: string, timeout_ms: number }
--- `ready`: a text of its output.
function M.start(command, opts)
  local fd = assert(uv.fs_open(opts.log, "w", 384))
  local exited = async.signal()
  local handle, pid
  -- The kernel ends it when this process is no more.
  handle, pid = uv.spawn("setpriv", { args = { "--pdeathsig", "KILL", "--", command },
    env = opts.env, stdio = { nil, fd, fd } }, function()
    handle:close()
    handle = nil
    exited:fire()
  end)
  uv.fs_close(fd)
  assert(handle, pid)
  support.on_cleanup(function()
    if handle then
      handle:kill("sigkill")
      exited:wait(10000)
    end
  end)
  support.wait_until(function()
    assert(handle, "it ended: " .. read(opts.log))
    return read(opts.log):find(opts.ready, 1, true)
  end, opts.timeout_ms, ("%s to say %q in %s"):format(command, opts.ready, opts.log))
end

return M
