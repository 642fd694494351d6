-- Cases of names_spec.lua: each runs in a process and a network of its own.
--
-- There a lookup that gets no answer hangs for minutes. So the bounds here are the same on a busy
-- machine: whatever waits for such a lookup goes past them by far.

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local beamlens = require("support.beamlens")
local clients = require("runtime.clients")
local http = require("runtime.http")
local name_server = require("support.name_server")
local support = require("support")
local threads_of = require("support.threads")
local tree = require("support.tree")
local turns = require("support.turns")
local uv = require("luv")

local M = {}

local BLOCKED_MS = 30000 -- what only a wait for a lookup takes
local THREADS = 16       -- of the resolver at most
local EXIT_MS = 30000

local function figure(text, ...)
  print("figure   " .. text:format(...))
end

local function silent()
end

local function threads()
  local count = 0
  local scan = assert(uv.fs_scandir("/proc/self/task"))
  for _ in uv.fs_scandir_next, scan do
    count = count + 1
  end
  return count
end

local function start_server(opts)
  local server = anthropic_server.start(opts)
  support.on_cleanup(function()
    server:stop()
  end)
  return server
end

local function fails(url, connect_timeout_ms)
  local began = async.now_ms()
  local answer, err, code = http.request({ url = url, connect_timeout_ms = connect_timeout_ms })
  assert(not answer, "an answer")
  return code, err, async.now_ms() - began
end

M["costs a request its time to connect, and no turn of the loop"] = function()
  local server = name_server.start(silent)
  local longest = turns.watch()
  local code, err, took_ms = fails("http://silent.example/", 300)
  assert(code == "ETIMEDOUT", err)
  assert(err == "ETIMEDOUT: no name server gave the host's address within 300 ms", err)
  assert(took_ms >= 300 and took_ms < BLOCKED_MS, took_ms)
  assert(server.total > 0, "the name server was not asked")
  assert(longest() < BLOCKED_MS, longest())
  figure("one request to a silent name: %.0f ms, longest turn %.1f ms", took_ms, longest())
end

M["is a time-out for a client, which is tried again, and the next one answers"] = function()
  name_server.start(silent)
  local server = start_server({ on_request = function()
    return { tool = "wait", input = { ms = 1000 } }
  end })
  local registry = assert(clients.new({
    config = { primary = "Main", clients = {
      { name = "Silent", provider = "anthropic", options = { model = "m",
        base_url = "http://silent.example", connect_timeout_ms = 200 } },
      { name = "Other", provider = "anthropic", options = { model = "m", base_url = server.url } },
      { name = "Main", provider = "fallback", options = { strategy = { "Silent", "Other" } } },
    } },
    env = function(name)
      return name == "ANTHROPIC_API_KEY" and "sesame-0123456789" or nil
    end,
  }))
  local request = { system = "s", messages = { { role = "user", text = "u" } },
    tools = { { name = "wait", description = "d", schema = { type = "object" } } } }
  local result = assert(registry:decide(nil, request))
  assert(result.client == "Other" and result.attempts == 2, result.client)
  local _, err, kind, detail = registry:decide("Silent", request)
  assert(kind == "timeout" and detail.retryable and detail.provider_code == "ETIMEDOUT", err)
end

M["holds up a bounded number of threads, and nobody else"] = function()
  name_server.start(silent)
  local server = start_server({ on_request = function()
    return { body = "ok" }
  end })
  local longest, before = turns.watch(), threads()
  local ended, tasks = 0, {}
  for i = 1, 200 do
    tasks[i] = async.spawn(function()
      local code = fails(("http://silent%d.example/"):format(i % 40), i > 100 and 1000 or 60000)
      ended = ended + (code == "ETIMEDOUT" and 1 or 0)
    end)
  end
  -- Addresses need no lookup, and libuv's threads are as free as ever.
  assert(http.request({ url = server.url }))
  local stat = async.await(BLOCKED_MS, function(done)
    uv.fs_stat("/proc/self/status", function(_, found)
      done(found)
    end)
  end)
  assert(stat, "no fs_stat")
  local pool = 4
  assert(threads() - before <= THREADS + pool, threads())
  local began = async.now_ms()
  for i = 1, 100 do
    tasks[i]:cancel()
    assert(tasks[i].done)
  end
  local cancel_ms = async.now_ms() - began
  for i = 101, 200 do
    assert(tasks[i]:join(BLOCKED_MS))
  end
  assert(ended == 100, ended)
  assert(threads() - before <= THREADS + pool, threads())
  assert(cancel_ms < BLOCKED_MS and longest() < BLOCKED_MS)
  figure("200 requests to 40 silent names: %d threads, 100 cancelled in %.1f ms, longest turn "
    .. "%.1f ms", threads() - before, cancel_ms, longest())
end

M["is asked once for all who need a name, and not again for a while"] = function()
  local names = name_server.start(function()
    return { "127.0.0.1" }
  end)
  local server = start_server({ on_request = function()
    return { body = "ok" }
  end })
  local url = server.url:gsub("127%.0%.0%.1", "model.example")
  local tasks = {}
  for i = 1, 20 do
    tasks[i] = async.spawn(function()
      return assert(http.request({ url = url }))
    end)
  end
  for _, task in ipairs(tasks) do
    local _, answer = task:join(BLOCKED_MS)
    assert(answer.body == "ok" and answer.connect_ms >= 0 and answer.total_ms > 0)
  end
  assert(http.request({ url = url }).body == "ok")
  assert(server.requests[1].headers.host:find("^model%.example:"))
  assert(names.asked["model.example"] == 2, "IPv4 and IPv6, once each")
end

M["that knows no such name, or nothing at all, fails at once"] = function()
  name_server.start(function(name)
    return name == "nowhere.example" and 3 or 2
  end)
  for _, host in ipairs({ "nowhere.example", "broken.example" }) do
    local code, err, took_ms = fails(("http://%s/"):format(host), 2 * BLOCKED_MS)
    assert(code == "EHOST" and err:find("^EHOST: no address of the host " .. host .. ": "), err)
    assert(took_ms < BLOCKED_MS, took_ms)
  end
end

M["that falls silent leaves the last addresses in use"] = function()
  local is_silent = false
  local names = name_server.start(function()
    return not is_silent and { "127.0.0.1" } or nil
  end)
  local server = start_server({ on_request = function()
    return { body = "ok", headers = { connection = "close" } }
  end })
  local url = server.url:gsub("127%.0%.0%.1", "model.example")
  assert(http.request({ url = url }))
  is_silent = true
  assert(http.request({ url = url }))
  assert(names.total == 2, "the answer is good for a minute")
  async.sleep(61000)
  local answer, err = http.request({ url = url, connect_timeout_ms = 10000 })
  assert(answer, err)
  assert(names.total > 2, "the name server was not asked again")
  assert(answer.connect_ms >= 5000, "old addresses are for those who waited")
end

-- A socket whose queue is full: the system drops who wants to connect, as a black hole does.
local function black_hole()
  local listener, waiting = uv.new_tcp(), {}
  support.on_cleanup(function()
    listener:close()
    for _, socket in ipairs(waiting) do
      socket:close()
    end
  end)
  assert(listener:bind("127.0.0.2", 0))
  assert(listener:listen(1, function() end))
  local port = listener:getsockname().port
  local late
  repeat
    assert(#waiting < 10, "the queue does not fill")
    local socket = uv.new_tcp()
    waiting[#waiting + 1] = socket
    late = select(3, async.await(2500, function(done)
      socket:connect("127.0.0.2", port, done)
    end))
  until late
  return port
end

M["that gives two addresses of which the first is a black hole leads to the second"] = function()
  name_server.start(function(name)
    return { name == "two.example" and "127.0.0.2" or "127.0.0.4", "127.0.0.3" }
  end)
  local port = black_hole()
  local listener = uv.new_tcp()
  assert(listener:bind("127.0.0.3", port))
  assert(listener:listen(16, function()
    local client = uv.new_tcp()
    listener:accept(client)
    client:write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond", function()
      client:close()
    end)
  end))
  support.on_cleanup(function()
    listener:close()
  end)
  local answer, err = http.request({ url = ("http://two.example:%d/"):format(port),
    connect_timeout_ms = 8000, timeout_ms = BLOCKED_MS })
  assert(answer, err)
  assert(answer.body == "second")
  -- Where nobody listens, it is the next one's turn at once.
  local refused = assert(http.request({ url = ("http://refused.example:%d/"):format(port) }))
  assert(refused.body == "second")
  figure("the first of two addresses is a black hole: connected after %.0f ms", answer.connect_ms)
end

local DOMAIN = [[
return {
  name = "calm", target = "none", title = "Calm",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function() return { level = 1 } end,
  callbacks = {}, rules = {},
}
]]

local CLIENTS = [[return { clients = { { name = "Main", provider = "anthropic", options = {
  model = "m", base_url = "http://silent.example", api_key = "sk-spec-key",
  connect_timeout_ms = %d } } } }]]

local function start_host(connect_timeout_ms)
  local root = tree.make({
    ["domains/calm.lua"] = DOMAIN,
    ["watchers/w.lua"] = [[return { name = "w", domain = "calm", sample = "1s" }]],
    ["clients.lua"] = CLIENTS:format(connect_timeout_ms),
  })
  return beamlens.start({ "run", root .. "/watchers/w.lua", "--log", "json" }, { cwd = root })
end

local function stops(b)
  local began = async.now_ms()
  b:kill("sigterm")
  assert(b:wait_exit(EXIT_MS) == 0, b:stderr())
  return async.now_ms() - began
end

local function is_asked(server)
  support.wait_until(function()
    return server.total > 0
  end, BLOCKED_MS, "a question to the name server")
end

M["keeps no host from ending, while a request waits for it and afterwards"] = function()
  local server = name_server.start(silent)
  local waits = start_host(60000)
  is_asked(server)
  figure("a host that waits for a name server ends after %.0f ms", stops(waits))
  local failed = start_host(200)
  local event = failed:wait_for("llm.exception", nil, BLOCKED_MS)
  assert(event.metadata.kind == "timeout" and event.metadata.retryable)
  failed:wait_for("watcher.wait", nil, BLOCKED_MS)
  figure("one whose lookup still runs ends after %.0f ms", stops(failed))
end

M["is asked by threads that no signal reaches"] = function()
  local server = name_server.start(silent)
  local waits = start_host(60000)
  is_asked(server)
  -- The resolver's and the watchdog's; there is no store.
  threads_of.wait_for(waits.pid, 2, 0)
  stops(waits)
end

M["keeps no host from ending that looks for a node"] = function()
  local server = name_server.start(silent)
  local root = tree.make({
    ["watchers/w.lua"] = [[return { name = "w", domain = "beam", node = "a@silent.example" }]],
  })
  local b = beamlens.start({ "run", root .. "/watchers/w.lua", "--log", "json" }, { cwd = root,
    env = { "BEAMLENS_COOKIE=secret" } })
  is_asked(server)
  figure("a host that looks for a node ends after %.0f ms", stops(b))
end

return M
