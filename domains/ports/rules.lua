--- The rules of the ports domain.

local M = {}

M.rules = {}

return M
