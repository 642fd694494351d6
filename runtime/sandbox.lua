--- The sandbox: runs Lua that a model wrote, in a process of its own.
---
--- Each script gets a fresh process with a small part of Lua, no files, no network and hard limits.
--- It reaches the host only through the functions that it is given; these run here, as tasks, while
--- the script waits. What a script does wrong comes back as an outcome, never as an error.

local async = require("runtime.async")
local json = require("runtime.json")
local native = require("host.sandbox")
local native_json = require("host.json")

local M = {}

---@class sandbox.Sandbox
local Sandbox = {}
local sandbox_mt = { __index = Sandbox }

local MAX_CODE_BYTES = 256 * 1024
local MAX_MESSAGE_BYTES = 2047
local MAX_MEMORY_BYTES = 256 * 1024 ^ 2

local DEFAULT_LIMITS = {
  wall_ms = 10000, -- waiting for functions included
  cpu_ms = 2000,
  memory_bytes = 64 * 1024 ^ 2,
  callbacks = 100,
  result_bytes = 1024 ^ 2,
}

local KINDS = {
  syntax = true, runtime = true, denied = true, timeout = true, memory = true, result = true,
  limit = true, crash = true, cancelled = true, sandbox = true,
}

local AVAILABLE = "available: string, table, math, bit, coroutine, os.time/date/clock, print"
  .. " and the host functions listed above"

--- Starts the sandbox: one waiting process, and `pool` forks of it kept ready.
---@param opts? { pool?: integer } `pool` is 0 to 16; default 4.
---@return sandbox.Sandbox
function M.new(opts)
  return setmetatable({ box = native.open({ pool = opts and opts.pool or 4 }) }, sandbox_mt)
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
    limits = check_limits(opts.limits) }
end

-- Cuts at a whole character.
local function clip(text, max_bytes)
  if #text <= max_bytes then
    return text
  end
  local last = max_bytes - 3
  while last > 0 and text:byte(last + 1) >= 0x80 and text:byte(last + 1) < 0xc0 do
    last = last - 1
  end
  return text:sub(1, last) .. "..."
end

local function line_of(code, number)
  local at = 0
  for line in (code .. "\n"):gmatch("([^\n]*)\n") do
    at = at + 1
    if at == number then
      return line
    end
  end
end

-- The message for the model: what happened, the line, the way there, what to do.
local function compose(code, err)
  local parts = { clip(err.message, 1000) }
  local source = err.line and line_of(code, err.line)
  if source and source:find("%S") then
    parts[#parts + 1] = ("%5d | %s"):format(err.line, clip(source, 160))
  end
  if type(err.traceback) == "string" and err.traceback:find("\n", 1, true) then
    parts[#parts + 1] = "stack traceback:\n" .. clip(err.traceback, 500)
  end
  if type(err.hint) == "string" then
    parts[#parts + 1] = err.hint
  end
  if err.message:find("is not available in this sandbox", 1, true) then
    parts[#parts + 1] = AVAILABLE
  end
  return clip(table.concat(parts, "\n"), MAX_MESSAGE_BYTES)
end

local function number_or(value, default)
  return type(value) == "number" and value or default
end

-- What a child says is not to be trusted, not even its types.
local function to_outcome(code, frame)
  local stats = type(frame.stats) == "table" and frame.stats or {}
  local outcome = {
    ok = frame.ok,
    output = type(frame.output) == "string" and frame.output or "",
    output_truncated = frame.output_truncated == true,
    hint = type(frame.hint) == "string" and frame.hint or nil,
    stats = {
      cpu_ms = number_or(stats.cpu_ms, 0),
      wall_ms = number_or(stats.wall_ms, 0),
      mem_peak = number_or(stats.mem_peak, 0),
      calls = number_or(stats.calls, 0),
    },
  }
  if frame.ok then
    outcome.value = frame.value
    if outcome.value == nil then
      outcome.value = json.null
    end
    outcome.lossy = frame.lossy == true
    return outcome
  end
  local err = frame.error
  outcome.kind = KINDS[err.kind] and err.kind or "crash"
  outcome.line = type(err.line) == "number" and err.line or nil
  outcome.message = compose(code, {
    kind = outcome.kind,
    message = type(err.message) == "string" and err.message or "the script failed",
    line = outcome.line,
    traceback = err.traceback,
    hint = err.hint,
  })
  return outcome
end

local function failure(kind, message)
  return { ok = false, output = "", stats = {}, error = { kind = kind, message = message } }
end

-- Runs `on_call` and answers the script. Null arguments arrive as nil.
local function answer(run, id, on_call, name, args)
  local plain = {}
  for i, value in ipairs(args) do
    if value ~= json.null then
      plain[i] = value
    end
  end
  local function reply(ok, granted, ...)
    if not ok then
      run:reply(id, false, "internal error: " .. tostring(granted):match("^[^\n]*"))
      error(granted, 0)
    elseif granted then
      local sent, _, code = run:reply(id, true, ...)
      if not sent and code == "EBIG" then
        run:reply(id, false, "the answer is larger than 4 MiB; ask for less")
      end
    else
      run:reply(id, false, tostring((...) or "failed"))
    end
  end
  reply(async.pcall(on_call, name, plain))
end

-- One run of the request, to its frame.
---@async
local function run_once(box, request, on_call)
  local tasks = {}
  local function cancel_tasks()
    for task in pairs(tasks) do
      task:cancel()
    end
  end
  return async.await(nil, function(done)
    local run, err
    run, err = box:exec(request, function(what, id, name, args)
      if what == "call" then
        local task = async.spawn(function()
          answer(run, id, on_call, name, args)
        end, { name = "callback " .. name, detached = true })
        if not task.done then
          tasks[task] = true
        end
      else
        cancel_tasks()
        done(id)
      end
    end)
    if not run then
      done(failure("sandbox", "sandbox unavailable: " .. err:gsub("^%u+: ", "")))
    end
    return function()
      run:cancel()
      cancel_tasks()
    end
  end)
end

---@class sandbox.Outcome
---@field ok boolean
---@field value any What the script returned; `json.null` for nothing, a list for several values.
---@field lossy boolean Something in the value has no JSON form and is named in its place.
---@field kind string When not ok: syntax, runtime, denied, timeout, memory, result, limit, crash,
--- cancelled, or sandbox (not the script's fault).
---@field message string For the model, below 2 KiB.
---@field line integer? Of the error.
---@field hint string? For an ok outcome without value whose last statement is an expression.
---@field output string What the script printed, at most 64 KiB.
---@field output_truncated boolean
---@field stats { cpu_ms: number, wall_ms: number, mem_peak: number, calls: number }

--- Runs a script. If the calling task is cancelled, the script is killed.
---@async
---@param opts table
--- `code`: the script. `args`: a value for its global `args`. `functions`: names of the functions
--- that it may call ("proc.info" is the field of a table). `limits`: `{ wall_ms = 10000,
--- cpu_ms = 2000, memory_bytes = 64 MiB, callbacks = 100, result_bytes = 1 MiB }`.
--- `on_call(name, args) -> true, value… | nil, err` answers a call, in a task that is cancelled
--- when the script ends; `err` becomes an error in the script.
---@return sandbox.Outcome
function Sandbox:exec(opts)
  local request = check_request(opts)
  if #opts.code > MAX_CODE_BYTES then
    return to_outcome(opts.code, failure("limit",
      ("the script is larger than %d bytes"):format(MAX_CODE_BYTES)))
  end
  if select(2, native_json.encode(opts.code)) then
    return to_outcome("", failure("syntax", "the script is not valid UTF-8"))
  end
  local frame = run_once(self.box, request, opts.on_call)
  if not frame.ok and frame.error.kind == "sandbox" and (frame.stats.calls or 0) == 0 then
    -- Its process was lost, with no call made: nobody can tell that it has run before.
    frame = run_once(self.box, request, opts.on_call)
  end
  return to_outcome(opts.code, frame)
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
