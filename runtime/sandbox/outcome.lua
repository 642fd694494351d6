--- What became of a script, in words for the model that wrote it.
---
--- What a script's process says is not to be trusted, not even its types. An address in it is
--- replaced: all processes of the sandbox have the same ones.

local json = require("runtime.json")

local M = {}

local OUTPUT_BYTES = 1024
-- Of JSON, as a model gets it: the printed output, all of an error with it, and the error's parts.
local MAX_OUTPUT_BYTES = 1200
local MAX_TOLD_BYTES = 1900
local MAX_MESSAGE_BYTES = 1000
local MAX_LINE_BYTES = 160
local MAX_TRACEBACK_BYTES = 400
local MAX_HINT_BYTES = 240

local KINDS = {
  syntax = true, runtime = true, denied = true, timeout = true, memory = true, result = true,
  limit = true, crash = true, cancelled = true, sandbox = true,
}

local AVAILABLE = "available: string, table, math, bit, coroutine, os.time/date/clock, print"
  .. " and the host functions listed above"
local NOT_ITS_FAULT = "this is not the script's fault: do not try other code"

---@class sandbox.Outcome
---@field ok boolean
---@field value any What the script returned; `json.null` for nothing, a list for several values.
---@field lossy boolean Something in the value has no JSON form and is named in its place.
---@field kind string When not ok: syntax, runtime, denied, timeout, memory, result, limit, crash,
--- cancelled, or sandbox (not the script's fault).
---@field message string For the model; with `told` below 2 KiB, even as JSON.
---@field told string The last of the output, up to 1 KiB, for the model.
---@field line integer? Of the error.
---@field hint string? For an ok outcome without value whose last statement is an expression.
---@field output string What the script printed, at most 64 KiB.
---@field output_truncated boolean
---@field stats { cpu_ms: number, wall_ms: number, mem_peak: number, calls: number }

local function json_size(text)
  return #json.encode(text) - 2
end

local function is_inside(text, at)
  local byte = text:byte(at)
  return byte ~= nil and byte >= 0x80 and byte < 0xc0
end

local function head(text, bytes)
  while bytes > 0 and is_inside(text, bytes + 1) do
    bytes = bytes - 1
  end
  return text:sub(1, bytes)
end

local function tail(text, bytes)
  local from = #text - bytes + 1
  while is_inside(text, from) do
    from = from + 1
  end
  return text:sub(from)
end

-- Takes as much of the text with `part` as has that size as JSON.
local function fit(text, max_bytes, part)
  local kept = #text > max_bytes and part(text, max_bytes) or text
  while json_size(kept) > max_bytes do
    local bytes = math.floor(#kept * max_bytes / json_size(kept))
    kept = part(kept, math.min(bytes, #kept - 1))
  end
  return kept
end

--- The beginning of a text, of at most that many bytes as JSON, and "..." where it is cut.
---@param text string
---@param max_bytes integer At least 3.
---@return string
function M.clip(text, max_bytes)
  if #text <= max_bytes and json_size(text) <= max_bytes then
    return text
  end
  return fit(text, max_bytes - 3, head) .. "..."
end

-- Returns a function that replaces the addresses in a text, the same one by the same number.
local function mask()
  local known, count = {}, 0
  local function number_of(address)
    if not known[address] then
      count = count + 1
      known[address] = ("0x%x"):format(count)
    end
    return known[address]
  end
  return function(text)
    return (text:gsub("(%a: )(0x%x+)", function(before, address)
      return before .. number_of(address)
    end):gsub("0x[57]" .. ("%x"):rep(11) .. "%f[%X]", number_of))
  end
end

-- The line of that number and the number; the last one before it that is not blank, as for an error
-- at the end of the text.
local function line_of(code, number)
  local at, found, found_at = 0, nil, nil
  for line in (code .. "\n"):gmatch("([^\n]*)\n") do
    at = at + 1
    if line:find("%S") then
      found, found_at = line, at
    end
    if at == number then
      return found, found_at
    end
  end
end

-- The message for the model: what happened, the line, the way there, what to do.
local function compose(code, err, max_bytes)
  local parts = { M.clip(err.message, math.min(MAX_MESSAGE_BYTES, max_bytes - 200)) }
  local source, number
  if err.line then
    source, number = line_of(code, err.line)
  end
  if source then
    parts[#parts + 1] = ("%5d | %s"):format(number, M.clip(source, MAX_LINE_BYTES))
  end
  if err.hint then
    parts[#parts + 1] = M.clip(err.hint, MAX_HINT_BYTES)
  end
  if err.message:find("is not available in this sandbox", 1, true) then
    parts[#parts + 1] = AVAILABLE
  elseif err.kind == "sandbox" then
    parts[#parts + 1] = NOT_ITS_FAULT
  end
  local left = max_bytes - json_size(table.concat(parts, "\n")) - #"\\nstack traceback:\\n"
  if err.traceback and err.traceback:find("\n", 1, true) and left >= 100 then
    table.insert(parts, source and 3 or 2,
      "stack traceback:\n" .. M.clip(err.traceback, math.min(left, MAX_TRACEBACK_BYTES)))
  end
  return M.clip(table.concat(parts, "\n"), max_bytes)
end

local function of_type(value, wanted)
  return type(value) == wanted and value or nil
end

local function read_stats(stats)
  stats = of_type(stats, "table") or {}
  return {
    cpu_ms = of_type(stats.cpu_ms, "number") or 0,
    wall_ms = of_type(stats.wall_ms, "number") or 0,
    mem_peak = of_type(stats.mem_peak, "number") or 0,
    calls = of_type(stats.calls, "number") or 0,
  }
end

-- Fills in what is told of an error.
local function tell(outcome, code, err, masked)
  outcome.kind = KINDS[err.kind] and err.kind or "crash"
  outcome.line = of_type(err.line, "number")
  local traceback, hint = of_type(err.traceback, "string"), of_type(err.hint, "string")
  outcome.message = compose(code, {
    kind = outcome.kind,
    message = masked(of_type(err.message, "string") or "the script failed"),
    line = outcome.line,
    traceback = traceback and masked(traceback),
    hint = hint,
  }, MAX_TOLD_BYTES - json_size(outcome.told))
end

--- The outcome that a frame tells.
---@param code string The script.
---@param frame table A D or E frame (host/worker/protocol.h), as its process sent it.
---@return sandbox.Outcome
function M.new(code, frame)
  local masked = mask()
  local output = masked(of_type(frame.output, "string") or "")
  local outcome = {
    ok = frame.ok,
    output = output,
    told = fit(#output > OUTPUT_BYTES and tail(output, OUTPUT_BYTES) or output, MAX_OUTPUT_BYTES,
      tail),
    output_truncated = frame.output_truncated == true,
    hint = of_type(frame.hint, "string"),
    stats = read_stats(frame.stats),
  }
  if not frame.ok then
    tell(outcome, code, frame.error, masked)
    return outcome
  end
  outcome.value = frame.value
  if outcome.value == nil then
    outcome.value = json.null
  end
  outcome.lossy = frame.lossy == true
  return outcome
end

--- The frame of a script that failed before it had a process.
---@param kind string
---@param message string
---@return table
function M.failure(kind, message)
  return { ok = false, output = "", stats = {}, error = { kind = kind, message = message } }
end

return M
