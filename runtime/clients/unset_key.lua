--- A client whose key should be in a variable, by `api_key = "env.NAME"`, that is not set. No other
--- key takes its place, since that could go to a server that it is not meant for.

local shared = require("runtime.providers.shared")

local M = {}

--- Wraps the provider of such a client: it has no key, and each request says so.
---@param handler table As in runtime/providers/exchange.lua.
---@param variable string
---@return table handler
function M.wrap(handler, variable)
  local wrapped = { key_variable = variable }
  function wrapped.has_key()
    return false
  end
  function wrapped.request()
    return nil, shared.check_key(nil, variable)
  end
  return setmetatable(wrapped, { __index = handler })
end

return M
