--- One call of a tool between its events: `tool.start`, then `tool.stop` or `tool.exception`.
---
--- A wait that ends a cycle is over long after its call was made. It is described, and waited when
--- the cycle has gone with all that it needed (`finish`).

local async = require("runtime.async")
local json = require("runtime.json")
local tools = require("runtime.tools")

local M = {}

---@class tool_call.Wait A wait that ends a cycle.
---@field ms number
---@field asked_ms? number
---@field note? string
---@field result table What becomes of it is added.
---@field began_ms? number When the wait began, by the monotonic clock.
---@field woken_by? string
---@field started_ms? number When the tool was called, by the monotonic clock; nil: none was.

local function started(watcher, name, args)
  local shown = {}
  for key, value in pairs(args) do
    shown[key] = value
  end
  shown.reason = nil
  watcher:emit("beamlens.tool.start", { tool = name, arguments = json.object(shown),
    reason = args.reason })
end

local function stopped(watcher, name, started_ms, info, result)
  local err = info.is_error and result.error or nil
  watcher:emit("beamlens.tool.stop", { tool = name, ok = not info.is_error,
    error = type(err) == "table" and err.message or err },
    { duration = watcher.clock.now_ms() - started_ms })
end

local function failed(watcher, name, started_ms, err)
  watcher:emit("beamlens.tool.exception", { tool = name, error = err },
    { duration = watcher.clock.now_ms() - started_ms })
end

--- Runs a tool's handler. One that raises is told to the model: the loop must not die of one
--- callback.
---@async
---@param watcher watcher.Watcher
---@param name string
---@param args table As checked.
---@param call table The decision.
---@return table result
---@return { is_error?: boolean, wait?: tool_call.Wait } info With `wait`, `finish` is to be called.
function M.run(watcher, name, args, call)
  local started_ms = watcher.clock.now_ms()
  started(watcher, name, args)
  if call.source == "model" then
    watcher.journal:add({ at_ms = watcher.clock.wall_ms(), tool = name, args = args })
    watcher:changed()
  end
  local ok, result, info = async.unwinding(function()
    failed(watcher, name, started_ms, "cancelled")
  end, async.pcall, tools.get(name).handler, watcher, args, call)
  if not ok then
    failed(watcher, name, started_ms, tostring(result))
    return { error = ("internal error in %s: %s"):format(name,
      tostring(result):match("^[^\n]*")) }, { is_error = true }
  end
  info = info or {}
  if info.wait then
    info.wait.started_ms = started_ms
  else
    stopped(watcher, name, started_ms, info, result)
  end
  return result, info
end

--- Tells of the end of a wait.
---@param watcher watcher.Watcher
---@param wait tool_call.Wait
---@param waited { waited_ms: integer, woken_by: any }
function M.finish(watcher, wait, waited)
  for name, value in pairs(waited) do
    wait.result[name] = value
  end
  if wait.started_ms then
    stopped(watcher, "wait", wait.started_ms, {}, wait.result)
  end
  watcher.last_wait = wait.result
end

--- Tells that a wait was given up.
---@param watcher watcher.Watcher
---@param wait tool_call.Wait
function M.cancel(watcher, wait)
  if wait.started_ms then
    failed(watcher, "wait", wait.started_ms, "cancelled")
  end
end

return M
