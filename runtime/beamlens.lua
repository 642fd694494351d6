--- The public API for watcher files, domains and hooks: `local beamlens = require("beamlens")`.

local async = require("runtime.async")
local trends = require("runtime.trends")
local units = require("runtime.units")
local work = require("runtime.work")
local world = require("runtime.world")

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
    trends = trends,
    units = units,
  }
end

--- What a domain file sees besides the globals: a `require` whose "beamlens" also has `work`, which
--- runs a blocking library in the domain's own thread; see runtime/work.lua.
---@param found { chunk_name: string, path?: string }
---@param trace? trace.Trace Is told of the modules that the thread loads from the domain's folder.
---@return table globals
---@return work.Worker worker To be closed when the host ends.
function M.for_domain(found, trace)
  local worker = work.new({
    name = found.chunk_name,
    folder = found.path and (found.path:match("^(.*)/[^/]*$") or "."),
  })
  local noted, tell = {}, nil
  -- What a session sees from outside calls it, too: that it was called comes in.
  world.open("modules", function(on_event)
    tell = on_event
    return true
  end, function(module)
    local base = (found.path:match("^(.*/)[^/]*$") or "") .. module:gsub("%.", "/")
    for _, path in ipairs({ base .. ".lua", base .. "/init.lua" }) do
      if trace:exists(path) then
        trace:read(path)
      end
    end
  end, found.chunk_name)
  local function note(module)
    if trace and found.path and type(module) == "string" and not noted[module] and tell then
      noted[module] = true
      tell(module)
    end
  end
  local own = setmetatable({
    work = function(module, fn_name, args, opts)
      note(module)
      return worker:call(module, fn_name, args, opts)
    end,
  }, {
    __index = function(_, name)
      return require("beamlens")[name]
    end,
  })
  return {
    require = function(name)
      return name == "beamlens" and own or require(name)
    end,
  }, worker
end

return M
