--- Random ids: alerts, samples, findings, executions and traces are named by them.

local world = require("runtime.world")

local M = {}

local HEX = {}
for byte = 0, 255 do
  HEX[string.char(byte)] = ("%02x"):format(byte)
end

--- A random id in lower-case hexadecimal.
---@param digits? integer Default: 16. An id of records has 16, a trace id 32.
---@return string
function M.hex(digits)
  digits = digits or 16
  if type(digits) ~= "number" or digits < 1 or digits % 1 ~= 0 then
    error("an id has a whole number of digits, at least 1", 2)
  end
  local bytes = world.random(math.ceil(digits / 2))
  return (bytes:gsub(".", HEX)):sub(1, digits)
end

return M
