-- What the histories of many nodes take: 70 min of samples and passes of the sweep in all five
-- domains, as fast as they can be taken in.
--
--   build/beamlens lua tests/bench/many_nodes.lua [NODES] [MINUTES]   (10, 70)
--
-- One real node is asked once: its snapshots, and the bytes of each part's answer. From then on
-- only clocks and counters move, and one process in five has worked since the pass before. All is
-- read and kept by the same code as in a host, so that the heap at the end is that of a host in its
-- steady state. Memory grows with the number of nodes, so that few stand for many.

package.path = "tests/?.lua;tests/?/init.lua;" .. package.path

local async = require("runtime.async")
local beam = require("support.beam")
local clock = require("runtime.clock")
local dist = require("host.dist")
local history = require("runtime.history")
local ids = require("runtime.ids")
local node = require("support.node")
local support = require("support")
local sweep = require("runtime.sweep")

local nodes, minutes = tonumber(arg[1]) or 10, tonumber(arg[2]) or 70

local EVERY_S, REPORT_S = 10, 300
local DOMAINS = { "beam", "ets", "gc", "ports", "sup" }
-- Where the time is in a part's answer, by the beginning of its source.
local CLOCK_AT = { processes = 5, supervisors = 5, tables = 7, ports = 4 }

-- A target that remembers the answer of each source as bytes.
local function recorder(target)
  local taken = {}
  local recording = setmetatable({}, { __index = target })
  function recording.eval(_, source, bindings, opts)
    local answer, err, code = target:eval(source, bindings, opts)
    if answer then
      local whole = "term_to_binary(begin " .. source:gsub("%.%s*$", "") .. " end, [compressed])."
      taken[source] = target:eval(whole, bindings, opts)
    end
    return answer, err, code
  end
  return recording, taken
end

-- A target that gives those answers again, later and later.
local function player(taken, home)
  local self = { second = 0 }
  function self.call()
    return 60
  end
  function self.eval(_, source)
    local answer = assert(dist.decode(taken[source], home))
    for part, at in pairs(CLOCK_AT) do
      if source == require("runtime.sweep." .. part .. "_source") then
        answer[at] = answer[at] + self.second * 1000
        if part == "processes" then
          for i, row in ipairs(answer[1]) do
            row[9] = row[9] + (i % 5 == 0 and self.second * 1000 + math.random(500) or 0)
            row[7] = row[7] + (i % 5 == 0 and math.random(8) * 4096 or 0)
          end
        end
        return answer
      end
    end
    -- Supervisors' children: asked about once, since none of them changes.
    local first = not self.asked
    self.asked = true
    return first and answer or nil
  end
  return self
end

local function record()
  local n = node.start({ name = "many1" })
  local ctx = beam.attach(n, { parts = sweep.PARTS })
  local recording, taken = recorder(ctx.target)
  ctx.sweep.target = recording
  assert(ctx.sweep:once())
  local data = {}
  for _, name in ipairs(DOMAINS) do
    local callback_target = setmetatable({}, { __index = ctx })
    data[name] = assert(beam.domain(name):snapshot(callback_target))
  end
  return { taken = taken, data = data, home = n.name }
end

local function later(data, second)
  local copy = {}
  for key, value in pairs(data) do
    copy[key] = value
  end
  copy.mono_ms, copy.uptime_s = data.mono_ms + second * 1000, data.uptime_s + second
  for _, key in ipairs({ "memory_total_mb", "memory_rss_mb", "memory_utilization_pct",
    "memory_processes_mb", "process_count", "total_gcs", "words_reclaimed" }) do
    if type(copy[key]) == "number" then
      copy[key] = math.floor(copy[key] * (1 + math.random() / 100) * 100) / 100
    end
  end
  return copy
end

local function new_node(recorded)
  local one = { target = player(recorded.taken, recorded.home), histories = {} }
  one.sweep = sweep.new({ target = one.target, clock = clock.system(), parts = sweep.PARTS })
  for _, name in ipairs(DOMAINS) do
    one.histories[name] = history.new({ parts = beam.domain(name).sweeps })
  end
  return one
end

local function step(one, recorded, second)
  one.target.second = second
  local pass = assert(one.sweep:once())
  for _, name in ipairs(DOMAINS) do
    local data = later(recorded.data[name], second)
    assert(one.histories[name]:add({ id = ids.hex(16), at_ms = 1.8e12 + second * 1000,
      mono_ms = data.mono_ms, data = data, took_ms = 1.5, sweep = pass }))
  end
end

local function mib()
  collectgarbage()
  collectgarbage()
  return collectgarbage("count") / 1024
end

-- What each kind of thing took: what becomes free when it is let go.
local function print_shares(all)
  local before = mib()
  local function let_go(what, fn)
    for _, one in ipairs(all) do
      fn(one)
    end
    local left = mib()
    print(("  %-10s %.1f MiB for 50 nodes"):format(what, (before - left) / #all * 50))
    before = left
  end
  let_go("tracks", function(one)
    one.sweep.tracks.parts = {}
  end)
  let_go("passes", function(one)
    for _, h in pairs(one.histories) do
      h.passes, h.sweeps_of, h.list = {}, {}, {}
    end
    one.sweep.pass = nil
  end)
  let_go("samples", function(one)
    one.histories = {}
  end)
  let_go("the rest", function(one)
    one.sweep = nil
  end)
end

local function main()
  local recorded = record()
  local before, all = mib(), {}
  for i = 1, nodes do
    all[i] = new_node(recorded)
  end
  for second = EVERY_S, minutes * 60, EVERY_S do
    for _, one in ipairs(all) do
      step(one, recorded, second)
    end
    if second % REPORT_S == 0 then
      local taken = mib() - before
      print(("%3d min   %.1f MiB for %d nodes, %.1f for 50"):format(second / 60, taken, nodes,
        taken / nodes * 50))
    end
  end
  print_shares(all)
end

local ok, err = pcall(support.async(main, 1800))
async.run(node.stop_epmd)
if not ok then
  io.stderr:write(tostring(err), "\n")
end
return ok and 0 or 1
