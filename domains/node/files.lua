--- How many file descriptors a node's OS process has open, and how many it may.

local patience = require("domains.node.patience")

local M = {}

-- The listing itself has the folder open.
local READ = [[
{case prim_file:list_dir("/proc/self/fd") of
   {ok, Names} -> length(Names) - 1;
   _ -> undefined
 end,
 case prim_file:read_file("/proc/self/limits") of
   {ok, Text} when byte_size(Text) =< 8192 -> Text;
   _ -> undefined
 end}.
]]

--- The soft limit in the text of /proc/self/limits; nil where there is none.
---@param text any
---@return number?
function M.limit(text)
  return type(text) == "string" and tonumber(text:match("Max open files%s+(%d+)")) or nil
end

local function read_files(target, deadline)
  local answer, err, code = target:eval(READ, {}, {
    timeout_ms = deadline:left_ms(), max_heap_words = 8 * 1024 * 1024,
  })
  if not answer then
    return nil, err, code
  end
  return { count = type(answer[1]) == "number" and answer[1] or nil, limit = M.limit(answer[2]) }
end

--- Reads both from the node.
---@async
---@param target domain.Target
---@return { count?: number, limit?: number } files Empty when it is late, or is no Linux.
function M.read(target)
  return patience.read(target, read_files) or {}
end

return M
