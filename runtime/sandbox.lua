--- The sandbox: runs Lua that a model wrote, in a process of its own.
---
--- Each script gets a fresh process with a small part of Lua, no files, no network and hard limits.
--- It reaches the host only through the functions that it is given; these run here, as tasks, while
--- the script waits. What a script does wrong comes back as an outcome, never as an error.

local async = require("runtime.async")
local json = require("runtime.json")
local members = require("runtime.members")
local native = require("host.sandbox")
local native_json = require("host.json")
local outcome = require("runtime.sandbox.outcome")
local units = require("runtime.units")
local world = require("runtime.world")

local M = {}

---@class sandbox.Sandbox
local Sandbox = {}
local sandbox_mt = { __index = Sandbox }

local MAX_CODE_BYTES = 256 * 1024
local MAX_MEMORY_BYTES = 256 * 1024 ^ 2

local DEFAULT_LIMITS = {
  wall_ms = 10000, -- waiting for functions included
  cpu_ms = 2000,
  memory_bytes = 64 * 1024 ^ 2,
  callbacks = 100,
  result_bytes = 1024 ^ 2,
  output_bytes = 64 * 1024, -- printed; this and the next two may only be lowered
  args_bytes = 256 * 1024, -- of one call, as JSON
  reply_bytes = 4 * 1024 ^ 2, -- of its answer, as JSON
}

--- Starts the sandbox: one waiting process, and `pool` forks of it kept ready.
---@param opts? { pool?: integer, max_memory?: number, max_forks?: integer, max_age_ms?: number }
--- `pool` is 0 to 16; default 4. The rest is for specs: see host/sandbox.c.
---@return sandbox.Sandbox
function M.new(opts)
  return setmetatable({ box = world.open("sandbox", function()
    return native.open(opts or {})
  end) }, sandbox_mt)
end

local function check_limits(limits)
  local checked = {}
  for name, default in pairs(DEFAULT_LIMITS) do
    checked[name] = limits and limits[name] or default
  end
  for name, value in pairs(limits or {}) do
    if not DEFAULT_LIMITS[name] then
      error(("unknown limit %q"):format(tostring(name)), 4)
    end
    if type(value) ~= "number" or value ~= value or value < 0 then
      error(("limit %s must be a number, not below 0"):format(name), 4)
    end
  end
  return {
    wall_ms = math.max(1, checked.wall_ms),
    cpu_ms = math.max(1, checked.cpu_ms),
    memory_bytes = math.min(math.max(1, checked.memory_bytes), MAX_MEMORY_BYTES),
    result_bytes = math.max(1, checked.result_bytes),
    output_bytes = checked.output_bytes,
    args_bytes = math.max(1, checked.args_bytes),
    reply_bytes = checked.reply_bytes,
    calls = checked.callbacks,
  }
end

local function check_request(opts)
  if type(opts.code) ~= "string" then
    error("code must be a string", 3)
  end
  local names = opts.functions or {}
  for _, name in ipairs(names) do
    if not (name .. "."):find("^[%a_][%w_]*%.") or name:find("[^%w_.]") or #name > 200 then
      error(("%q is no name for a function"):format(name), 3)
    end
  end
  if #names > 0 and type(opts.on_call) ~= "function" then
    error("on_call must be a function", 3)
  end
  return { code = opts.code, args = opts.args, fns = json.array({ unpack(names) }),
    owner = opts.owner, limits = check_limits(opts.limits) }
end

-- An error's first line, without the folder of the file that raised it.
local function short_error(err)
  return ((tostring(err):match("^[^\n]*")):gsub("[^%s:'\"]*/([%w_%-]+%.lua:%d+:)", "%1"))
end

-- Runs `on_call` and answers the script. Null arguments arrive as nil.
local function answer(run, id, on_call, limits, name, args)
  local plain = {}
  for i, value in ipairs(args) do
    if value ~= json.null then
      plain[i] = value
    end
  end
  local function send(...)
    local values, count = { ... }, select("#", ...)
    return world.open("reply", function()
      return run:reply(id, unpack(values, 1, count))
    end)
  end
  local function reply(ok, granted, ...)
    if not ok then
      local text = short_error(granted):gsub("[%w_%-]+%.lua:%d+: ", "")
      send(false, "internal error: " .. text)
      error(granted, 0)
    elseif granted then
      local sent, _, code = send(true, ...)
      if not sent and code == "EBIG" then
        send(false, ("the answer is larger than %s; ask for less"):format(
          units.format_size(limits.reply_bytes)))
      end
    else
      send(false, short_error((...) or "failed"))
    end
  end
  reply(async.pcall(on_call, name, plain))
end

-- One run of the request, to its frame.
---@async
local function run_once(box, request, on_call)
  local tasks = members.new()
  local function cancel_tasks()
    for _, task in ipairs(tasks:list()) do
      task:cancel()
    end
  end
  return async.await(nil, function(done)
    local run, err
    run, err = world.open("script", function(on_event)
      return box:exec(request, on_event)
    end, function(what, id, name, args)
      if what == "call" then
        local task = async.spawn(function()
          answer(run, id, on_call, request.limits, name, args)
        end, { name = "callback " .. name, detached = true })
        if not task.done then
          tasks:add(task)
        end
      else
        cancel_tasks()
        done(id)
      end
    end, request)
    if not run then
      done(outcome.failure("sandbox", "sandbox unavailable: " .. err:gsub("^%u+: ", "")))
    end
    return function()
      run:cancel()
      cancel_tasks()
    end
  end)
end

--- Runs a script. If the calling task is cancelled, the script is killed.
---@async
---@param opts table
--- `code`: the script. `args`: a value for its global `args`. `functions`: names of the functions
--- that it may call ("proc.info" is the field of a table). `limits`: `{ wall_ms = 10000,
--- cpu_ms = 2000, memory_bytes = 64 MiB, callbacks = 100, result_bytes = 1 MiB, output_bytes =
--- 64 KiB, args_bytes = 256 KiB, reply_bytes = 4 MiB }`, the last three being the most.
--- `owner`: a name; where scripts must wait, those of different owners take turns.
--- `on_call(name, args) -> true, value… | nil, err` answers a call, in a task that is cancelled
--- when the script ends; `err` becomes an error in the script.
---@return sandbox.Outcome
function Sandbox:exec(opts)
  local request = check_request(opts)
  if #opts.code > MAX_CODE_BYTES then
    return outcome.new(opts.code, outcome.failure("limit",
      ("the script is larger than %d bytes"):format(MAX_CODE_BYTES)))
  end
  if select(2, native_json.encode(opts.code)) then
    return outcome.new("", outcome.failure("syntax", "the script is not valid UTF-8"))
  end
  local frame = run_once(self.box, request, opts.on_call)
  if not frame.ok and frame.error.kind == "sandbox" and (frame.stats.calls or 0) == 0 then
    -- Its process was lost, with no call made: nobody can tell that it has run before.
    frame = run_once(self.box, request, opts.on_call)
  end
  return outcome.new(opts.code, frame)
end

--- Counts and process ids: `{running, queued, idle, starts, zygotes, children}`.
function Sandbox:stats()
  return self.box:stats()
end

--- Kills all processes; what runs ends with kind "cancelled". May be called twice.
function Sandbox:close()
  self.box:close()
end

return M
