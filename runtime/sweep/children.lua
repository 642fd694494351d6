local M = {}
local Children = {}
local mt = { __index = Children }
function M.new() return setmetatable({}, mt) end
function Children:learn(_, result) result.gone = {} end
return M
