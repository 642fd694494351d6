--- The executor: runs a model's Lua in the sandbox with one domain's callbacks, and tells about it.

local async = require("runtime.async")
local ids = require("runtime.ids")
local json = require("runtime.json")

local M = {}

---@class executor.Executor
local Executor = {}
local executor_mt = { __index = Executor }

local DEFAULT_RESULT_BYTES = 8 * 1024
local NOBODY = {}
local EVENT_OUTPUT_BYTES = 16 * 1024
local RETURN_LESS = "return less: aggregate, filter or take the first rows"

---@class executor.Record
---@field id string 16 hex digits.
---@field code string
---@field source "model"|"rule"|"user" Who wanted it.
---@field at_ms integer Unix time when it began.
---@field duration_ms number
---@field value any What the script returned; `json.null` for nothing; nil with `error`.
---@field error { kind: string, message: string, line: integer? }? As in `sandbox.Outcome`.
---@field hint string? What to do about a lost value.
---@field output string The last of what it printed, up to 1 KiB; with the error below 2 KiB.
---@field calls integer How many callbacks it made.

--- Creates an executor for one watcher.
---@param opts table
--- `sandbox`: a sandbox.Sandbox. `domain`: has `callbacks()` and `invoke(ctx, name, args)`. `ctx`:
--- handed to `invoke`. `limits`: a policy's `execute`, `{ wall_ms, cpu_ms, memory_bytes, callbacks,
--- result_bytes, output_bytes, args_bytes, reply_bytes }`; `result_bytes` (default 8 KiB) is of the
--- value's JSON. `telemetry`: a telemetry.Bus.
--- `meta`: `{ watcher, domain, node }` for the events. `clock`: a clock.Clock.
---@return executor.Executor
function M.new(opts)
  local self = setmetatable({
    sandbox = assert(opts.sandbox),
    domain = assert(opts.domain),
    ctx = opts.ctx,
    telemetry = assert(opts.telemetry),
    meta = opts.meta or NOBODY,
    clock = assert(opts.clock),
  }, executor_mt)
  self:set_limits(opts.limits)
  return self
end

--- Takes other limits, for the scripts that begin from now on.
---@param given? table A policy's `execute`.
function Executor:set_limits(given)
  self.limits = given
end

-- The limits of the sandbox, and that of what a model is given: the sandbox's own `result_bytes` is
-- for what crosses.
local function limits_of(given)
  local limits = {}
  for name, value in pairs(given or {}) do
    limits[name] = value
  end
  limits.result_bytes = nil
  return limits, given and given.result_bytes or DEFAULT_RESULT_BYTES
end

-- The last bytes of a text, from a whole character on.
local function tail(text, max_bytes)
  if #text <= max_bytes then
    return text
  end
  return (text:sub(-max_bytes):gsub("^[\128-\191]+", ""))
end

local function too_large(size, limit)
  return { kind = "result",
    message = ("%s (the value is %s bytes of JSON, the limit is %d)")
      :format(RETURN_LESS, size, limit) }
end

-- The value or the error of a record.
local function judge(outcome, limit)
  if not outcome.ok then
    local larger_than = outcome.kind == "result"
      and outcome.message:match("^result is larger than (%d+) bytes")
    if larger_than then
      return nil, too_large("more than " .. larger_than, limit)
    end
    return nil, { kind = outcome.kind, message = outcome.message, line = outcome.line }
  end
  local size = #json.encode(outcome.value)
  if size > limit then
    return nil, too_large(size, limit)
  end
  return outcome.value
end

local function names_of(callbacks)
  local names = {}
  for i, callback in ipairs(callbacks) do
    names[i] = callback.name
  end
  return names
end

function Executor:emit(event, measurements, opts, metadata)
  for name, value in pairs(self.meta) do
    metadata[name] = value
  end
  metadata.trace_id = opts.trace_id
  metadata.source = opts.source
  self.telemetry:execute("beamlens.watcher." .. event, measurements, metadata)
end

function Executor:emit_end(record, outcome, opts)
  local measurements = { duration = record.duration_ms, cpu_ms = outcome.stats.cpu_ms,
    wall_ms = outcome.stats.wall_ms, memory_bytes = outcome.stats.mem_peak,
    callbacks = record.calls }
  local metadata = { execution_id = record.id, code = record.code,
    output = tail(outcome.output, EVENT_OUTPUT_BYTES) }
  if record.error then
    metadata.kind = record.error.kind
    metadata.error = record.error.message
    self:emit("execute_error", measurements, opts, metadata)
  else
    metadata.value = record.value
    self:emit("execute_complete", measurements, opts, metadata)
  end
end

--- Runs a script with the domain's callbacks. Emits `execute_start`, then `execute_complete` or
--- `execute_error`.
---@async
---@param code string
---@param opts { trace_id?: string, source?: "model"|"rule"|"user", args?: any } `source`: default
--- "model"; `args`: what the script has as its global `args`.
---@return executor.Record
function Executor:run(code, opts)
  opts = opts or {}
  opts = { trace_id = opts.trace_id, source = opts.source or "model", args = opts.args }
  local record = { id = ids.hex(), code = code, source = opts.source, at_ms = self.clock.wall_ms() }
  local started_ms = self.clock.now_ms()
  self:emit("execute_start", { system_time = record.at_ms }, opts, { code = code })
  local domain = self.domain -- a reload meanwhile is not for it
  local limits, result_bytes = limits_of(self.limits)
  local outcome = async.unwinding(function(err)
    self:emit("execute_error", { duration = self.clock.now_ms() - started_ms }, opts,
      { execution_id = record.id, code = code, kind = err and "sandbox" or "cancelled",
        error = err or "the task that ran it was cancelled" })
  end, self.sandbox.exec, self.sandbox, {
    code = code,
    args = opts.args,
    functions = names_of(domain:callbacks()),
    limits = limits,
    owner = self.meta ~= NOBODY and ("%s %s"):format(self.meta.watcher, self.meta.node) or nil,
    on_call = function(name, args)
      return domain:invoke(self.ctx, name, args)
    end,
  })
  record.duration_ms = self.clock.now_ms() - started_ms
  record.value, record.error = judge(outcome, result_bytes)
  record.hint = outcome.hint
  record.output = outcome.told
  record.calls = outcome.stats.calls
  self:emit_end(record, outcome, opts)
  return record
end

return M
