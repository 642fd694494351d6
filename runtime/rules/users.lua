--- The watchers that share an evaluation of rules, by their detectors: all of them, and those that
--- have begun, which are told of findings.

local members = require("runtime.members")

local M = {}

---@class rules_users.Users
---@field count integer
local Users = {}
local users_mt = { __index = Users }

--- Nobody yet.
---@return rules_users.Users
function M.new()
  return setmetatable({ members = members.new(), count = 0 }, users_mt)
end

--- All, in order.
---@return detector.Detector[]
function Users:list()
  return self.members:list()
end

--- Those that have begun, in order. The list is not to be changed.
---@return detector.Detector[]
function Users:told()
  self.begun = self.begun or self.members:list(function(user)
    return user.is_told
  end)
  return self.begun
end

--- Adds a watcher. It is told once it has begun.
---@param user detector.Detector
function Users:add(user)
  self.members:add(user)
  self.count, self.begun = self.count + 1, nil
end

--- Takes one away again.
---@param user detector.Detector
function Users:remove(user)
  local left = {}
  for _, other in ipairs(self.begun or {}) do
    left[#left + 1] = other ~= user and other or nil
  end
  self.members:remove(user)
  self.count, self.begun = self.count - 1, self.begun and left
end

--- Says that another one has begun.
function Users:changed()
  self.begun = nil
end

return M
