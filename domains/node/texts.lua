--- Small files of a node's machine, such as those of /proc, read on the node by `prim_file`: with
--- dirty IO full that does not return, so every reader has a short deadline.

local counters = require("runtime.domain.counters")

local M = {}

local MAX_BYTES = 8192

local READ = [[
[case prim_file:read_file(Path) of
   {ok, Text} when byte_size(Text) > Most -> binary_part(Text, 0, Most);
   {ok, Text} -> Text;
   _ -> undefined
 end || Path <- Paths].
]]

-- One after another: what hangs is asked once.
local function by_calls(target, paths, deadline)
  local found = {}
  for i, path in ipairs(paths) do
    local answer, err, code = target:call("prim_file", "read_file", { path },
      { timeout_ms = deadline:left_ms() })
    if answer == nil then
      return nil, err, code
    end
    found[i] = answer[1] == "ok" and answer[2]:sub(1, MAX_BYTES) or nil
  end
  return found
end

--- Reads files, the first 8 KiB of each.
---@async
---@param target domain.Target
---@param paths string[] Literals, or made of what the node's own files say.
---@param deadline async.Deadline
---@return table<integer, string>? texts By the index of the path; nil for what cannot be read.
---@return string? err
---@return string? code
function M.read(target, paths, deadline)
  local answer, err, code = target:eval(READ, { Paths = paths, Most = MAX_BYTES },
    { timeout_ms = deadline:left_ms() })
  if answer == nil then
    if counters.is_without_eval(code) then
      return by_calls(target, paths, deadline)
    end
    return nil, err, code
  end
  local found = {}
  for i, text in ipairs(answer) do
    found[i] = type(text) == "string" and text ~= "undefined" and text or nil
  end
  return found
end

return M
