--- The callbacks of the ports domain: what they ask the node, and what they make of its answers.

local json = require("runtime.json")
local names = require("runtime.names")
local ports = require("runtime.sweep.ports")
local source = require("domains.ports.source")
local units = require("runtime.units")

local M = {}

local MAX_ROWS = 500
local TIMEOUT_MS = 5000
local NOT_FOUND = "port_not_found"

local function number_or_null(value)
  return type(value) == "number" and value or json.null
end

--- ports_list()
function M.list(target)
  local answer, err = target:eval(source.LIST, { Most = MAX_ROWS },
    { timeout_ms = TIMEOUT_MS, max_heap_words = 8 * 1024 * 1024 })
  if not answer then
    return nil, err
  end
  local total, rows = answer[1], {}
  for i, tuple in ipairs(answer[3]) do
    rows[i] = {
      id = tuple[1],
      name = names.clean(tuple[2]),
      connected_pid = ports.pid(tuple[3]) or json.null,
      os_pid = number_or_null(tuple[4]),
    }
  end
  return rows, { total = total, skipped = total - #rows, took_ms = answer[2] / 1000 }
end

--- ports_info(port_id)
function M.info(target, id)
  if not id:find("^#Port<0%.%d+>$") then
    return { error = NOT_FOUND }
  end
  local answer, err = target:eval(source.INFO, { Id = id }, { timeout_ms = TIMEOUT_MS })
  if not answer then
    return nil, err
  elseif answer == "none" then
    return { error = NOT_FOUND }
  end
  return {
    id = answer[1],
    name = names.clean(answer[2]),
    connected_pid = ports.pid(answer[3]) or json.null,
    input_bytes = answer[4],
    output_bytes = answer[5],
    os_pid = number_or_null(answer[6]),
    queue_size = answer[7],
    memory_kb = math.floor(answer[8] / 1024 + 0.5),
  }
end

--- ports_top(limit, sort_by)
function M.top(target, limit, sort_by)
  local found, err, _, pass = target:swept("ports")
  if not found then
    return nil, err
  end
  local rows = {}
  for i = 1, math.min(limit, #found.top[sort_by]) do
    local row = found.rows[found.top[sort_by][i]]
    rows[i] = {
      id = row.id,
      name = row.name,
      connected_pid = row.connected_pid or json.null,
      input_bytes = row.input_bytes,
      output_bytes = row.output_bytes,
      memory_kb = row.memory_kb,
      queue_size = row.queue_size,
    }
  end
  return rows, {
    total = found.total, skipped = found.skipped, took_ms = found.took_ms,
    swept_at = pass.swept_at, sampled_at = units.format_time(pass.swept_at),
  }
end

return M
