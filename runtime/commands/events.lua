--- `beamlens events [NAME]`: the telemetry events with their measurements and metadata.

local events = require("runtime.events")
local telemetry = require("runtime.telemetry")

local M = {}

---@param args string[]
---@return integer status
function M.main(args)
  local wanted = args[1]
  if wanted and not events[wanted] and events["beamlens." .. wanted] then
    wanted = "beamlens." .. wanted
  end
  if wanted and not events[wanted] then
    io.stderr:write(("beamlens: unknown event %q; `beamlens events` lists them\n"):format(wanted))
    return 2
  end
  for _, name in ipairs(telemetry.event_names()) do
    if not wanted or name == wanted then
      local event = events[name]
      print(name)
      print("  " .. event.doc)
      print("  measurements: " .. table.concat(event.measurements, ", "))
      print("  metadata: " .. table.concat(event.metadata, ", "))
    end
  end
  return 0
end

return M
