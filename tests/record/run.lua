-- Records an ordinary system that looks sick, or sick ones, for tests/recordings_spec.lua:
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
--   expected  optional list of "NODE TYPE SUBJECT": what must fire, and nothing else may (default:
--             nothing); in the order of the alphabet
--   seconds   optional, how long it takes whatever is asked for
--
-- What it starts it also stops, by support.on_cleanup. Times in a scenario are shares of SECONDS
-- where a shorter trial is to show the same; rates are then higher than in a real recording, so
-- that its findings say little. RabbitMQ and ejabberd are Debian's (see RECORD_PACKAGES in the
-- Makefile).
--
-- A new recording is due when a sample or a pass of the sweep gets new data that rules read: old
-- recordings lack them. All five take 30 min side by side (`make record`) and replace the files in
-- tests/recordings. What fires meanwhile is printed; exit status 1 says that something that ought
-- to be seen was not there, or that a warning or worse fired which was not expected.

local uv = require("luv")

setmetatable(_G, nil)
package.path = "tests/?.lua;tests/?/init.lua;" .. package.path

local async = require("runtime.async")
local judged = require("support.judged")
local support = require("support")

local LOOKS = 100 -- at the figures
local LONGEST_S = 3000

local scenario, out, seconds = arg[1], arg[2], tonumber(arg[3] or 1800)
if not scenario or not out or not seconds then
  io.stderr:write("usage: beamlens lua tests/record/run.lua SCENARIO OUT.xz [SECONDS]\n")
  return 2
end

local function say(format, ...)
  print(("%s  %s: "):format(os.date("!%H:%M:%S"), scenario) .. format:format(...))
  io.stdout:flush()
end

local function is_as_expected(fired, expected)
  return table.concat(judged.fired(fired), "\n") == table.concat(expected, "\n")
end

local passed = false

local function main()
  local recorder = require("record.recorder")
  local recording = require("support.recording")
  local began = uv.hrtime()
  local system = require("record.scenarios." .. scenario)(seconds)
  seconds = system.seconds or seconds
  say("started in %.1f s", (uv.hrtime() - began) / 1e9)
  local lines = support.tmp_path(scenario .. ".jsonl")
  local r = recorder.start({ scenario = scenario, nodes = system.nodes, path = lines,
    figures = system.figures, expected = system.expected, seconds = seconds })
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
  passed = complete and is_as_expected(r.fired, system.expected or {})
  say("%s: %.0f KiB (%.0f KiB as text), %d findings fired, %s", out,
    uv.fs_stat(out).size / 1024, uv.fs_stat(lines).size / 1024, #r.fired,
    passed and "as expected" or "NOT as expected")
  os.remove(lines)
end

local ok, err = pcall(support.async(main, math.max(seconds, LONGEST_S) + 300))
if package.loaded["support.node"] then
  async.run(package.loaded["support.node"].stop_epmd)
end
uv.run("nowait")
if not ok then
  say("failed: %s", tostring(err))
end
return ok and passed and 0 or 1
