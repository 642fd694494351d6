--- Moves a broken store out of the way: NAME becomes NAME.corrupt-TIME, with what SQLite keeps
--- beside it. Nothing is deleted.

local uv = require("luv")

local M = {}

local BESIDE = { "-wal", "-shm" }

--- Moves the file.
---@param path string
---@param now_ms number Unix milliseconds.
---@return string? aside Where it is now.
---@return string? err
function M.move(path, now_ms)
  local first = ("%s.corrupt-%s"):format(path, os.date("!%Y%m%dT%H%M%SZ",
    math.floor(now_ms / 1000)))
  local aside, count = first, 1
  while uv.fs_stat(aside) do
    count = count + 1
    aside = ("%s-%d"):format(first, count)
  end
  local ok, err = uv.fs_rename(path, aside)
  if not ok then
    return nil, err
  end
  for _, suffix in ipairs(BESIDE) do
    if uv.fs_stat(path .. suffix) then
      uv.fs_rename(path .. suffix, aside .. suffix)
    end
  end
  return aside
end

return M
