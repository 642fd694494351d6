-- What many nodes cost the host: real nodes, the real binary, watchers of all five domains on each
-- node, and what the kernel says of the memory and the processor time of host, zygote and children.
--
--   build/beamlens lua tests/bench/fifty_nodes.lua [SECONDS] [NODES] [EVERY]   (300, 50, 20)
--
-- It prints a line every EVERY seconds, and at the end the events by name.

package.path = "tests/?.lua;tests/?/init.lua;" .. package.path

local async = require("runtime.async")
local beamlens = require("support.beamlens")
local node = require("support.node")
local support = require("support")
local uv = require("luv")

local seconds, count, every = tonumber(arg[1]) or 300, tonumber(arg[2]) or 50,
  tonumber(arg[3]) or 20

local DOMAINS = { "beam", "ets", "gc", "ports", "sup" }
local TICKS_PER_S = 100

-- Part of the watcher file: has the host say how much of its Lua heap is in use.
local HEAP = [[
local said = 0
local function say_heap()
  if os.time() - said >= 20 then
    said = os.time()
    local before = collectgarbage("count")
    collectgarbage()
    io.stderr:write(("heap      %.1f MB, of which %.1f MB in use\n"):format(before / 1024,
      collectgarbage("count") / 1024))
  end
end
]]

local function read(path)
  local file = io.open(path)
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return text
end

local function rss_mb(pid)
  return (tonumber(read(("/proc/%d/status"):format(pid)):match("VmRSS:%s*(%d+)")) or 0) / 1024
end

local function cpu_s(pid)
  local fields = {}
  for field in read(("/proc/%d/stat"):format(pid)):gsub("^.*%) ", ""):gmatch("%S+") do
    fields[#fields + 1] = field
  end
  return ((tonumber(fields[12]) or 0) + (tonumber(fields[13]) or 0)) / TICKS_PER_S
end

-- All processes below one.
local function descendants(pid, found)
  for child in read(("/proc/%d/task/%d/children"):format(pid, pid)):gmatch("%d+") do
    found[#found + 1] = tonumber(child)
    descendants(tonumber(child), found)
  end
  return found
end

local function watcher_file(names)
  local list = {}
  for i, domain in ipairs(DOMAINS) do
    list[i] = ('{ domain = "%s", handlers = { { "heap", "beamlens.sampler.sample", say_heap } }, '
      .. 'node = { "%s" } },'):format(domain, table.concat(names, '", "'))
  end
  return support.write_file(support.tmp_path("fifty.lua"),
    HEAP .. "return {\n" .. table.concat(list, "\n") .. "\n}\n")
end

-- One line of figures. The zygote is the host's own child, which makes the children.
local function report(b, started_ms)
  local zygote, children = 0, 0
  local below = descendants(b.pid, {})
  for i, pid in ipairs(below) do
    if i == 1 then
      zygote = rss_mb(pid)
    else
      children = children + rss_mb(pid)
    end
  end
  print(("%4d s   host %.1f MB RSS, %.1f s of CPU; zygote %.1f MB; %d children %.1f MB; %d events")
    :format((async.now_ms() - started_ms) / 1000, rss_mb(b.pid), cpu_s(b.pid), zygote,
      math.max(0, #below - 1), children, #b.events))
  io.stdout:flush()
end

local function print_counts(b)
  local counts, names = {}, {}
  for _, event in ipairs(b.events) do
    if not counts[event.event] then
      names[#names + 1] = event.event
    end
    counts[event.event] = (counts[event.event] or 0) + 1
  end
  table.sort(names)
  for _, name in ipairs(names) do
    print(("%7d   %s"):format(counts[name], name))
  end
end

local function main()
  local nodes, names = {}, {}
  for i = 1, count do
    nodes[i] = node.start({ name = "many" .. i, args = { "+S", "1:1", "+SDcpu", "1:1",
      "+SDio", "1", "+A", "1" } })
    names[i] = nodes[i].name
  end
  print(("%d nodes, %d domains on each, %d s"):format(count, #DOMAINS, seconds))
  local b = beamlens.start({ "run", watcher_file(names), "--log", "json" }, { env = {
    "ERL_EPMD_PORT=" .. nodes[1].epmd_port, "BEAMLENS_COOKIE=" .. nodes[1].cookie } })
  local started_ms, deadline = async.now_ms(), async.deadline(seconds * 1000)
  while deadline:left_ms() > 0 and not b.status do
    async.sleep(math.min(deadline:left_ms(), every * 1000))
    report(b, started_ms)
  end
  print_counts(b)
  b:kill("sigterm")
  print("exit      " .. b:wait_exit())
  io.stderr:write(b:stderr())
end

local ok, err = pcall(support.async(main, seconds + 300))
require("runtime.async").run(node.stop_epmd)
uv.run("nowait")
if not ok then
  io.stderr:write(tostring(err), "\n")
end
return ok and 0 or 1
