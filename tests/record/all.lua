-- Records all scenarios side by side, each by a run.lua of its own:
--
--   build/beamlens lua tests/record/all.lua [SECONDS] [PATTERN]     (1800)
--
-- The next one starts when the one before has begun to record. The files come into
-- tests/recordings when all is well with them; else they stay in build/tmp and it says so.

local uv = require("luv")

setmetatable(_G, nil)
package.path = "tests/?.lua;tests/?/init.lua;" .. package.path

local async = require("runtime.async")
local support = require("support")

local START_MS = 180000
local LONGEST_S = 3000 -- a scenario may take longer than it is asked to

local seconds, pattern = tonumber(arg[1] or 1800), arg[2] or ""

local function scenarios()
  local names = {}
  for name in uv.fs_scandir_next, assert(uv.fs_scandir("tests/record/scenarios")) do
    local scenario = name:match("^(.*)%.lua$")
    if scenario and scenario:find(pattern, 1, true) then
      names[#names + 1] = scenario
    end
  end
  table.sort(names)
  return names
end

-- Starts one, and has its output be ours, too.
local function start(name)
  local one = { name = name, path = support.tmp_path(name .. ".xz"), output = "",
    begun = async.signal(), ended = async.signal() }
  local pipe = uv.new_pipe()
  local handle, pid
  handle, pid = uv.spawn(uv.exepath(), {
    args = { "lua", "tests/record/run.lua", name, one.path, tostring(seconds) },
    stdio = { nil, pipe, 2 },
  }, function(status)
    handle:close()
    one.status = status
    one.begun:fire()
    one.ended:fire()
  end)
  assert(handle, pid)
  pipe:read_start(function(_, chunk)
    if not chunk then
      return pipe:close()
    end
    one.output = one.output .. chunk
    io.stdout:write(chunk)
    io.stdout:flush()
    if one.output:find("recording for", 1, true) then
      one.begun:fire()
    end
  end)
  one.begun:wait(START_MS)
  return one
end

local function keep(one)
  local path = ("tests/recordings/%s.xz"):format(one.name)
  assert(uv.fs_copyfile(one.path, path))
  os.remove(one.path)
  print(("%-10s %s"):format(one.name, path))
end

local failed = 0

local function main()
  local all = {}
  for i, name in ipairs(scenarios()) do
    all[i] = start(name)
  end
  for _, one in ipairs(all) do
    if not one.status then
      one.ended:wait((math.max(seconds, LONGEST_S) + 300) * 1000)
    end
    if one.status == 0 then
      keep(one)
    else
      failed = failed + 1
      print(("%-10s failed; see above, and %s"):format(one.name, one.path))
    end
  end
end

local ok, err = pcall(support.async(main, math.max(seconds, LONGEST_S) + 900))
if not ok then
  io.stderr:write(tostring(err), "\n")
end
return ok and failed == 0 and 0 or 1
