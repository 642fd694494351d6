--- Random bytes that a seed decides.

local crypto = require("host.crypto")

local M = {}

--- A source of random bytes; `math.random` is seeded with it.
---@param seed string
---@return fun(count: integer): string
function M.new(seed)
  math.randomseed(tonumber(crypto.sha256(seed):sub(1, 12), 16))
  local block, left = 0, ""
  return function(count)
    while #left < count do
      block = block + 1
      left = left .. crypto.sha256(("%s %d"):format(seed, block)):gsub("%x%x", function(digits)
        return string.char(tonumber(digits, 16))
      end)
    end
    local bytes = left:sub(1, count)
    left = left:sub(count + 1)
    return bytes
  end
end

return M
