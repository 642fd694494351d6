-- Threads of a process, and which signals they block.
--
--   threads.wait_for(b.pid, 2, 0)    -- two that no signal reaches, and the main one

local async = require("runtime.async")
local uv = require("luv")

local M = {}

-- What the host itself answers to: SIGHUP, SIGINT, SIGTERM and SIGCHLD, as the kernel prints masks.
local HANDLED = bit.bor(bit.lshift(1, 0), bit.lshift(1, 1), bit.lshift(1, 14), bit.lshift(1, 16))

local function blocked(path)
  local file = io.open(path)
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  -- The signals of real time are in the upper half.
  local low = text:match("SigBlk:%s*%x+(%x%x%x%x%x%x%x%x)\n")
  return low and bit.band(tonumber(low, 16), HANDLED)
end

--- How many threads there are besides the main one, by whether they block what the host answers to:
--- all of it, or less. Nil while the main thread blocks any of it.
---@param pid integer
---@return { quiet: integer, other: integer }?
function M.count(pid)
  local folder = ("/proc/%d/task"):format(pid)
  local counts = { quiet = 0, other = 0 }
  for tid in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
    local mask = blocked(("%s/%s/status"):format(folder, tid))
    if tonumber(tid) == pid then
      if mask ~= 0 then
        return nil
      end
    elseif mask then
      local kind = mask == HANDLED and "quiet" or "other"
      counts[kind] = counts[kind] + 1
    end
  end
  return counts
end

--- Waits until at least `quiet` threads block those signals, `other` do not, and neither does the
--- main one, which blocks them for a moment whenever it starts a quiet one.
---@async
---@param pid integer
---@param quiet integer
---@param other integer
function M.wait_for(pid, quiet, other)
  local deadline, counts = async.deadline(60000), nil
  repeat
    counts = M.count(pid) or counts
    if counts and counts.quiet >= quiet and counts.other == other then
      return
    end
    async.sleep(20)
  until deadline:left_ms() == 0
  local text = counts and ("%d threads block them, %d do not"):format(counts.quiet, counts.other)
  error("signals: " .. (text or "the main thread blocks them"), 2)
end

return M
