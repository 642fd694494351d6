--- The part of the sweep that finds supervisors, and keeps what is known of their children. See
--- runtime/sweep/supervisors_source.lua for how they are found, runtime/sweep/children.lua for the
--- children.

local children = require("runtime.sweep.children")
local names = require("runtime.names")
local ranking = require("runtime.sweep.ranking")
local source = require("runtime.sweep.supervisors_source")

local M = {}

local BUDGET_MS = 5000
local TIMEOUT_MS = 15000
local MOST = 5000
local MOST_LINKS = 250000
local SMALL = 10000
local FINGERED = 200
local MAX_DEPTH = 50
local MAX_COPIED_BYTES = 16 * 1024 * 1024
-- The heap may hold all links of a level, and copies of them.
local MAX_HEAP_WORDS = 16 * 1024 * 1024
local RANKING = ranking.new({ orders = { children = "children" }, id = "pid",
  is_before = function(a, b)
    return a.pid < b.pid
  end })

---@class sweep.SupervisorRow
---@field pid string
---@field name string Registered name, else label, else `supervisor:MODULE/1`.
---@field subject string The name; without a registered one also whose child it is. Never a pid.
---@field registered boolean
---@field module string Its callback module.
---@field application? string The application below which it runs.
---@field parent? string The pid of who started it.
---@field parent_kind "supervisor"|"application"|"process"
---@field parent_alive boolean
---@field children integer The processes that it is linked to, but for its parent.
---@field active integer The same: who is linked runs.
---@field fingerprint? number Of the children's pids, where they are at most 200.
---@field restarts? children.Restarts Its permanent children are being restarted.
---@field missing? children.Missing[] Permanent children that do not run.

---@class sweep.Supervisors: sweep.Result
---@field rows table<string, sweep.SupervisorRow> By pid.
---@field total_children integer
---@field looked_at integer Links.
---@field is_cut boolean It ended early: who is not there may be there.
---@field applications table<string, true> That run.
---@field gone children.Gone[] Registered supervisors that are no more.
---@field silent integer Those that did not say who their children are when they were last asked.

---@class sweep.SupervisorPart
local Part = {}
local part_mt = { __index = Part }

--- Creates the part of one node.
---@param opts { patience_ms?: number, grace_ms?: number, supervisors_ms?: number,
--- most_supervisors?: integer, most_links?: integer, small_node?: integer } See `sweep.new`. On a
--- node of at most `small_node` processes (default 10 000) those are found too that are below no
--- application and not registered.
---@return sweep.SupervisorPart
function M.new(opts)
  return setmetatable({
    bindings = {
      Budget = opts.supervisors_ms or BUDGET_MS,
      Patience = opts.patience_ms or 1000,
      Grace = opts.grace_ms or 500,
      Most = opts.most_supervisors or MOST,
      MostLinks = opts.most_links or MOST_LINKS,
      SmallNode = opts.small_node or SMALL,
      Fingered = FINGERED,
      Copy = MAX_COPIED_BYTES,
    },
    tracked = { "children" },
    ranking = RANKING,
  }, part_mt):forget()
end

--- Forgets what is known of the node's supervisors.
function Part:forget()
  self.children = children.new()
  return self
end

local function text_or_nil(value)
  return type(value) == "string" and value ~= "undefined" and value or nil
end

--- How a supervisor is called that has no registered name.
---@param module string
---@return string
function M.module_name(module)
  return ("supervisor:%s/1"):format(names.atom(module))
end

local function read_row(tuple)
  -- An unregistered process has [] for its name.
  local registered, label = text_or_nil(tuple[2]), text_or_nil(tuple[4])
  local name = registered and names.atom(registered) or label and names.label(label)
    or M.module_name(tuple[3])
  return {
    pid = tostring(tuple[1]),
    name = name,
    registered = registered ~= nil,
    module = names.atom(tuple[3]),
    parent = tuple[5] ~= "undefined" and tostring(tuple[5]) or nil,
    parent_alive = tuple[6] == true,
    children = tuple[8],
    active = tuple[8],
    fingerprint = type(tuple[9]) == "number" and tuple[9] or nil,
  }
end

local function by_pid(pairs_list)
  local map = {}
  for _, pair in ipairs(pairs_list) do
    map[tostring(pair[1])] = names.atom(pair[2])
  end
  return map
end

-- Adds whose child each is, and below which application: that of who started its topmost ancestor
-- that is a supervisor, or of its group leader.
local function place(rows, leaders, masters, starters)
  for _, row in pairs(rows) do
    row.parent_kind = rows[row.parent] and "supervisor" or starters[row.parent] and "application"
      or "process"
    local top = row
    for _ = 1, MAX_DEPTH do
      if not rows[top.parent] then
        break
      end
      top = rows[top.parent]
    end
    row.application = starters[top.parent] or masters[leaders[row.pid]]
  end
end

-- One that is not registered shares its name with others: whose child it is says which.
local function subject_of(rows, row)
  if row.registered then
    return row.name
  end
  local above = row
  for _ = 1, MAX_DEPTH do
    above = rows[above.parent]
    if not above then
      break
    elseif above.registered then
      return names.stable(("%s of %s"):format(row.name, above.name))
    end
  end
  return names.stable(row.name)
end

local function read(answer)
  local rows, leaders, total_children, applications = {}, {}, 0, {}
  local terms = { supervisors = {}, parents = {} }
  for _, tuple in ipairs(answer[1]) do
    local row = read_row(tuple)
    rows[row.pid], leaders[row.pid] = row, tostring(tuple[7])
    terms.supervisors[row.pid], terms.parents[row.pid] = tuple[1], tuple[5]
    total_children = total_children + row.children
  end
  local masters = by_pid(answer[2])
  place(rows, leaders, masters, by_pid(answer[3]))
  for _, row in pairs(rows) do
    row.subject = subject_of(rows, row)
  end
  for _, name in pairs(masters) do
    applications[name] = true
  end
  return {
    total = #answer[1],
    total_children = total_children,
    looked_at = answer[7],
    applications = applications,
    skipped = answer[4],
    is_cut = answer[8] == true,
    mono_ms = answer[5],
    took_ms = answer[6],
    work_ms = answer[6],
    rows = rows,
    top = RANKING:of(rows),
  }, terms
end

--- Makes one pass.
---@async
---@param target table
---@return sweep.Supervisors?
---@return string? err
---@return string? code
function Part:run(target)
  local answer, err, code = target:eval(source, self.bindings, {
    timeout_ms = TIMEOUT_MS, max_heap_words = MAX_HEAP_WORDS,
  })
  if not answer then
    return nil, err, code
  end
  local result, terms = read(answer)
  self.children:update(target, result, terms)
  return result
end

return M
