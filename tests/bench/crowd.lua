-- The host of the benchmark of many watchers: its file, its process, and what it writes down of
-- itself. Its events go to /dev/null.

local async = require("runtime.async")
local control = require("support.control")
local support = require("support")
local tree = require("support.tree")
local uv = require("luv")

local M = {}

local DOMAINS = { "beam", "ets", "gc", "ports", "sup" }
-- Shorter turns are not written down.
local LONG_TURN_MS = 10

-- The turns of the host's loop from its first watcher on, and the samples of each watcher. What the
-- file says once it is reloaded measures the heap.
local WATCHERS = [[
local uv = require("luv")
local folder = %q

local function say(name, text)
  local file = io.open(folder .. "/" .. name .. ".new", "w")
  file:write(text)
  file:close()
  os.rename(folder .. "/" .. name .. ".new", folder .. "/" .. name)
end

local function note_turns()
  local turns = io.open(folder .. "/turns", "a")
  turns:setvbuf("line")
  uv.loop_configure("metrics_idle_time")
  local prepare, last, last_idle, last_cpu = uv.new_prepare(), nil, nil, nil
  prepare:start(function()
    local now, idle, cpu = uv.hrtime(), uv.metrics_idle_time(), os.clock()
    local turn_ms = last and (now - last - (idle - last_idle)) / 1e6 or 0
    if turn_ms > %d then
      turns:write(("%%.3f %%.1f %%.1f\n"):format(now / 1e6, turn_ms, (cpu - last_cpu) * 1000))
    end
    last, last_idle, last_cpu = now, idle, cpu
  end)
  prepare:unref()
end

local noting = false
local seen, watchers, ready = {}, 0, 0
local first = {
  { "turns", "beamlens.watcher.started", function()
    if not noting then
      noting = true
      note_turns()
    end
  end },
  { "samples", "beamlens.sampler.sample", function(_, _, metadata)
    local key = tostring(metadata.watcher) .. metadata.node
    if not seen[key] then
      seen[key], watchers = 0, watchers + 1
    end
    seen[key] = seen[key] + 1
    if seen[key] == %d then
      ready = ready + 1
      if ready == watchers then
        say("sampled", watchers)
      end
    end
  end },
}
local later = {
  { "reloaded", "beamlens.reload.applied", function()
    local before = collectgarbage("count") / 1024
    if uv.fs_stat(folder .. "/collect") then
      collectgarbage()
      collectgarbage()
      say("heap", ("%%.1f, %%.1f"):format(before, collectgarbage("count") / 1024))
    end
    say("reloaded", "")
  end },
}

local is_first, names, domains, list = %s, %s, { "%s" }, {}
for i = 1, %d do
  local domain = domains[(i - 1) %% #domains + 1]
  list[i] = { name = domain .. "-" .. i, domain = domain, node = names,
    sample = is_first and "1s" or nil, wait = { max = "2h" } }
end
list[1].handlers = is_first and first or later
return list
]]

local CLIENTS = [[return { clients = { { name = "Main", provider = "anthropic", options = {
  model = "claude-haiku-4-5-20251001", base_url = "%s", api_key = "sk-bench-0123456789" } } } }]]

local function read(path)
  local file = io.open(path)
  local text = file and file:read("*a")
  if file then
    file:close()
  end
  return text
end

local function watcher_file(root, opts, is_first, edition)
  return ("-- edition %d\n"):format(edition) .. WATCHERS:format(root, LONG_TURN_MS, opts.samples,
    tostring(is_first), ('{ "%s" }'):format(table.concat(opts.names, '", "')),
    table.concat(DOMAINS, '", "'), opts.watchers)
end

local function spawn(host, root, env)
  local null = assert(uv.fs_open("/dev/null", "w", 384))
  local stderr = assert(uv.fs_open(root .. "/stderr", "w", 384))
  local pid
  host.handle, pid = uv.spawn(uv.exepath(), { args = { "run", root .. "/watchers/w.lua", "--log",
    "json", "--store", root .. "/store.db" }, cwd = root, env = env,
    stdio = { nil, null, stderr } }, function(status, signal)
    host.handle:close()
    host.handle = nil
    host.status = signal ~= 0 and 128 + signal or status
  end)
  uv.fs_close(null)
  uv.fs_close(stderr)
  host.pid = assert(host.handle and pid, pid)
end

--- Waits for something that the host does.
---@async
function M.wait_until(host, condition, within_s, what)
  support.wait_until(function()
    assert(not host.status, "the host has ended: " .. tostring(host.stderr()))
    async.sleep(20)
    return condition()
  end, within_s * 1000, what)
end

--- Starts a host with `watchers` watchers on each node, and takes it down with the case.
---@async
---@param opts { url: string, names: string[], epmd_port: integer, cookie: string,
--- watchers: integer, samples: integer }
function M.start(opts)
  local root = tree.make({ ["clients.lua"] = CLIENTS:format(opts.url) })
  os.execute("mkdir " .. root .. "/watchers")
  local edition = 0
  local function write(is_first)
    edition = edition + 1
    support.write_file(root .. "/new.lua", watcher_file(root, opts, is_first, edition))
    assert(os.rename(root .. "/new.lua", root .. "/watchers/w.lua"))
  end
  write(true)
  local runtime_dir = control.folder()
  local host = {
    said = function(name)
      return read(root .. "/" .. name)
    end,
    stderr = function()
      return read(root .. "/stderr")
    end,
    socket = function()
      local name = uv.fs_scandir_next(assert(uv.fs_scandir(runtime_dir)))
      return ("%s/%s"):format(runtime_dir, assert(name, "the host has no socket"))
    end,
  }
  -- The longest turn since a time of the monotonic clock, and the most processor time of one: a
  -- busy machine makes turns longer, but does not make them cost more.
  function host.longest_ms(from_ms)
    local longest_ms, most_ms = 0, 0
    for at_ms, turn_ms, cpu_ms in (host.said("turns") or ""):gmatch("(%S+) (%S+) (%S+)") do
      if tonumber(at_ms) >= from_ms then
        longest_ms = math.max(longest_ms, tonumber(turn_ms))
        most_ms = math.max(most_ms, tonumber(cpu_ms))
      end
    end
    return longest_ms, most_ms
  end
  function host.reload()
    os.remove(root .. "/reloaded")
    write(false)
    M.wait_until(host, function()
      return host.said("reloaded")
    end, 120, "the reload")
  end
  -- The Lua heap in MB: as it is, and what of it is in use.
  function host.heap()
    support.write_file(root .. "/collect", "")
    host.reload()
    return host.said("heap")
  end
  function host.stop()
    host.handle:kill("sigterm")
    support.wait_until(function()
      return host.status
    end, 60000, "the end of the host")
    return host.status
  end
  spawn(host, root, { "PATH=" .. os.getenv("PATH"), "HOME=/nonexistent", "BEAMLENS_MAX_RSS=none",
    "BEAMLENS_MAX_CPU=none", "BEAMLENS_RUNTIME_DIR=" .. runtime_dir,
    "ERL_EPMD_PORT=" .. opts.epmd_port, "BEAMLENS_COOKIE=" .. opts.cookie })
  support.on_cleanup(function()
    if host.handle then
      host.handle:kill("sigkill")
      support.wait_until(function()
        return host.status
      end, 10000, "the end of the host")
    end
  end)
  return host
end

return M
