--- Who is told: names of watchers for events that several have in common.

local M = {}

--- The name of the first watcher, and those of all when there are several.
---@param users { meta: { watcher: string } }[]
---@return string? watcher
---@return string[]? watchers
function M.names(users)
  local names = {}
  for i, user in ipairs(users) do
    names[i] = user.meta.watcher
  end
  return names[1], names[2] and names or nil
end

return M
