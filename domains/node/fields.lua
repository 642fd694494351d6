--- What domains of nodes share: descriptions of figures, and figures as they are shown.

local json = require("runtime.json")

local M = {}

local MIB = 1024 * 1024

--- The description of a number with a unit.
---@return domain.Field
function M.metric(name, unit, doc)
  return { name = name, type = "number", unit = unit, doc = doc }
end

--- The description of a whole number.
---@return domain.Field
function M.count(name, doc)
  return { name = name, type = "integer", doc = doc }
end

--- The description of a size in MiB.
---@return domain.Field
function M.mb(name, doc)
  return M.metric(name, "MiB", doc)
end

--- The description of a figure that may be null.
---@param field domain.Field
---@return domain.Field
function M.nullable(field)
  field.nullable = true
  return field
end

--- The same, at two decimals.
---@param number number
function M.round2(number)
  return math.floor(number * 100 + 0.5) / 100
end

--- Bytes as MiB, at two decimals.
---@param bytes number
function M.mib(bytes)
  return M.round2(bytes / MIB)
end

--- A share in percent, at two decimals; null of nothing.
---@param part number
---@param whole number
function M.pct(part, whole)
  return whole > 0 and M.round2(part / whole * 100) or json.null
end

return M
