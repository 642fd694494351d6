--- Random bytes that a seed decides.

local crypto = require("host.crypto")
local uv = require("luv")

local M = {}

local function seed_numbers(seed)
  math.randomseed(tonumber(crypto.sha256(seed):sub(1, 12), 16))
end

--- Seeds `math.random` where there is no session, so that hosts that start together do not all
--- come back to a server at the same moment.
function M.scatter()
  seed_numbers(assert(uv.random(16)))
end

--- A source of random bytes; `math.random` is seeded with it.
---@param seed string
---@return fun(count: integer): string
function M.new(seed)
  seed_numbers(seed)
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
