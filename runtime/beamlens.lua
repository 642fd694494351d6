--- The public API for watcher files, domains and hooks: `local beamlens = require("beamlens")`.

local async = require("runtime.async")

local M = {}

--- Builds the module for one running host.
---@param opts { telemetry: telemetry.Bus, warn: fun(text: string) }
---@return table beamlens
function M.new(opts)
  local bus = opts.telemetry
  local facade = {}
  -- As Erlang's telemetry: plain functions, no object.
  for _, name in ipairs({ "attach", "attach_many", "detach", "execute", "list_handlers" }) do
    facade[name] = function(...)
      return bus[name](bus, ...)
    end
  end
  facade.event_names = require("runtime.telemetry").event_names
  return {
    telemetry = facade,
    log = opts.warn,
    http = require("runtime.http"),
    sleep = async.sleep,
  }
end

return M
