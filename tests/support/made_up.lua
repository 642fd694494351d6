-- Recordings that were made up, for specs of the replay: one node, sampled in the domain beam.

local recording = require("support.recording")
local support = require("support")

local M = {}

local STARTED_MS = 1795466985123
local EVERY_S = 10

local function sample(t, uptime_s, queue)
  local row = { pid = "<0.512.0>", name = "orders_worker", subject = "orders_worker",
    registered = true, memory_kb = 100 + queue, message_queue = queue, reductions = 1000 + t,
    reductions_per_s = 1, message_queue_per_s = 0, current_function = "timer:sleep/1",
    status = "waiting" }
  local mono_ms = t * 1000 - 576460750000
  local processes = { mono_ms = mono_ms - 500, total = 500, skipped = 0, took_ms = 1, work_ms = 1,
    rows = { [row.pid] = row }, top = {}, tracked = { "memory_kb" } }
  for _, order in ipairs({ "memory", "message_queue", "reductions", "reductions_per_s",
    "message_queue_per_s" }) do
    processes.top[order] = { row.pid }
  end
  return {
    id = ("%016x"):format(t), at_ms = STARTED_MS + t * 1000, mono_ms = mono_ms, took_ms = 1,
    data = { uptime_s = uptime_s, mono_ms = mono_ms, schedulers_online = 2,
      scheduler_run_queue = 0, process_count = 500, process_limit = 262144,
      process_utilization_pct = 0.19, port_count = 50, port_limit = 65536,
      port_utilization_pct = 0.08, atom_count = 20000, atom_limit = 1048576,
      atom_utilization_pct = 1.91, memory_rss_mb = 200 + queue / 1024, memory_limit_mb = 8000,
      memory_total_mb = 150, memory_utilization_pct = 2.5, memory_code_mb = 20 },
    sweep = { mono_ms = mono_ms - 500, swept_at = STARTED_MS + t * 1000, took_ms = 1, work_ms = 1,
      errors = {}, processes = processes },
  }
end

-- Writes one through `each(w, t)` for every tenth second. Returns its path.
local function write(seconds, each)
  local lines, path = support.tmp_path("made-up.jsonl"), support.tmp_path("made-up.xz")
  support.on_cleanup(function()
    os.remove(lines)
    os.remove(path)
  end)
  local w = recording.create(lines, { scenario = "made_up", nodes = { "shop@db1" },
    started_at = STARTED_MS, seconds = seconds })
  for t = 0, seconds, EVERY_S do
    each(w, t)
  end
  w:close({ figures = {} })
  recording.compress(lines, path)
  return path
end

--- A mailbox of `queue(t)` messages at `t` seconds.
---@async
---@return string path
function M.mailbox(seconds, queue)
  return write(seconds, function(w, t)
    w:sample(t * 1000, 1, "beam", sample(t, 7200 + t, queue(t)))
  end)
end

--- A node that restarts at each of `times` (tens of seconds), with a mailbox that grows in each
--- life, but in none for long enough.
---@async
---@return string path
function M.restarts(times)
  local born = {}
  for _, t in ipairs(times) do
    born[t] = true
  end
  local began = 0
  return write(times[#times] + 50, function(w, t)
    if born[t] then
      began = t
      w:event(t * 1000, 1, "down", { err = "ECLOSED: closed", code = "ECLOSED" })
      w:event(t * 1000 + 100, 1, "restarted", {})
      w:event(t * 1000 + 200, 1, "up", {})
    end
    w:sample(t * 1000 + 300, 1, "beam", sample(t, t - began, 500 * (t - began)))
  end)
end

--- A node that is away from one second to another.
---@async
---@return string path
function M.outage(from_s, to_s)
  return write(to_s + 50, function(w, t)
    if t == from_s then
      w:event(t * 1000, 1, "down", { err = "ECLOSED: closed", code = "ECLOSED" })
    elseif t == to_s then
      w:event(t * 1000, 1, "up", {})
    end
    if t < from_s or t >= to_s then
      w:sample(t * 1000 + 1, 1, "beam", sample(t, 7200 + t, 0))
    end
  end)
end

return M
