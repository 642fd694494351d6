--- How many file descriptors a node's OS process has open, and how many it may.
---
--- When it may open no more, its own folder cannot be read either: then as many are open as it may
--- have, by the limit that was read last, or else the one that the node found when it started.

local patience = require("domains.node.patience")

local M = {}

-- The listing itself has the folder open.
local READ = [[
{case prim_file:list_dir("/proc/self/fd") of
   {ok, Names} -> length(Names) - 1;
   {error, emfile} ->
     case lists:keyfind(max_fds, 1, lists:append(erlang:system_info(check_io))) of
       {_, Most} -> {full, Most};
       false -> undefined
     end;
   _ -> undefined
 end,
 case prim_file:read_file("/proc/self/limits") of
   {ok, Text} when byte_size(Text) =< 8192 -> Text;
   _ -> undefined
 end}.
]]

local function is_limits(text)
  return type(text) == "string" and text:find("Max open files", 1, true) ~= nil
end

--- The soft limit in the text of /proc/self/limits; nil where there is none.
---@param text any
---@return number?
function M.limit(text)
  return is_limits(text) and tonumber(text:match("Max open files%s+(%d+)")) or nil
end

local function read_files(target, deadline)
  local answer, err, code = target:eval(READ, {}, {
    timeout_ms = deadline:left_ms(), max_heap_words = 8 * 1024 * 1024,
  })
  if not answer then
    return nil, err, code
  end
  local count, memo = answer[1], target.memo
  if type(count) == "table" then
    local limit = memo.fd_limit or count[2]
    return { count = limit, limit = limit }
  end
  if is_limits(answer[2]) then -- else the last descriptor was taken meanwhile
    memo.fd_limit = M.limit(answer[2])
  end
  return { count = type(count) == "number" and count or nil, limit = memo.fd_limit }
end

--- Reads both from the node.
---@async
---@param target domain.Target
---@return { count?: number, limit?: number } files Empty when it is late, or is no Linux.
function M.read(target)
  return patience.read(target, read_files) or {}
end

return M
