-- What a request takes in memory that waits for its answer, in a process of its own:
--
--   beamlens lua tests/bench/llm_waiting.lua URL COUNT
--
-- Prints the growth of its resident memory in KiB a request. Each request is a decision with a
-- watcher's prompt and tools, which all share, and a conversation of its own; nobody answers.

setmetatable(_G, nil)
package.path = "tests/?.lua;tests/?/init.lua;" .. package.path

local async = require("runtime.async")
local parts = require("bench.llm_parts")
local proc = require("bench.proc")
local support = require("support")
local tools = require("runtime.tools")
local uv = require("luv")

local url, count = arg[1], tonumber(arg[2])

local function request(i)
  return {
    system = ("What a watcher has to know of its domain. "):rep(200),
    tools = tools.for_request(),
    messages = { { role = "user", text = ("opening %d: "):format(i)
      .. ('{"figure_mb":%d},'):format(i):rep(100) } },
  }
end

local function rss_kib()
  collectgarbage()
  collectgarbage()
  return proc.rss_mb(uv.os_getpid()) * 1024
end

local ok, err = pcall(support.async(function()
  local registry = parts.registry(url)
  local tasks = {}
  local function ask(from, to)
    for i = from, to do
      tasks[i] = async.spawn(function()
        registry:decide(nil, request(i), { timeout_ms = 300000 })
      end)
    end
    support.wait_until(function()
      return parts.count(url) == to
    end, 120000, "all requests to arrive")
  end
  ask(1, 10) -- what is loaded once
  local before = rss_kib()
  ask(11, count)
  print((rss_kib() - before) / (count - 10))
  for _, task in ipairs(tasks) do
    task:cancel()
  end
end, 300))
if not ok then
  print(err)
end
return ok and 0 or 1
