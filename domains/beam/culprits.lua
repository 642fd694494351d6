--- Who keeps the schedulers busy, as the last pass of the sweep saw it: processes of one kind are
--- one culprit, since forty that spin in one function are forty times the same mistake.

local M = {}

local LEAST_SHARE = 0.005 -- of the reductions
local NAMED = 3

--- Whether a process has work to do, as the sweep saw it.
---@param row sweep.Row
---@return boolean
function M.is_busy(row)
  return row.status == "running" or row.status == "runnable"
    or row.status == "garbage_collecting"
end

local function busy_rows(found)
  local rows, total = {}, 0
  for _, pid in ipairs(found.top.reductions_per_s) do
    total = total + (found.rows[pid].reductions_per_s or 0)
  end
  for _, pid in ipairs(found.top.reductions_per_s) do
    local row = found.rows[pid]
    if M.is_busy(row) and (row.reductions_per_s or 0) > LEAST_SHARE * total then
      rows[#rows + 1] = row
    end
  end
  return rows, total
end

-- The rows with the same value of a field that together do most of the work.
local function busiest(rows, field)
  local groups, first = {}, nil
  for _, row in ipairs(rows) do
    local key = row[field] or "?"
    groups[key] = groups[key] or { key = key, rows = {}, work = 0 }
    local group = groups[key]
    group.rows[#group.rows + 1] = row
    group.work = group.work + row.reductions_per_s
    if not first or group.work > first.work then
      first = group
    end
  end
  return first
end

local function list(rows, format)
  local parts = {}
  for i = 1, math.min(NAMED, #rows) do
    parts[i] = format(rows[i])
  end
  local more = #rows - #parts
  return table.concat(parts, ", ") .. (more > 0 and (" and %d more"):format(more) or "")
end

local function with_name(row)
  return ("%s %s"):format(row.name, row.pid)
end

local function with_function(row)
  return ("%s in %s"):format(row.pid, row.current_function or "?")
end

--- The kind of process that most of the busy ones are of: who is in the same function, or where
--- they are in many, who has the same name.
---@param found sweep.Processes
---@return { count: integer, share_pct: number, pid: string, text: string }? culprits `pid` is that
--- of the busiest. `text` reads like `40 processes in shop:loop/0, 97 % of the work: job_1
--- <0.91.0>, job_2 <0.92.0>, job_3 <0.93.0> and 37 more`. nil when none is busy.
function M.of(found)
  local rows, total = busy_rows(found)
  if #rows == 0 then
    return nil
  end
  local by_function, by_name = busiest(rows, "current_function"), busiest(rows, "subject")
  local is_named = by_name.work > by_function.work
  local group = is_named and by_name or by_function
  local count, share_pct = #group.rows, group.work / total * 100
  local text
  if count == 1 then
    local row = group.rows[1]
    text = ("%s in %s, %.0f %% of the work"):format(with_name(row), row.current_function or "?",
      share_pct)
  elseif is_named then
    text = ("%d processes %s, %.0f %% of the work: %s"):format(count, group.key, share_pct,
      list(group.rows, with_function))
  else
    text = ("%d processes in %s, %.0f %% of the work: %s"):format(count, group.key, share_pct,
      list(group.rows, with_name))
  end
  return { count = count, share_pct = share_pct, pid = group.rows[1].pid, text = text }
end

return M
