--- Texts by which what is the same is found: values of files by what they say, functions and
--- objects by which one they are.

local M = {}

---@class detector_keys.Keys
local Keys = {}
local keys_mt = { __index = Keys }

--- No object is known yet. Texts of different ones do not compare.
---@return detector_keys.Keys
function M.new()
  return setmetatable({ numbers = setmetatable({}, { __mode = "k" }), last = 0 }, keys_mt)
end

-- The number of an object, the same as long as it lives.
function Keys:number_of(object)
  local number = self.numbers[object]
  if not number then
    number = self.last + 1
    self.numbers[object], self.last = number, number
  end
  return ("#%d"):format(number)
end

-- The entries of a table as texts, in the order of the alphabet.
function Keys:entries(value)
  local list = {}
  for key, item in pairs(value) do
    list[#list + 1] = ("%s=%s"):format(self:text(key), self:text(item))
  end
  table.sort(list)
  return list
end

--- A value as text: equal for tables of equal entries, whatever the order.
---@param value any
---@return string
function Keys:text(value)
  local kind = type(value)
  if kind == "string" then
    return ("%q"):format(value)
  elseif kind == "number" then
    return ("%.17g"):format(value)
  elseif kind == "table" and not getmetatable(value) then
    return "{" .. table.concat(self:entries(value), ",") .. "}"
  elseif kind == "nil" or kind == "boolean" then
    return tostring(value)
  end
  return self:number_of(value)
end

return M
