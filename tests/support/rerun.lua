-- With BEAMLENS_TEST_RECORD set, each `run` that a spec starts is recorded, and replayed when its
-- case ends: what it printed must come again. To look for what comes in by no door:
--
--   BEAMLENS_TEST_RECORD=1 make spec T=e2e/

local support = require("support")
local uv = require("luv")

local M = {}

local NOT_RECORDED = { ["--record"] = true, ["--replay"] = true, ["--show-payload"] = true,
  ["--help"] = true }

local function is_meant(args)
  for _, argument in ipairs(args) do
    if NOT_RECORDED[argument] then
      return false
    end
  end
  return os.getenv("BEAMLENS_TEST_RECORD") ~= nil and args[1] == "run"
end

-- The folder of the case in which the files of a run are; nil where it has none.
local function tree_of(args)
  return table.concat(args, "\n"):match("[^\n]*/%d+%-tree%-%w+")
end

-- Keeps the files with which a run starts. Returns a function that puts them back.
local function keep_files(args)
  local root = tree_of(args)
  if not root then
    return function() end
  end
  local copy = assert(uv.fs_mkdtemp("/tmp/beamlens-rerun-XXXXXX"))
  os.execute(("cp -a '%s' '%s/tree'"):format(root, copy))
  return function()
    os.execute(("find '%s' -mindepth 1 -delete; cp -a '%s/tree/.' '%s'; rm -rf '%s'"):format(root,
      copy, root, copy))
  end
end

--- The arguments with which a process is started, and the file of its recording.
---@param args string[]
---@return string[] args
---@return string? path nil: it is not recorded.
---@return fun()? put_back Puts the files back that it has found.
function M.recorded(args)
  if not is_meant(args) then
    return args
  end
  local path = ("%s/%s"):format(uv.cwd(), support.tmp_path(("rerun-%d.jsonl"):format(uv.hrtime())))
  args = { unpack(args) }
  args[#args + 1] = "--record"
  args[#args + 1] = path
  return args, path, keep_files(args)
end

--- Replays what a process recorded, and removes it unless it went another way. What was printed or
--- recorded last may be missing when it was killed.
---@async
---@param process table That was started so; it has ended.
---@param path string
---@param run async fun(args: string[]): integer, string, string
function M.check(process, path, run)
  if not uv.fs_stat(path) then
    return -- its command line was wrong
  end
  assert(not process:stderr():find("may not replay", 1, true), process:stderr())
  local status, replayed, stderr = run({ "run", "--replay", path, "--log", "json" })
  local printed = process:stdout()
  local common = math.min(#printed, #replayed)
  local is_json = printed:sub(1, 1) == "{"
  local differs = is_json and printed:sub(1, common) ~= replayed:sub(1, common)
  -- 2: a case has removed a file that the run had loaded.
  if status == 1 and process.status ~= 1 or status == 0 and differs then
    error(("%s does not replay (status %d): %s"):format(path, status, stderr), 0)
  end
  os.remove(path)
end

return M
