-- A batch job on a node with a steady load: every 10 min it takes heap, binaries, rows of ETS and
-- processes for 2 min, and lets go of them.

local node = require("support.node")

local FIRST, EVERY, TAKES = 0.1, 1 / 3, 2 / 30 -- of a recording of 30 min
local LONGEST_S = 1800

return function(seconds)
  local n, ms = node.start({ name = "soak_batch" }), math.min(seconds, LONGEST_S) * 1000
  n:eval(("soak_batch:start(#{first_ms => %d, every_ms => %d, takes_ms => %d}).")
    :format(ms * FIRST, ms * EVERY, ms * TAKES))
  local mib = "erlang:memory(%s) / 1048576."
  return {
    nodes = { n },
    figures = {
      { name = "jobs", at_least = 3, source = "ets:lookup_element(soak_jobs, jobs, 2)." },
      { name = "MiB of processes", at_least = 60, source = mib:format("processes") },
      { name = "MiB of binaries", at_least = 60, source = mib:format("binary") },
      { name = "MiB of ETS", at_least = 20, source = mib:format("ets") },
      { name = "processes", at_least = 2000, source = "erlang:system_info(process_count)." },
    },
  }
end
