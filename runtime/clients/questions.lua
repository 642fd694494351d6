--- A question to a model, as a session sees it: who asks which client what, and the answer. What
--- lies between (requests, credentials, streams) happens outside.

local async = require("runtime.async")

local M = {}

--- The kind of the door.
M.KIND = "model"

--- Asks a client once.
---@async
---@param client table Of a registry.
---@param request table The normalised request.
---@param timeout_ms number
---@param wall_ms number Unix time now.
---@return table? result
---@return providers.Failure? failure
function M.ask(client, request, timeout_ms, wall_ms)
  if client.provider == "rules" then
    return client.handler:decide(request, timeout_ms, wall_ms)
  end
  local meta = request.meta or {}
  return async.outside(M.KIND, function()
    return client.handler:decide(request, timeout_ms, wall_ms)
  end, client.name, meta.watcher or "", meta.node or "", request.system, request.tools,
    request.messages)
end

return M
