--- The counters of a node that its virtual machine keeps anyway, read at one moment.
---
--- They come by one eval. Where nothing can be evaluated (its code_server does not answer, or it
--- has no stdlib) each is a plain call of its own: a sick node is when they are wanted most.
---
---   local read = counters.reader({ "process_count", "memory", "uptime_ms" })
---   local now, err, code = read(target)

local async = require("runtime.async")
local dist = require("host.dist")

local M = {}

local TIMEOUT_MS = 5000

local function info(item)
  return { "erlang", "system_info", item }
end

local function statistics(item)
  return { "erlang", "statistics", item }
end

-- What each takes: module, function, arguments. Texts are atoms of the virtual machine's own.
local CALLS = {
  memory = { "erlang", "memory" },
  mono_ms = { "erlang", "monotonic_time", "millisecond" },
  start_time = info("start_time"),
  native_per_s = { "erlang", "convert_time_unit", 1, "second", "native" },
  garbage_collection = statistics("garbage_collection"),
  run_queue = statistics("run_queue"),
  run_queues = statistics("run_queue_lengths_all"),
}
for name in ([[process_count process_limit port_count port_limit atom_count atom_limit ets_count
  ets_limit schedulers schedulers_online dirty_cpu_schedulers_online dirty_io_schedulers wordsize
  version otp_release]]):gmatch("%S+") do
  CALLS[name] = info(name)
end

local TEXTS = { version = true, otp_release = true }
local UPTIME = { "mono_ms", "start_time", "native_per_s" }

-- The Erlang that reads all of them.
local function source_of(names)
  local items = {}
  for i, name in ipairs(names) do
    local call = CALLS[name]
    items[i] = ("%s => %s:%s(%s)"):format(name, call[1], call[2],
      table.concat({ unpack(call, 3) }, ", "))
  end
  return ("#{%s}."):format(table.concat(items, ",\n  "))
end

local function arguments(call)
  local args = {}
  for i = 3, #call do
    args[i - 2] = type(call[i]) == "string" and dist.atom(call[i]) or call[i]
  end
  return args
end

-- Reads them by plain calls, one after another: each is a process there, which counts.
local function by_calls(target, names)
  local now, deadline = {}, async.deadline(TIMEOUT_MS)
  for _, name in ipairs(names) do
    local call = CALLS[name]
    local value, err, code = target:call(call[1], call[2], arguments(call),
      { timeout_ms = deadline:left_ms(), priority = "normal" })
    if value == nil then
      return nil, err, code
    end
    now[name] = value
  end
  return now
end

-- Texts come as lists of characters, what erlang:memory/0 says as a list of pairs.
local function finish(answers)
  local now = {}
  for name, value in pairs(answers) do
    now[name] = TEXTS[name] and string.char(unpack(value)) or value
  end
  if answers.memory then
    now.memory = {}
    for _, pair in ipairs(answers.memory) do
      now.memory[pair[1]] = pair[2]
    end
  end
  if now.start_time then
    now.uptime_ms = math.max(0, now.mono_ms - now.start_time / now.native_per_s * 1000)
  end
  return now
end

--- Whether a code of `target:eval` says that nothing can be evaluated on the node.
---@param code string?
---@return boolean
function M.is_without_eval(code)
  return code == "ENOEVAL" or code == "ECODESERVER"
end

--- Makes the function that reads some counters.
---@param names string[] Those of the virtual machine's own that are wanted (the keys of the
--- result), and `uptime_ms`.
---@return async fun(target: domain.Target): table?, string?, string? read `memory` is a table by
--- kind, `garbage_collection` and `run_queues` are lists. `without_eval` is the code of `eval`
--- where nothing could be evaluated: `"ECODESERVER"` or `"ENOEVAL"`.
function M.reader(names)
  local wanted = {}
  for _, name in ipairs(names) do
    for _, single in ipairs(name == "uptime_ms" and UPTIME or { name }) do
      assert(CALLS[single], single)
      wanted[#wanted + 1] = single
    end
  end
  local source = source_of(wanted)
  return function(target)
    -- A tenth of a millisecond of work, which low priority would have wait for who does not yield.
    local now, err, code = target:eval(source, {},
      { timeout_ms = TIMEOUT_MS, priority = "normal" })
    if now == nil and M.is_without_eval(code) then
      local without_eval = code
      now, err, code = by_calls(target, wanted)
      if now then
        now.without_eval = without_eval
      end
    end
    if now == nil then
      return nil, err, code
    end
    return finish(now)
  end
end

return M
