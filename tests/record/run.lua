-- Records an ordinary system that looks sick, for tests/recordings_spec.lua:
--
--   build/beamlens lua tests/record/run.lua SCENARIO OUT.xz [SECONDS]     (1800)
--   make record [T=SCENARIO] [RECORD_SECONDS=1800]
--
-- SCENARIO is a file of tests/record/scenarios. It returns async function(seconds) -> system:
--
--   nodes     name, cookie and epmd_port of each node to watch
--   figures   what must be there to be seen: { name, at_least, and source (Erlang for a number on
--             the nodes) or read (a Lua function) }; the highest value is recorded, or with
--             is_usual the median of all looks
--   during    optional async function(deadline), which runs beside the recording
--
-- What it starts it also stops, by support.on_cleanup. Times in a scenario are shares of SECONDS
-- where a shorter trial is to show the same; rates are then higher than in a real recording, so
-- that its findings say little. RabbitMQ and ejabberd are Debian's (see RECORD_PACKAGES in the
-- Makefile).
--
-- A new recording is due when a sample or a pass of the sweep gets new data that rules read: old
-- recordings lack them. All five take 30 min side by side (`make record`) and replace the files in
-- tests/recordings. What fires meanwhile is printed; exit status 1 says that something that ought
-- to be seen was not there, or that a warning or worse fired.

local uv = require("luv")

setmetatable(_G, nil)
package.path = "tests/?.lua;tests/?/init.lua;" .. package.path

local async = require("runtime.async")
local support = require("support")

local LOOKS = 100 -- at the figures

local scenario, out, seconds = arg[1], arg[2], tonumber(arg[3] or 1800)
if not scenario or not out or not seconds then
  io.stderr:write("usage: beamlens lua tests/record/run.lua SCENARIO OUT.xz [SECONDS]\n")
  return 2
end

local function say(format, ...)
  print(("%s  %s: "):format(os.date("!%H:%M:%S"), scenario) .. format:format(...))
  io.stdout:flush()
end

local function alarms(fired)
  local count = 0
  for _, found in ipairs(fired) do
    count = count + (found.severity == "info" and 0 or 1)
  end
  return count
end

local passed = false

local function main()
  local recorder = require("record.recorder")
  local recording = require("support.recording")
  local began = uv.hrtime()
  local system = require("record.scenarios." .. scenario)(seconds)
  say("started in %.1f s", (uv.hrtime() - began) / 1e9)
  local lines = support.tmp_path(scenario .. ".jsonl")
  local r = recorder.start({ scenario = scenario, nodes = system.nodes, path = lines,
    figures = system.figures, seconds = seconds })
  say("recording for %d s", seconds)
  local deadline = async.deadline(seconds * 1000)
  local beside = system.during and async.spawn(function()
    system.during(deadline)
  end, { name = "scenario", detached = true })
  while deadline:left_ms() > 0 do
    r:look()
    async.sleep(math.min(seconds * 1000 / LOOKS, deadline:left_ms()))
  end
  r:look()
  local complete = r:finish()
  if beside then
    beside:cancel()
  end
  recording.compress(lines, out)
  say("%s: %.0f KiB (%.0f KiB as text), %d findings fired, %d of them alarms", out,
    uv.fs_stat(out).size / 1024, uv.fs_stat(lines).size / 1024, #r.fired, alarms(r.fired))
  os.remove(lines)
  passed = complete and alarms(r.fired) == 0
end

local ok, err = pcall(support.async(main, seconds + 300))
if package.loaded["support.node"] then
  async.run(package.loaded["support.node"].stop_epmd)
end
uv.run("nowait")
if not ok then
  say("failed: %s", tostring(err))
end
return ok and passed and 0 or 1
