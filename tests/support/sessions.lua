-- Recorded sessions of `beamlens run`, for specs.
--
--   local path = sessions.path()
--   local b = watch.start({ node = n, args = { "--record", path } })
--   …
--   sessions.assert_replays(path, b:stdout())

local beamlens = require("support.beamlens")
local support = require("support")
local uv = require("luv")

local M = {}

local count = 0

--- A file for a recording, which is removed when the case ends.
---@return string
function M.path()
  count = count + 1
  local name = ("session-%d-%d.jsonl"):format(uv.hrtime() / 1e6, count)
  local path = uv.cwd() .. "/" .. support.tmp_path(name)
  support.on_cleanup(function()
    os.remove(path)
  end)
  return path
end

--- Replays a recording.
---@async
---@param path string
---@param args? string[]
---@return integer status
---@return string stdout
---@return string stderr
function M.replay(path, args)
  return beamlens.run({ "run", "--replay", path, "--log", "json", unpack(args or {}) },
    { timeout_ms = 60000 })
end

-- The first lines that differ.
local function difference(expected, actual)
  local a, b = (expected .. "\n"):gmatch("(.-)\n"), (actual .. "\n"):gmatch("(.-)\n")
  local line = 0
  repeat
    line = line + 1
    local left, right = a(), b()
    if left ~= right then
      return ("line %d\nrecorded: %s\nreplayed: %s"):format(line, tostring(left), tostring(right))
    end
  until not left
end

--- Replays a recording twice: both times it prints exactly what was printed when it was recorded.
---@async
---@param path string
---@param stdout string
---@param args? string[]
function M.assert_replays(path, stdout, args)
  assert(#stdout > 0, "nothing was printed while it was recorded")
  for _ = 1, 2 do
    local status, replayed, stderr = M.replay(path, args)
    assert(replayed == stdout, ("%s\n%s"):format(difference(stdout, replayed) or "", stderr))
    assert(status == 0, stderr)
  end
end

--- Waits for the end of a run that was recorded, and checks that nothing came in unseen.
---@async
---@param process table Of support.beamlens.
---@return integer status
function M.wait_exit(process, timeout_ms)
  local status = process:wait_exit(timeout_ms)
  local stderr = process:stderr()
  assert(not stderr:find("may not replay", 1, true), stderr)
  return status
end

--- The text of a recording.
---@param path string
---@return string
function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

return M
