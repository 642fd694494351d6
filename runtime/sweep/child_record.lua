--- What is known of one supervisor's children, from what runtime/sweep/children_source.lua answers.

local names = require("runtime.names")

local M = {}

local QUIET_MS = 30 * 1000 -- links of a supervisor change, but none of a permanent child
-- What a supervisor does in a second that tries again and again to start a child, and fails.
local BUSY_REDUCTIONS = 20000

---@class child_record.Record
---@field ids? table<string, table> Its children by id, once it was asked.
---@field is_dynamic? boolean It has no ids.
---@field is_outdated? boolean It has children that it was not asked about.
---@field is_suspect? boolean Something of a permanent child was not as before.
---@field missing? table<string, { since_ms: number, state: string }> By id.
---@field restarts? children.Restarts
---@field running? integer
---@field expected? integer How many links it has when all is well.

local function key_of(child)
  return child[1] .. ":" .. tostring(child[2])
end

--- Takes in the first answer.
---@param entry child_record.Record
---@param answer any
---@param first_ms fun(key: string): number When that id was first seen.
function M.learn(entry, answer, first_ms)
  if answer == "dynamic" then
    entry.is_dynamic = true
  elseif type(answer) == "table" then
    local missing = entry.missing or {}
    entry.ids, entry.running, entry.missing, entry.is_outdated = {}, 0, {}, nil
    for _, child in ipairs(answer[1]) do
      local is_pid = type(child[3]) == "userdata"
      entry.running = entry.running + (is_pid and 1 or 0)
      entry.ids[key_of(child)] = {
        id = names.label(child[2]),
        is_permanent = child[5] == "permanent",
        pid = is_pid and child[3] or nil,
        first_ms = first_ms(key_of(child)),
      }
      entry.missing[key_of(child)] = not is_pid and missing[key_of(child)] or nil
    end
    entry.expected = entry.running
  end
end

-- The children as a call found them: whose pid is another one than before?
local function take_children(entry, found, now_ms)
  local changed, present = {}, {}
  entry.running = 0
  for _, child in ipairs(found) do
    local key, is_pid = key_of(child), type(child[3]) == "userdata"
    local known = entry.ids[key]
    present[key] = true
    entry.running = entry.running + (is_pid and 1 or 0)
    if not known then
      entry.is_outdated = true
    elseif known.is_permanent then
      if is_pid and tostring(child[3]) ~= tostring(known.pid) then
        changed[#changed + 1] = known.id
      end
      known.pid = is_pid and child[3] or nil
      local is_restarting = child[3] == "restarting"
      entry.missing[key] = is_restarting
        and (entry.missing[key] or { since_ms = now_ms, state = "restarting" }) or nil
    end
  end
  for key in pairs(entry.ids) do
    if not present[key] then
      entry.ids[key], entry.missing[key] = nil, nil -- deleted
    end
  end
  return changed
end

local function restarting(entry)
  local ids = {}
  for key, missing in pairs(entry.missing) do
    if missing.state == "restarting" then
      ids[#ids + 1] = entry.ids[key].id
    end
  end
  return ids
end

-- What a second of watching says: the children at its start and after each quarter.
local function take_watch(entry, answer, now_ms)
  local lists, seconds, new, work = answer[2], answer[3] / 1000, answer[4], answer[5]
  local ids, seen, restarts = {}, {}, 0
  take_children(entry, lists[1], now_ms)
  local before = restarting(entry)
  for i = 2, #lists do
    for _, id in ipairs(take_children(entry, lists[i], now_ms)) do
      restarts = restarts + 1
      ids[#ids + 1] = not seen[id] and id or nil
      seen[id] = true
    end
  end
  local still = restarting(entry)
  if restarts == 0 and #before > 0 and #still > 0 and work > BUSY_REDUCTIONS then
    ids, restarts = still, #lists
  end
  if restarts == 0 then
    return nil
  end
  table.sort(ids)
  restarts = math.max(new, restarts)
  return {
    restarts = restarts, seconds = seconds, ids = ids,
    per_s = math.floor(restarts / seconds * 10 + 0.5) / 10,
  }
end

-- It did not answer: what of its permanent children is not among its links is missing, unless
-- others took their places.
local function take_silence(entry, row, absent, now_ms)
  local is_absent = {}
  for _, pid in ipairs(absent) do
    is_absent[tostring(pid)] = true
  end
  local are_fewer = row.children < entry.running
  for key, known in pairs(entry.ids) do
    if known.is_permanent and known.pid then
      entry.missing[key] = are_fewer and is_absent[tostring(known.pid)]
        and (entry.missing[key] or { since_ms = now_ms, state = "silent" }) or nil
    end
  end
end

--- Takes in what a look at it says.
---@param entry child_record.Record
---@param row sweep.SupervisorRow
---@param answer any
---@param now_ms number
function M.inspect(entry, row, answer, now_ms)
  entry.restarts, entry.is_suspect = nil, false
  if type(answer) ~= "table" or answer[1] == "gone" then
    entry.quiet_until_ms = nil -- nothing is known: look again
  elseif answer[1] == "silent" then
    take_silence(entry, row, answer[2], now_ms)
  elseif answer[1] == "same" then
    take_children(entry, answer[2], now_ms)
    entry.quiet_until_ms, entry.expected = now_ms + QUIET_MS, row.children
  else
    entry.restarts = take_watch(entry, answer, now_ms)
    entry.is_suspect = true
  end
  entry.is_suspect = entry.is_suspect or next(entry.missing) ~= nil
end

--- The pids of its permanent children, as terms.
function M.permanent_pids(entry)
  local pids = {}
  for _, known in pairs(entry.ids) do
    if known.is_permanent and known.pid then
      pids[#pids + 1] = known.pid
    end
  end
  return pids
end

local function has_permanent(entry)
  for _, known in pairs(entry.ids) do
    if known.is_permanent then
      return true
    end
  end
  return false
end

--- How urgent a look at a supervisor's children is; nil when none is needed.
---@return integer?
function M.urgency(entry, row, now_ms)
  if entry.is_dynamic or not row.fingerprint then
    return nil
  elseif entry.is_suspect then
    return 3
  elseif (row.fingerprint ~= entry.fingerprint or row.children ~= entry.expected)
    and now_ms >= (entry.quiet_until_ms or -math.huge) and has_permanent(entry) then
    return 2
  end
  return nil
end

--- Its permanent children that do not run.
---@return children.Missing[]?
function M.missing(entry)
  local list = {}
  for key, missing in pairs(entry.missing or {}) do
    local known = entry.ids[key]
    list[#list + 1] = {
      id = known.id, since_ms = missing.since_ms, state = missing.state,
      seen_s = (missing.since_ms - known.first_ms) / 1000,
    }
  end
  table.sort(list, function(a, b)
    return a.id < b.id
  end)
  return list[1] and list or nil
end

return M
