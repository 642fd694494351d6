--- The part of the sweep that looks at processes: the best 50 by memory, mailbox, reductions, heap,
--- and by the growth of mailbox and reductions over one second. Who holds most binaries is known
--- among all processes of a small node, and else among those that lead in another order. See
--- runtime/sweep/processes_source.lua for what runs on the node.

local dist = require("host.dist")
local names = require("runtime.names")
local ranking = require("runtime.sweep.ranking")
local rows_of = require("runtime.sweep.rows")
local source = require("runtime.sweep.processes_source")

local M = {}

local SMALL = 3000
local BUDGET_MS = 10000
local GAP_MS = 1000
local TIMEOUT_MS = 30000
-- Where a process does not yield for a second, the first questions wait behind it several times.
local COUNT_TIMEOUT_MS = 15000
local MAX_COPIED_BYTES = 64 * 1024 * 1024
local SMALL_KB = 1000
local RANKING = ranking.new({
  orders = {
    memory = "memory_kb", message_queue = "message_queue", reductions = "reductions",
    reductions_per_s = "reductions_per_s", message_queue_per_s = "message_queue_per_s",
    heap = "total_heap_kb", binary = "binary_kb",
  },
  id = "pid",
  is_before = function(a, b)
    if a.memory_kb ~= b.memory_kb then
      return a.memory_kb > b.memory_kb
    end
    return a.pid < b.pid
  end,
})

---@class sweep.Row
---@field pid string `<0.123.0>`
---@field name string Registered name, else label, else initial call.
---@field subject string The name without what differs between processes of one kind; never a pid.
---@field registered boolean
---@field memory_kb number
---@field message_queue number
---@field reductions number
---@field reductions_per_s? number Over the last second of the pass; nil when it died meanwhile.
---@field message_queue_per_s? number
---@field total_heap_kb? number All its heaps and its stack; this and the next five are nil when it
--- died meanwhile.
---@field heap_size_kb? number The youngest generation.
---@field binary_kb? number Binaries outside its heap that it refers to, each counted as often as it
--- does.
---@field minor_gcs? number Since the last full collection.
---@field fullsweep_after? number
---@field current_function? string
---@field status string

---@class sweep.Processes: sweep.Result
---@field rows table<string, sweep.Row> By pid. Passes share the rows of idle processes.
---@field top table<string, string[]> Pids by order, at most 50 each.
---@field unanswered string[] The pids that did not answer, at most 100.

---@class sweep.ProcessPart
local Part = {}
local part_mt = { __index = Part }

--- Creates the part of one node.
---@param opts { patience_ms?: number, grace_ms?: number, gap_ms?: number, budget_ms?: number,
--- small?: integer } See `sweep.new`.
---@return sweep.ProcessPart
function M.new(opts)
  return setmetatable({
    bindings = {
      Budget = opts.budget_ms or BUDGET_MS,
      Patience = opts.patience_ms or 1000,
      Grace = opts.grace_ms or 500,
      Gap = opts.gap_ms or GAP_MS,
      Top = ranking.MOST,
      Small = opts.small or SMALL,
      Copy = MAX_COPIED_BYTES,
    },
    tracked = { "memory_kb", "total_heap_kb", "binary_kb" },
    ranking = RANKING,
  }, part_mt):forget()
end

--- Forgets what is known of the node's processes.
function Part:forget()
  self.hints, self.calling, self.named, self.avoid = {}, {}, {}, {}
  self.name_of, self.last_rows = {}, {}
  return self
end

local function row_name(self, pid, registered, found, initial)
  if type(registered) == "string" and registered ~= "undefined" then
    return names.atom(registered), true
  end
  local label = type(found) == "table" and found[1]
  local call = type(found) == "table" and found[2]
  if type(label) == "string" and label ~= "undefined" then
    self.name_of[pid] = names.label(label)
  elseif type(call) == "table" then
    self.name_of[pid] = names.mfa(call)
  end
  return self.name_of[pid] or (type(initial) == "table" and names.mfa(initial)) or "unknown", false
end

local function round(number, digits)
  local scale = 10 ^ digits
  return math.floor(number * scale + 0.5) / scale
end

local function kib(words, wordsize)
  return math.floor(words * wordsize / 1024 + 0.5)
end

local function read_row(self, tuple)
  local pid = tostring(tuple[1])
  local name, registered = row_name(self, pid, tuple[2], tuple[3], tuple[4])
  local rates = type(tuple[10]) == "table" and tuple[10]
  local collector = type(tuple[11]) == "table" and tuple[11]
  local row = {
    pid = pid,
    name = name,
    subject = names.stable(name),
    registered = registered,
    current_function = type(tuple[5]) == "table" and names.mfa(tuple[5]) or nil,
    status = tuple[6],
    memory_kb = math.floor(tuple[7] / 1024 + 0.5),
    message_queue = tuple[8],
    reductions = tuple[9],
    reductions_per_s = rates and round(rates[1], 0) or nil,
    message_queue_per_s = rates and round(rates[2], 1) or nil,
  }
  if collector then
    local heap_size, minor_gcs, fullsweep_after = unpack(collector[3])
    row.binary_kb = kib(collector[1], self.wordsize)
    row.total_heap_kb = kib(collector[2], self.wordsize)
    row.heap_size_kb = kib(heap_size, self.wordsize)
    row.minor_gcs, row.fullsweep_after = minor_gcs, fullsweep_after
  end
  return row
end

--- Whether a process waits for the answer to a call (`gen:do_call`).
---@param row sweep.Row
---@return boolean
function M.is_calling(row)
  return row.status == "waiting" and row.current_function ~= nil
    and row.current_function:find("^gen:do_call/") ~= nil
end

-- What the next pass is told: whose rates to read, who waits for an answer although it has
-- messages, whose name is known (a small process is asked again), who did not answer.
function Part:remember(result, terms)
  local hints, calling, named, name_of = {}, {}, {}, {}
  for _, order in ipairs({ "reductions_per_s", "message_queue_per_s" }) do
    for _, pid in ipairs(result.top[order]) do
      if result.rows[pid][order] ~= 0 then
        hints[#hints + 1] = terms[pid]
      end
    end
  end
  for pid, row in pairs(result.rows) do
    if row.message_queue > 0 and M.is_calling(row) then
      calling[#calling + 1] = terms[pid]
    end
    if self.name_of[pid] then
      name_of[pid] = self.name_of[pid]
      if row.memory_kb >= SMALL_KB then
        named[#named + 1] = terms[pid]
      end
    end
  end
  self.hints, self.calling, self.named, self.name_of = hints, calling, named, name_of
end

function Part:read(answer)
  local rows, terms = {}, {}
  self.wordsize = answer[8]
  for _, tuple in ipairs(answer[1]) do
    local row = read_row(self, tuple)
    row = rows_of.unless_idle(row, self.last_rows[row.pid])
    rows[row.pid], terms[row.pid] = row, tuple[1]
  end
  self.last_rows = rows
  local unanswered = {}
  for i, term in ipairs(answer[4]) do
    unanswered[i] = tostring(term)
  end
  self.avoid = answer[4]
  local result = {
    total = answer[2],
    skipped = answer[3],
    unanswered = unanswered,
    mono_ms = answer[5],
    took_ms = answer[6],
    work_ms = answer[7],
    rows = rows,
    top = self.ranking:of(rows),
  }
  self:remember(result, terms)
  return result
end

--- Makes one pass.
---@async
---@param target table
---@return sweep.Processes?
---@return string? err
---@return string? code
function Part:run(target)
  local count, err, code = target:call("erlang", "system_info", { dist.atom("process_count") },
    { timeout_ms = COUNT_TIMEOUT_MS, priority = "normal" })
  if not count then
    return nil, err, code
  end
  local bindings = {
    Hints = self.hints, Calling = self.calling, Named = self.named, Avoid = self.avoid,
  }
  for name, value in pairs(self.bindings) do
    bindings[name] = value
  end
  local answer
  answer, err, code = target:eval(source, bindings, {
    timeout_ms = TIMEOUT_MS,
    -- The list of all pids, a copy of it, and what 2 000 answers take.
    max_heap_words = 4 * 1024 * 1024 + 12 * count,
  })
  if not answer then
    return nil, err, code
  end
  return self:read(answer)
end

return M
