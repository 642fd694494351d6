--- `beamlens clients [--ping]`: the client registry, a line for each client; `--ping` makes one
--- small request with each model.

local async = require("runtime.async")
local clock = require("runtime.clock")
local common = require("runtime.commands.common")
local options = require("runtime.options")
local telemetry = require("runtime.telemetry")
local units = require("runtime.units")

local M = {}

local TIMEOUT_MS = 30000
local KEYS = { set = "key set", missing = "no key" }

M.options = {
  clients = { arg = "FILE", doc = "the client registry (else /etc/beamlens/clients.lua, else "
    .. "built in)" },
  ping = { doc = "make one small request with each model" },
  timeout = { arg = "TIME", doc = "for each request (default 30s)", parse = options.duration },
  help = common.NODE_OPTIONS.help,
}

-- What a client is: its model and key, or its members.
local function describe(entry)
  if entry.members then
    return table.concat(entry.members, ", ")
  elseif entry.provider == "rules" then
    return "no model"
  end
  local key = KEYS[entry.key] or "needs no key"
  if entry.key == "missing" then
    key = ("%s: %s is not set"):format(key, entry.key_variable)
  end
  return ("%s, %s%s"):format(entry.model, key, entry.is_unpriced and ", no known price" or "")
end

-- What a ping found, and whether that is well.
local function judge(result, failure)
  if result then
    local usage = result.usage
    return ("ok: answered in %s, %s tokens"):format(units.format_duration(result.ms),
      units.format_count((usage.input or 0) + (usage.output or 0))), true
  end
  return ("FAIL: %s: %s"):format(failure.kind, failure.message), false
end

-- Pings all models at once. Returns the tasks by name.
local function ping_all(registry, list, timeout_ms)
  local tasks = {}
  for _, entry in ipairs(list) do
    if not entry.members and entry.provider ~= "rules" then
      tasks[entry.name] = async.spawn(function()
        return registry:ping(entry.name, timeout_ms)
      end)
    end
  end
  return tasks
end

local function print_entry(registry, entry, widths, ping)
  local mark = entry.name == registry.primary and "*" or " "
  print(("%s %-" .. widths.name .. "s  %-" .. widths.provider .. "s  %s%s"):format(mark, entry.name,
    entry.provider, describe(entry), ping and "; " .. ping or ""))
end

local function clients(opts)
  if opts[1] then
    common.warn(("clients takes no argument %q: name a registry by --clients FILE"):format(opts[1]))
    return 2
  end
  local registry, err = common.open_registry({ file = opts.clients, telemetry = telemetry.new(),
    clock = clock.system() })
  if not registry then
    common.warn(err)
    return 2
  end
  local list, widths = registry:list(), { name = 4, provider = 8 }
  for _, entry in ipairs(list) do
    widths.name = math.max(widths.name, #entry.name)
    widths.provider = math.max(widths.provider, #entry.provider)
  end
  local status = 0
  local tasks = opts.ping and ping_all(registry, list, opts.timeout or TIMEOUT_MS) or {}
  for _, entry in ipairs(list) do
    local text, well
    if tasks[entry.name] then
      local ok, result, failure = tasks[entry.name]:join()
      text, well = judge(ok and result, ok and failure or { kind = "error", message = "failed" })
      status = well and status or 1
    end
    print_entry(registry, entry, widths, text)
  end
  if registry.notice then
    common.warn(registry.notice)
  end
  return status
end

---@param args string[]
---@return integer status
function M.main(args)
  return common.main(args, M.options, "clients [--ping] [OPTION...]", clients)
end

return M
