--- `beamlens domains [DOMAIN]`: the domains, or one with its figures, callbacks and rules.

local beamlens = require("runtime.beamlens")
local common = require("runtime.commands.common")
local loader = require("runtime.loader")
local parts = require("runtime.app.parts")
local telemetry = require("runtime.telemetry")
local units = require("runtime.units")
local rule_set = require("runtime.rules.set")

local M = {}

M.options = {
  dir = common.NODE_OPTIONS.dir,
  help = common.NODE_OPTIONS.help,
}

local function indented(text)
  return "  " .. text:gsub("\n", "\n  ")
end

local function describe(domain)
  print(("%s: %s"):format(domain.name, domain.title))
  print(indented(domain.description))
  if domain.settings[1] then
    print("\nSettings of a watcher:")
    print(indented(domain:setting_docs()))
  end
  print("\nFigures of a snapshot:")
  print(indented(domain:metric_docs()))
  print("\nCallbacks:")
  print(indented(domain:docs()))
  print("\nRules:")
  for _, rule in ipairs((rule_set.compile(domain.rules))) do
    print(("  %-24s %-8s held for %s%s"):format(rule.type, rule.severity,
      units.format_duration(rule.hold_ms), rule.title and ": " .. rule.title or ""))
    if rule.left_to then
      print(("  %-24s (not where a watcher of %s is, which has it, too)"):format("", rule.left_to))
    end
  end
end

local function domains(opts)
  if opts[2] then
    common.warn("name one domain, or none for all: beamlens domains [DOMAIN]")
    return 2
  end
  local found, bus = loader.new({ dir = opts.dir }), telemetry.new()
  package.loaded["beamlens"] = beamlens.new({ telemetry = bus, warn = common.warn })
  local loaded = parts.new({ loader = found, telemetry = bus })
  local status = 0
  for _, name in ipairs(opts[1] and { opts[1] } or found:names("domains")) do
    local domain, err = loaded:load_domain({ domain = name })
    if not domain then
      common.warn(err)
      status = 2
    elseif opts[1] then
      describe(domain)
    else
      print(("%-10s %s: %s"):format(name, domain.title, domain.description))
    end
  end
  loaded:close()
  return status
end

---@param args string[]
---@return integer status
function M.main(args)
  return common.main(args, M.options, "domains [DOMAIN] [OPTION...]", domains)
end

return M
