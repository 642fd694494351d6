--- The part of the sweep that looks at ports: the best 50 by input, output, memory and queue, how
--- many there are of each kind, and who waits to write to those whose queue is not empty. See
--- runtime/sweep/ports_source.lua for what runs on the node.

local names = require("runtime.names")
local ranking = require("runtime.sweep.ranking")
local source = require("runtime.sweep.ports_source")

local M = {}

local BUDGET_MS = 5000
local TIMEOUT_MS = 15000
local GROUPS = 20
local RANKING = ranking.new({
  orders = {
    input = "input_bytes", output = "output_bytes", memory = "memory_bytes", queue = "queue_size",
  },
  id = "id",
  is_before = function(a, b)
    if #a.id ~= #b.id then
      return #a.id < #b.id
    end
    return a.id < b.id
  end,
})

---@class sweep.PortRow
---@field id string `#Port<0.12>`
---@field name string The driver's, or a program with its arguments; `0/1` is a pair of descriptors.
---@field subject string The name, without the program's arguments.
---@field connected_pid? string
---@field input_bytes number Read from it; of a socket, what it has received.
---@field output_bytes number Written to it, the queue included.
---@field queue_size number Bytes that it has not written yet.
---@field memory_bytes number
---@field memory_kb number
---@field is_accepted? boolean Several wait for it, and it is a client's connection to this node.
---@field peer? string The node that it connects to.
---@field remote? string The other end of a TCP connection: `10.0.0.5:5432`, `[::1]:5432`.

---@class sweep.PortSender A process that waits until a port takes what it writes.
---@field pid string
---@field name? string Its registered name.
---@field message_queue number
---@field current_function string
---@field ports string[] Of those with a queue: which it owns, is linked to or monitors, or which
--- its stack says. Empty where none is known.
---@field reductions number

---@class sweep.Ports: sweep.Result
---@field rows table<string, sweep.PortRow> By id.
---@field groups { name: string, count: integer }[] The 20 largest, by subject.
---@field senders sweep.PortSender[]
---@field sender_of table<string, sweep.PortSender> By pid.
---@field senders_late boolean Those who may be waiting did not answer in time.

---@class sweep.PortPart
local Part = {}
local part_mt = { __index = Part }

--- Creates the part of one node.
---@param opts { patience_ms?: number, ports_ms?: number } See `sweep.new`. `ports_ms` bounds the
--- walk (default 5000).
---@return sweep.PortPart
function M.new(opts)
  return setmetatable({
    bindings = {
      Top = ranking.MOST,
      Budget = opts.ports_ms or BUDGET_MS,
      Patience = opts.patience_ms or 1000,
      Names = 200,
      Each = 100,
      MostRegistered = 2000,
      MostProcesses = 50000,
      MostStacks = 8,
    },
    tracked = { "queue_size", "memory_kb" },
    ranking = RANKING,
  }, part_mt)
end

--- Nothing is kept from pass to pass.
function Part:forget()
  return self
end

--- What ports of one kind share: the driver, or the program without its arguments.
---@param name string
---@return string
function M.group_of(name)
  return name:match("^%S+") or name
end

--- How a process prints that a port belongs to, or nil.
---@param value any
---@return string?
function M.pid(value)
  local text = value ~= nil and tostring(value) or ""
  return text:find("^<") and text or nil
end

local function text_or_nil(value)
  return type(value) == "string" and value ~= "undefined" and names.atom(value) or nil
end

local function read_row(tuple)
  local name = names.clean(tuple[2])
  return {
    id = tuple[1],
    name = name,
    subject = M.group_of(name),
    connected_pid = M.pid(tuple[3]),
    input_bytes = tuple[4],
    output_bytes = tuple[5],
    memory_bytes = tuple[6],
    memory_kb = math.floor(tuple[6] / 1024 + 0.5),
    queue_size = tuple[7],
    peer = text_or_nil(tuple[8]),
    remote = type(tuple[9]) == "table" and names.address(tuple[9][1], tuple[9][2]) or nil,
  }
end

local function read_groups(list)
  local groups, by_name = {}, {}
  for _, pair in ipairs(list) do
    local name = M.group_of(names.clean(pair[1]))
    if not by_name[name] then
      by_name[name] = { name = name, count = 0 }
      groups[#groups + 1] = by_name[name]
    end
    by_name[name].count = by_name[name].count + pair[2]
  end
  table.sort(groups, function(a, b)
    if a.count ~= b.count then
      return a.count > b.count
    end
    return a.name < b.name
  end)
  for i = #groups, GROUPS + 1, -1 do
    groups[i] = nil
  end
  return groups
end

local function read_sender(tuple)
  return {
    pid = tostring(tuple[1]),
    name = text_or_nil(tuple[2]),
    message_queue = tuple[3],
    current_function = names.mfa(tuple[4]),
    ports = tuple[5],
    reductions = tuple[6],
  }
end

local function read(answer)
  local result = {
    rows = {},
    total = answer[2],
    skipped = answer[3],
    mono_ms = answer[4],
    took_ms = answer[5],
    work_ms = math.max(0, answer[5] - answer[9]),
    groups = read_groups(answer[6]),
    senders = {},
    sender_of = {},
    senders_late = answer[7] == "late",
  }
  for _, tuple in ipairs(answer[1]) do
    result.rows[tuple[1]] = read_row(tuple)
  end
  for _, id in ipairs(answer[8]) do
    if result.rows[id] then
      result.rows[id].is_accepted = true
    end
  end
  for i, tuple in ipairs(result.senders_late and {} or answer[7]) do
    local sender = read_sender(tuple)
    result.senders[i], result.sender_of[sender.pid] = sender, sender
  end
  result.top = RANKING:of(result.rows)
  return result
end

--- Makes one pass.
---@async
---@param target table
---@return sweep.Ports?
---@return string? err
---@return string? code
function Part:run(target)
  local answer, err, code = target:eval(source, self.bindings, {
    timeout_ms = TIMEOUT_MS, max_heap_words = 8 * 1024 * 1024,
  })
  if not answer then
    return nil, err, code
  end
  return read(answer)
end

return M
