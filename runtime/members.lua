--- A set that knows in which order its members came. Whoever goes through one does so in the same
--- order in each process, which `pairs` over a table with objects for keys does not.

local M = {}

---@class members.Members
local Members = {}
local members_mt = { __index = Members }

--- Creates an empty set.
---@return members.Members
function M.new()
  return setmetatable({ numbers = {}, last = 0 }, members_mt)
end

--- Adds a member; one that is there already stays where it is.
---@param member any
function Members:add(member)
  if not self.numbers[member] then
    self.last = self.last + 1
    self.numbers[member] = self.last
  end
end

--- Removes a member, if it is there.
---@param member any
function Members:remove(member)
  self.numbers[member] = nil
end

---@param member any
---@return boolean
function Members:has(member)
  return self.numbers[member] ~= nil
end

---@return boolean
function Members:is_empty()
  return next(self.numbers) == nil
end

--- The members, oldest first.
---@param accepts? fun(member: any): any Asked in no defined order: which are wanted.
---@return any[] list The caller's own.
function Members:list(accepts)
  local numbers, list = self.numbers, {}
  for member in next, numbers do
    if not accepts or accepts(member) then
      list[#list + 1] = member
    end
  end
  table.sort(list, function(a, b)
    return numbers[a] < numbers[b]
  end)
  return list
end

return M
