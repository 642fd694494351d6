-- The LLM client: how many decisions one watcher makes, against what a bare loop of libcurl gets
-- from the same stub with requests as large; and what a request costs that waits for its answer.
-- Of several rounds the best one counts: other programs on the machine can only make one slower.

local async = require("runtime.async")
local parts = require("bench.llm_parts")
local proc = require("bench.proc")
local uv = require("luv")

local ROUNDS = 7
local DECISIONS = 600 -- of a round
local REQUESTS = 1000
local WATCHERS = 1000

local function compare(report, what, answers)
  local url = parts.stub(answers)
  local watcher = parts.watcher(url)
  watcher.decisions(DECISIONS) -- the JIT's work
  local bare = parts.bare(url, watcher.call, DECISIONS)
  local ours, theirs = 0, 0
  for _ = 1, ROUNDS do
    ours = math.max(ours, DECISIONS / watcher.decisions(DECISIONS))
    theirs = math.max(theirs, bare())
  end
  watcher.stop() -- it would go on beside the next one
  report(("decisions a second, %s"):format(what), ours, "/s",
    ("%.2f of a bare libcurl's %.0f requests; target 0.5"):format(ours / theirs, theirs))
end

-- Sockets for all at once, and some files besides.
local function check_files(count)
  local limits = assert(io.open("/proc/self/limits")):read("*a")
  local limit = limits:match("Max open files%s+(%d+)")
  if limit and tonumber(limit) < count + 100 then
    error(("%d connections need more than the %s files that this process may open: ulimit -n %d")
      :format(count, limit, count + 1000), 0)
  end
end

local function waiting(report)
  check_files(REQUESTS)
  local pipe = io.popen(("%s lua tests/bench/llm_waiting.lua %s %d"):format(uv.exepath(),
    parts.stub({}), REQUESTS))
  local text = pipe:read("*a")
  pipe:close()
  report(("memory of a request that waits, of %d"):format(REQUESTS), assert(tonumber(text), text),
    "KiB")
end

local function many_watchers(report)
  check_files(WATCHERS)
  local url = parts.stub({})
  local started = uv.hrtime()
  local host = parts.host(url, WATCHERS)
  while parts.count(url) < WATCHERS do
    assert(not host.process.status, host.process:stderr())
    async.sleep(20)
  end
  local seconds, rss_mb = (uv.hrtime() - started) / 1e9, proc.rss_mb(host.pid)
  async.sleep(1000)
  local what = ("%d watchers with requests in flight, "):format(WATCHERS)
  report(what .. "all sent", seconds, "s", "from the start of the process")
  report(what .. "memory", rss_mb, "MiB")
  report(what .. "longest turn", host.longest_ms(), "ms", "since the first watcher started")
  assert(host.stop() == 0)
end

return function(report)
  compare(report, "calm cycles of one wait", {
    parts.answer("wait", { ms = 600000, reason = "All figures are as before." }) })
  local looks = {}
  for i = 1, 14 do
    looks[i] = parts.answer("get_snapshots", { limit = i % 5 + 1, offset = i })
  end
  looks[15] = parts.answer("wait", { ms = 600000, reason = "All figures are as before." })
  compare(report, "cycles of 15 calls", looks)
  waiting(report)
  many_watchers(report)
end
