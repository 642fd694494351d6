-- What specs share: cases that run as tasks on the loop, and that leave nothing behind.

local async = require("runtime.async")
local core = require("host.core")
local uv = require("luv")

local M = {}

-- Bounds for what never ends, on a machine that does much else and may stand still for seconds.
local CASE_S, PATIENCE_MS, SETTLE_NS = 300, 60000, 30e9

local cleanups

--- Has `fn` run, as a task, when the present case ends, however it ends. Last first.
---@param fn async fun()
function M.on_cleanup(fn)
  assert(cleanups, "on_cleanup outside support.async")
  table.insert(cleanups, 1, fn)
end

local function run_task(body, timeout_s)
  local task = async.spawn(body, { name = "spec", detached = true, on_error = function() end })
  local limit = uv.new_timer()
  local trace
  limit:start(timeout_s * 1000, 0, function()
    trace = debug.traceback(task.co)
    task:cancel()
  end)
  while not task.done do
    uv.run("once")
  end
  limit:close()
  uv.run("nowait")
  if trace then
    return false, ("the case took longer than %d s\n%s"):format(timeout_s, trace)
  end
  return unpack(task.results, 1, task.results.n)
end

local function handles()
  local counts, total = core.handles()
  local names = {}
  for kind, count in pairs(counts) do
    names[#names + 1] = ("%d %s"):format(count, kind)
  end
  return total, table.concat(names, ", ")
end

--- How long to wait for what must come: as long as asked for, and never less than a slow machine
--- needs. How soon something comes is no matter of patience.
---@param timeout_ms? number
---@return number
function M.patience_ms(timeout_ms)
  return math.max(timeout_ms or 0, PATIENCE_MS)
end

--- Wraps the body of an `it`: it runs as a task, within `timeout_s` and never less than 300 s.
--- Afterwards no handle, registry reference or error in a callback may be left.
---@param body async fun()
---@param timeout_s? number
function M.async(body, timeout_s)
  return function()
    collectgarbage()
    collectgarbage()
    uv.run("nowait")
    local handles_before = handles()
    local references_before = core.references()
    local errors_before = core.callback_errors()

    cleanups = {}
    local ok, err = run_task(body, math.max(timeout_s or 0, CASE_S))
    for _, cleanup in ipairs(cleanups) do
      local cleaned, cleanup_err = run_task(cleanup, CASE_S)
      if ok and not cleaned then
        ok, err = false, cleanup_err
      end
    end
    cleanups = nil
    if not ok then
      error(err, 0)
    end

    -- Close callbacks may still be due.
    local settle_until = uv.hrtime() + SETTLE_NS
    while (handles()) > handles_before and uv.hrtime() < settle_until do
      uv.run("nowait")
    end
    local left, names = handles()
    if left > handles_before then
      error(("the case left %d handles open: %s"):format(left - handles_before, names), 0)
    end
    if core.references() > references_before then
      error(("the case left %d references"):format(core.references() - references_before), 0)
    end
    if core.callback_errors() > errors_before then
      error("an error escaped a callback; it is printed above", 0)
    end
  end
end

--- Waits until `condition()` is true, looking after every turn of the loop.
---@async
---@param condition fun(): any
---@param timeout_ms? number See `patience_ms`.
---@param what? string For the error.
---@return any What the condition returned.
function M.wait_until(condition, timeout_ms, what)
  timeout_ms = M.patience_ms(timeout_ms)
  local deadline = async.deadline(timeout_ms)
  while true do
    local value = condition()
    if value then
      return value
    end
    if deadline:left_ms() == 0 then
      error(("waited %d ms for %s"):format(timeout_ms, what or "a condition"), 2)
    end
    async.sleep(5)
  end
end

--- A path for a file of this run, in a folder that is removed at exit by `make clean`.
---@param name string
---@return string
function M.tmp_path(name)
  uv.fs_mkdir("build", 493)
  uv.fs_mkdir("build/tmp", 493)
  return ("build/tmp/%d-%s"):format(uv.os_getpid(), name)
end

--- Writes a file and returns its path.
function M.write_file(path, text)
  local f = assert(io.open(path, "w"))
  assert(f:write(text))
  f:close()
  return path
end

return M
