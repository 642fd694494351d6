-- A batch job on a node with a steady load: three times in the recording it takes heap, binaries,
-- rows of ETS and processes, and lets go of them.

local node = require("support.node")

local FIRST, EVERY, TAKES = 0.1, 1 / 3, 2 / 30 -- of the recording: 3, 10 and 2 min of 30

return function(seconds)
  local n = node.start({ name = "soak_batch" })
  n:eval(("soak_batch:start(#{first_ms => %d, every_ms => %d, takes_ms => %d}).")
    :format(seconds * 1000 * FIRST, seconds * 1000 * EVERY, seconds * 1000 * TAKES))
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
