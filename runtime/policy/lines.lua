--- The lines of a watcher file: on which one a field of a watcher is set. Where the file builds its
--- tables by other means than writing them, a search for `field =` has to do.

local loader = require("runtime.loader")
local tables = require("runtime.loader.tables")

local M = {}

-- Follows what a message says beyond the field, such as `[1]: from "2:00" is …`, as far as it goes.
local function follow(field, message)
  local rest = message
  while field.value do
    local index = rest:match("^[%s:]*%[(%d+)%]()")
    local word = rest:match("^[%s:.]*([%a_][%w_]*)") or ""
    local unknown = rest:match('^[%s:]*unknown field "([^"]*)"')
      or rest:match('an unknown field "([^"]*)"')
    local key = tonumber(index) or unknown or word
    local inner = field.value.fields[key]
    if not inner then
      return field.line
    end
    field = inner
    rest = rest:sub((select(2, rest:find(index and "]" or unknown and unknown or word, 1, true))
      or 0) + 1)
  end
  return field.line
end

--- A function that tells the lines of one file's mistakes.
---@param source string
---@return fun(field: string, message: string, nth: integer, is_list: boolean): integer line_of
--- `field`: of the `nth` watcher of a list, or of the only one; `message` begins with its name.
function M.of(source)
  local returned
  local is_read = false
  return function(field, message, nth, is_list)
    if not is_read then
      is_read, returned = true, tables.read(source)
    end
    local watcher = returned
    if returned and is_list then
      watcher = (returned.fields[nth] or {}).value
    end
    if not watcher then
      return loader.line_of(source, field, nth)
    end
    local found = watcher.fields[field]
    return found and follow(found, (message:gsub("^" .. field:gsub("%W", "%%%0"), "", 1)))
      or watcher.line
  end
end

return M
