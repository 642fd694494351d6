-- What the benchmark of the LLM client is made of: a stub of a model and a bare client, both in C
-- and in processes of their own, and a watcher whose waits are over at once.

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local beamlens = require("support.beamlens")
local clients = require("runtime.clients")
local clock = require("runtime.clock")
local domain = require("runtime.domain")
local http = require("runtime.http")
local json = require("runtime.json")
local log = require("runtime.log")
local spending = require("runtime.spending")
local support = require("support")
local tree = require("support.tree")
local uv = require("luv")
local watched = require("support.watched")
local world = require("runtime.world")

local M = {}

local function compile(name, libraries)
  local program = support.tmp_path(name)
  assert(os.execute(("gcc -O2 -D_GNU_SOURCE -o %s tests/bench/%s.c %s"):format(program, name,
    libraries or "")) == 0, "gcc")
  support.on_cleanup(function()
    os.remove(program)
  end)
  return program
end

--- Starts the stub with these answers, one after the other and again; with none it never answers.
---@async
---@param answers string[] Whole HTTP answers.
---@return string url
function M.stub(answers)
  local args, stdin, stdout = {}, uv.new_pipe(), uv.new_pipe()
  for i, answer in ipairs(answers) do
    args[i] = support.write_file(support.tmp_path(("answer%d-%s"):format(i, uv.hrtime())), answer)
  end
  local ended, port
  local process = assert(uv.spawn(compile("llm_stub"), {
    args = args[1] and args or { "--hang" }, stdio = { stdin, stdout, 2 } }, function()
    ended = true
  end))
  stdout:read_start(function(_, bytes)
    port = port or bytes and tonumber(bytes)
  end)
  support.on_cleanup(function()
    stdin:close()
    support.wait_until(function()
      return ended
    end)
    process:close()
    stdout:close()
    for _, path in ipairs(args) do
      os.remove(path)
    end
  end)
  support.wait_until(function()
    return port
  end, 10000, "the stub")
  return ("http://127.0.0.1:%d"):format(port)
end

--- How many requests the stub at this address has got.
---@async
---@return integer
function M.count(url)
  return tonumber(assert(http.request({ url = url })).body)
end

--- The answer of Anthropic's API that calls this tool, as a stream.
---@return string http
function M.answer(tool, args)
  local text = anthropic_server.stream_text({ id = "msg_bench", type = "message",
    role = "assistant", model = "claude-haiku-4-5-20251001", stop_reason = "tool_use",
    usage = { input_tokens = 3000, output_tokens = 60, cache_read_input_tokens = 2500 },
    content = { { type = "tool_use", id = "toolu_bench", name = tool, input = args } } })
  local chunks = {}
  for event in text:gmatch(".-\n\n") do
    chunks[#chunks + 1] = ("%x\r\n%s\r\n"):format(#event, event)
  end
  return "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    .. "request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
    .. table.concat(chunks) .. "0\r\n\r\n"
end

--- A registry with one client, at this address.
function M.registry(url, opts)
  return assert(clients.new({
    config = { clients = { { name = "Main", provider = "anthropic", retry_policy = "DefaultRetry",
      options = { model = "claude-haiku-4-5-20251001", base_url = url } } } },
    env = function(name)
      return name == "ANTHROPIC_API_KEY" and "sk-bench-0123456789" or nil
    end,
    clock = opts and opts.clock, telemetry = opts and opts.telemetry,
    ledger = opts and opts.ledger,
  }))
end

-- Figures as the domain of the virtual machine has them.
local function figures()
  local data = { uptime_s = 864000, mono_ms = -576460751234, memory_basis = "cgroup" }
  for i = 1, 20 do
    data[("figure_%d_mb"):format(i)] = 100 + i / 7
  end
  return data
end

--- A watcher of the domain `beam` with the real prompt, conversation, hooks, events (written to
--- /dev/null), budgets and client. Its waits are over at once.
---@param url string
---@return { watcher: watcher.Watcher, decisions: async fun(count: integer): number, body: string,
--- stop: fun() }
--- `decisions` returns the seconds that so many took, and the watcher goes on until `stop`; `body`
--- is that of the last request.
function M.watcher(url)
  local moved = clock.manual(1795466985123)
  local w = watched.new({}, { limits = { calls_per_cycle = 15, tokens_per_hour = 1e12 } })
  local bus = w.telemetry
  bus:detach("watched")
  local null = assert(io.open("/dev/null", "w"))
  log.new({ output = { write_line = function(_, line)
    null:write(line, "\n")
  end }, telemetry = bus, clock = moved, format = "json" })
  local ledger = spending.new({ clock = moved, telemetry = bus })
  local registry = M.registry(url, { clock = moved, telemetry = bus, ledger = ledger })
  local self = { watcher = w.watcher }
  local it = w.watcher
  it.domain = assert(domain.new(dofile("domains/beam.lua"), { file = "domains/beam.lua" }))
  it.registry, it.account = registry, ledger:account("watcher", it.policy.limits)
  it.waking.after = function(ms, fn)
    moved.advance(ms)
    return world.timer(0, fn)
  end
  w.detector.data = figures()
  local left, done
  bus:attach("bench", "beamlens.llm.stop", function()
    left = left - 1
    if left == 0 then
      done()
    end
  end)
  function self.decisions(count)
    left = count
    local started = uv.hrtime()
    async.await(nil, function(finish)
      done = finish
      if it.status == "stopped" then
        w:start()
      end
    end)
    return (uv.hrtime() - started) / 1e9
  end
  local handler = registry.clients.Main.handler
  local request_of = handler.request
  function handler.request(...)
    local call, failure = request_of(...)
    self.call = call
    return call, failure
  end
  function self.stop()
    w:stop()
  end
  support.on_cleanup(function()
    w:stop()
    null:close()
  end)
  return self
end

local DOMAIN = [[
return {
  name = "calm", target = "none", title = "Calm",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function() return { level = 1 } end,
  callbacks = {}, rules = {},
}
]]

-- Its first watcher's file measures the turns of the host's loop, and writes the longest one down.
local WATCHERS = [[
local uv = require("luv")
local longest_ms, last, last_idle, started = 0, nil, nil, false
uv.loop_configure("metrics_idle_time")
local prepare, timer = uv.new_prepare(), uv.new_timer()
prepare:start(function()
  local now, idle = uv.hrtime(), uv.metrics_idle_time()
  longest_ms = math.max(longest_ms, last and (now - last - (idle - last_idle)) / 1e6 or 0)
  last, last_idle = now, idle
end)
timer:start(100, 100, function()
  local file = io.open("longest.new", "w")
  file:write(longest_ms)
  file:close()
  os.rename("longest.new", "longest")
end)
prepare:unref()
timer:unref()
local list = {}
for i = 1, %d do
  list[i] = { name = "w" .. i, domain = "calm", sample = "10s" }
end
-- What comes before the first watcher starts, holds up nobody.
list[1].handlers = { { "turns", "beamlens.watcher.started", function()
  if not started then
    started, last, longest_ms = true, nil, 0
  end
end } }
return list
]]

local CLIENTS = [[return { clients = { { name = "Main", provider = "anthropic", options = {
  model = "claude-haiku-4-5-20251001", base_url = "%s", api_key = "sk-bench-0123456789" } } } }]]

--- Starts a host with so many watchers, whose model never answers.
---@return { pid: integer, longest_ms: fun(): number, stop: async fun() }
function M.host(url, watchers)
  local root = tree.make({
    ["domains/calm.lua"] = DOMAIN,
    ["watchers/w.lua"] = WATCHERS:format(watchers),
    ["clients.lua"] = CLIENTS:format(url),
  })
  local b = beamlens.start({ "run", root .. "/watchers/w.lua", "--log", "json" }, { cwd = root })
  return {
    pid = b.pid,
    process = b,
    longest_ms = function()
      return tonumber(assert(io.open(root .. "/longest")):read("*a"))
    end,
    stop = function()
      b:kill("sigterm")
      return b:wait_exit(60000)
    end,
  }
end

--- The same requests from a bare loop of libcurl: requests a second.
---@async
---@param url string
---@param call { body: table, headers: string[] }
---@param count integer
---@return fun(): number
function M.bare(url, call, count)
  local program = compile("llm_bare", "-lcurl")
  local body = support.write_file(support.tmp_path("bare-body"), json.encode(call.body))
  support.on_cleanup(function()
    os.remove(body)
  end)
  return function()
    local args = { program, url .. "/v1/messages", body, tostring(count) }
    for _, header in ipairs(call.headers) do
      args[#args + 1] = ("'%s'"):format(header)
    end
    local pipe = assert(io.popen(table.concat(args, " ")))
    local seconds = tonumber(pipe:read("*a"))
    pipe:close()
    return count / assert(seconds, "the bare client failed")
  end
end

return M
