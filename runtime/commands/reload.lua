--- `beamlens reload`: has the running host read its files again, as SIGHUP does.

local control = require("runtime.commands.control")

local M = {}

-- `FILE:LINE: message`, as most messages begin themselves.
local function located(failure)
  if failure.error:sub(1, #failure.file + 1) == failure.file .. ":" then
    return failure.error
  end
  return ("%s%s: %s"):format(failure.file, failure.line and (":%d"):format(failure.line) or "",
    failure.error)
end

-- What the host has taken over, and what it has not: a line each. 1 when a file is wrong.
local function tell(result)
  local lines = {}
  for _, file in ipairs(result.applied or {}) do
    lines[#lines + 1] = "reloaded " .. file
  end
  for _, failure in ipairs(result.failed or {}) do
    lines[#lines + 1] = located(failure) .. "; the old one stays in force"
  end
  lines[1] = lines[1] or "nothing has changed"
  return (table.concat(lines, "\n"):gsub("[%z\1-\9\11-\31]", " ")),
    result.failed and #result.failed > 0 and 1 or 0
end

---@param args string[]
---@return integer status
function M.main(args)
  return control.main(args, {
    usage = "reload [OPTION...]",
    options = control.OPTIONS,
    request = function()
      return { command = "reload" }
    end,
    tell = tell,
  })
end

return M
