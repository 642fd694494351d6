--- A registry that asks nobody: what would be sent is shown, and the rules decide.

local json = require("runtime.json")
local payload = require("runtime.providers.payload")

local M = {}

--- Wraps a registry.
---@param registry clients.Registry
---@param show fun(payload: table, count: integer) Called for what the first decision of each
--- watcher would send, with how many watchers came to one by now.
---@return table registry
function M.wrap(registry, show)
  local seen, count = {}, 0
  local wrapped = {}
  function wrapped.decide(_, name, request, opts)
    local meta = request.meta
    local key = ("%s %s"):format(meta.watcher, meta.node)
    if not seen[key] then
      seen[key], count = true, count + 1
      for _, shown in ipairs(payload.of(registry, name, request)) do
        shown.watcher, shown.node = meta.watcher, meta.node
        show(shown, count)
      end
    end
    return registry:decide("rules", request, opts)
  end
  return setmetatable(wrapped, { __index = registry })
end

--- Prints what a host's wrapped registry shows, and stops the host after its last watcher.
---@param host table With `output`, `app`, `telemetry` and `stop(self, reason)`.
---@param warn fun(text: string)
function M.start(host, warn)
  function host.show(_, shown, count)
    host.shown = true
    host.output:write_line(json.encode(shown))
    if count == host.app:extent().watchers then
      host:stop("shown")
    end
  end
  host.telemetry:attach("show-payload", "beamlens.node.down", function(_, _, metadata)
    warn(("%s: %s"):format(metadata.node, metadata.error))
  end)
end

return M
