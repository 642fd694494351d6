--- The callbacks of the sup domain: what they ask the node, and what they make of its answers.

local json = require("runtime.json")
local names = require("runtime.names")
local source = require("domains.sup.source")
local supervisors = require("runtime.sweep.supervisors")
local units = require("runtime.units")

local M = {}

local MAX_ROWS = 500
local MAX_COUNTED = 50
-- Counting costs a supervisor time for each of its children.
local COUNT_UP_TO = 1000
local CALL_UP_TO = 20000
local DEPTH = 5
local TREE_ROWS, TREE_EACH = 500, 100
local PATIENCE_MS = 1000
local TREE_BUDGET_MS = 3000
local SLACK_MS = 4000

local BINDINGS = {
  Copy = 16 * 1024 * 1024, Patience = PATIENCE_MS, HeapWords = 8 * 1024 * 1024,
}

local function bindings(more)
  for key, value in pairs(BINDINGS) do
    more[key] = value
  end
  return more
end

-- What an id or a name that the node sent as text is called.
local function label_or_null(text)
  return type(text) == "string" and text ~= "undefined" and names.label(text) or json.null
end

local function sorted(rows)
  local list = {}
  for _, row in pairs(rows) do
    list[#list + 1] = row
  end
  table.sort(list, function(a, b)
    if a.name ~= b.name then
      return a.name < b.name
    end
    return a.pid < b.pid
  end)
  return list
end

-- Has the first 50 that have not too many children count them. What is late keeps its links.
local function count(target, list)
  local pids, asked = {}, {}
  for _, row in ipairs(list) do
    if #pids < MAX_COUNTED and row.children <= COUNT_UP_TO then
      pids[#pids + 1] = row.pid
      asked[#asked + 1] = row
    end
  end
  local counts = #pids > 0 and target:eval(source.COUNTS, bindings({ Pids = pids }),
    { timeout_ms = PATIENCE_MS + SLACK_MS }) or {}
  local by_pid = {}
  for i, row in ipairs(asked) do
    by_pid[row.pid] = type(counts[i]) == "table" and counts[i] or nil
  end
  return by_pid
end

--- sup_list()
function M.list(target)
  local found, err, _, pass = target:swept("supervisors")
  if not found then
    return nil, err
  end
  local list = sorted(found.rows)
  for i = #list, MAX_ROWS + 1, -1 do
    list[i] = nil
  end
  local counted, partial = count(target, list), 0
  local rows = {}
  for i, row in ipairs(list) do
    local counts = counted[row.pid]
    partial = partial + (counts and 0 or 1)
    rows[i] = {
      name = row.name,
      pid = row.pid,
      child_count = counts and counts[1] or row.children,
      active_children = counts and counts[2] or row.active,
      counted_by = counts and "supervisor" or "links",
      registered = row.registered,
      application = row.application or json.null,
    }
  end
  return rows, {
    total = found.total, skipped = found.skipped, partial = partial, swept_at = pass.swept_at,
    sampled_at = units.format_time(pass.swept_at),
    truncated = found.total > #rows,
  }
end

-- What a name may stand for on the node: a registered name with or without Elixir's prefix, a pid,
-- or whom the last pass of the sweep calls so.
local function candidates(target, name)
  local named = { name }
  if name:find("^<0%.%d+%.%d+>$") then
    return named
  end
  named[2] = "Elixir." .. name
  local pass = target.sweep and target.sweep:latest()
  local rows = pass and pass.supervisors and pass.supervisors.rows or {}
  local first
  for pid, row in pairs(rows) do
    if row.name == name and (not first or pid < first) then
      first = pid
    end
  end
  named[3] = first
  return named
end

local NOT_FOUND = "supervisor_not_found"

-- Asks about one supervisor. A name that fits nobody may be in a pass that was not made yet.
local function ask(target, name, text, more, timeout_ms)
  local named = candidates(target, name)
  local asked = bindings({})
  for key, value in pairs(more) do
    asked[key] = value
  end
  asked.Named = named
  local answer, err, code = target:eval(text, asked, { timeout_ms = timeout_ms })
  if answer == "none" and not named[3] and target.sweep and not target.sweep:latest() then
    target:swept("supervisors")
    asked.Named = candidates(target, name)
    answer, err, code = target:eval(text, asked, { timeout_ms = timeout_ms })
  end
  return answer, err, code
end

local function child_row(id, pid, kind)
  return {
    id = label_or_null(id),
    pid = tostring(pid),
    type = type(kind) == "string" and names.clean(kind) or "worker",
  }
end

--- sup_children(supervisor_name)
function M.children(target, name)
  local answer, err = ask(target, name, source.CHILDREN,
    { MostRows = MAX_ROWS, CallUpTo = CALL_UP_TO }, 3 * PATIENCE_MS + SLACK_MS)
  if not answer then
    return nil, err
  elseif answer == "none" then
    return { error = NOT_FOUND }
  end
  local how, total, rows = answer[1], answer[2], {}
  for i, child in ipairs(answer[3]) do
    rows[i] = child_row(child[1], child[2], child[3])
  end
  return rows, {
    total = total, skipped = total - #rows, truncated = total > #rows, partial = how ~= "called",
  }
end

local function node_name(name, pid)
  if type(name) ~= "table" then
    return tostring(pid)
  elseif name[2] == "registered" then
    return names.atom(name[1])
  end
  return name[2] == "label" and names.label(name[1]) or supervisors.module_name(name[1])
end

local function branch(tuple)
  local made = child_row(tuple[1], tuple[2], tuple[3])
  local how, total, below = tuple[5], tuple[6], tuple[7]
  if how == "leaf" then
    return made
  end
  made.name = node_name(tuple[4], tuple[2])
  made.child_count = total
  made.children = json.array({})
  for i, child in ipairs(below) do
    made.children[i] = branch(child)
  end
  made.truncated = total > #below or nil
  made.partial = how ~= "called" and how ~= "cut" or nil
  return made
end

--- sup_tree(supervisor_name)
function M.tree(target, name)
  local answer, err = ask(target, name, source.TREE, {
    MostRows = TREE_ROWS, Each = TREE_EACH, CallUpTo = CALL_UP_TO, Depth = DEPTH,
    Budget = TREE_BUDGET_MS,
  }, TREE_BUDGET_MS + 3 * PATIENCE_MS + SLACK_MS)
  if not answer then
    return nil, err
  elseif answer == "none" then
    return { error = NOT_FOUND }
  end
  local tree = branch(answer)
  tree.id, tree.type = nil, nil
  return tree
end

return M
