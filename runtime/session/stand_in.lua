--- What a replay has in the place of a connection, a call or a timer: its methods do nothing.

local M = {}

local function nothing() end

--- Creates one. When it is closed, or cancelled, nothing comes by its door any more; a connection
--- cancels its calls by what stands for them.
---@param doors table<integer, table> Those that are open, by number.
---@param number integer
---@return table
function M.new(doors, number)
  local methods = {}
  function methods.close()
    doors[number] = nil
  end
  function methods.cancel(_, ...)
    local other = ...
    if select("#", ...) == 0 then
      doors[number] = nil
    elseif other then
      doors[other.number] = nil
    end
  end
  return setmetatable({ number = number }, { __index = function(_, name)
    return methods[name] or nothing
  end })
end

return M
