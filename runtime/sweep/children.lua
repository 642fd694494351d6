--- What is known of supervisors' permanent children from pass to pass: whether they are restarted
--- again and again, whether they are missing, and which registered supervisors are no more.
---
--- A supervisor of at most 200 links is asked once who its children are and how they are restarted.
--- From then on its links are compared, and it is asked again when they changed: once where no
--- permanent child did, and where one did it is watched for a second. Temporary and transient
--- children, and all those of dynamic supervisors, may come and go.

local dist = require("host.dist")
local record = require("runtime.sweep.child_record")
local source = require("runtime.sweep.children_source")

local M = {}

local LEARNED_AT_ONCE, INSPECTED_AT_ONCE = 20, 10
local MAX_LEARNED = 1000
local MAX_GONE = 100
local FORGET_MS = 24 * 60 * 60 * 1000
local RETRY_MS = 60 * 1000 -- it did not answer
local RELEARN_MS = 60 * 1000 -- it has new children
local WATCH_MS = 1000
local PATIENCE_MS = 500

local BINDINGS = {
  Patience = PATIENCE_MS, Gap = WATCH_MS, HeapWords = 2 * 1024 * 1024, Copy = 16 * 1024 * 1024,
}

---@class children.Restarts
---@field per_s number At least.
---@field restarts integer Seen in `seconds`.
---@field seconds number
---@field ids string[] The permanent children that were restarted.

---@class children.Missing
---@field id string
---@field since_ms number By the node's monotonic clock.
---@field seen_s number For how long it was known before.
---@field state "restarting"|"silent" `silent`: the supervisor does not answer.

---@class children.Gone
---@field name string
---@field since_ms number
---@field seen_s number
---@field application? string

---@class children.Children
local Children = {}
local children_mt = { __index = Children }

--- Nothing is known.
---@return children.Children
function M.new()
  return setmetatable({ supervisors = {}, learned = 0, registered = {} }, children_mt)
end

-- When an id was first seen below a supervisor; that outlives a registered supervisor's pid.
function Children:first_ms(row, key, now_ms)
  local known = row.registered and self.registered[row.name]
  if not known then
    return now_ms
  end
  known.ids[key] = known.ids[key] or now_ms
  return known.ids[key]
end

local function first(list, count)
  table.sort(list, function(a, b)
    if a.rank ~= b.rank then
      return a.rank > b.rank
    elseif a.last_ms ~= b.last_ms then
      return a.last_ms < b.last_ms
    end
    return a.pid < b.pid
  end)
  local pids = {}
  for i = 1, math.min(count, #list) do
    pids[i] = list[i].pid
  end
  return pids
end

-- Whom to ask for the first time, and whom again.
function Children:choose(result, now_ms)
  local learn, inspect = {}, {}
  for pid, row in pairs(result.rows) do
    local entry = self.supervisors[pid]
    local is_due = now_ms >= (entry.retry_ms or -math.huge)
    if is_due and not entry.is_dynamic and (not entry.ids or entry.is_outdated) then
      if row.fingerprint and row.children > 0
        and (entry.ids or self.learned < MAX_LEARNED) then
        learn[#learn + 1] = { pid = pid, rank = row.registered and 1 or 0, last_ms = 0 }
      end
    elseif entry.ids then
      local rank = record.urgency(entry, row, now_ms)
      if rank then
        inspect[#inspect + 1] = {
          pid = pid, rank = rank, last_ms = entry.inspected_ms or -math.huge,
        }
      end
    end
  end
  return first(learn, LEARNED_AT_ONCE), first(inspect, INSPECTED_AT_ONCE)
end

function Children:questions(terms, learn, inspect, candidates)
  local bindings = { Learn = {}, Inspect = {}, Gone = {} }
  for key, value in pairs(BINDINGS) do
    bindings[key] = value
  end
  for i, pid in ipairs(learn) do
    bindings.Learn[i] = terms[pid]
  end
  for i, pid in ipairs(inspect) do
    local entry = self.supervisors[pid]
    bindings.Inspect[i] = dist.tuple({
      terms[pid], record.permanent_pids(entry), entry.restarts ~= nil,
    })
  end
  for i, candidate in ipairs(candidates) do
    bindings.Gone[i] = candidate.known.pids
  end
  return bindings
end

-- Whether an answer says that the supervisor gave none in time.
local function is_silent(answer)
  return answer == "late" or (type(answer) == "table" and answer[1] == "silent")
end

function Children:take_learned(row, answer, now_ms)
  local entry = self.supervisors[row.pid]
  local was_learned = entry.ids ~= nil
  record.learn(entry, answer, function(key)
    return self:first_ms(row, key, now_ms)
  end)
  if type(answer) == "table" and type(answer[2]) == "table" then
    record.inspect(entry, row, answer[2], now_ms)
  end
  entry.retry_ms = now_ms + (entry.ids and RELEARN_MS or RETRY_MS)
  self.learned = self.learned + ((entry.ids and not was_learned) and 1 or 0)
end

-- One eval for all questions of a pass. Returns who of the candidates lives. When it fails nothing
-- is said of those that were to be inspected.
function Children:ask(target, result, terms, candidates)
  local learn, inspect = self:choose(result, result.mono_ms)
  if #learn + #inspect + #candidates == 0 then
    return {}
  end
  local answer = target:eval(source, self:questions(terms, learn, inspect, candidates),
    { timeout_ms = 4 * PATIENCE_MS + WATCH_MS + 2000 }) or { {}, {}, {} }
  for i, pid in ipairs(learn) do
    self.supervisors[pid].is_silent = is_silent(answer[1][i])
    self:take_learned(result.rows[pid], answer[1][i], result.mono_ms)
  end
  for i, pid in ipairs(inspect) do
    local entry = self.supervisors[pid]
    entry.inspected_ms, entry.is_silent = result.mono_ms, is_silent(answer[2][i])
    record.inspect(entry, result.rows[pid], answer[2][i], result.mono_ms)
  end
  return answer[3]
end

-- Takes in who is there now.
function Children:see(result, terms)
  local now_ms = result.mono_ms
  for pid, row in pairs(result.rows) do
    self.supervisors[pid] = self.supervisors[pid] or {}
    if row.registered then
      local known = self.registered[row.name] or { first_ms = now_ms, ids = {} }
      self.registered[row.name] = known
      known.gone_ms, known.row = nil, row
      known.pids = dist.tuple({ terms.supervisors[pid], terms.parents[pid] })
    end
  end
  if not result.is_cut then
    for pid, entry in pairs(self.supervisors) do
      if not result.rows[pid] then
        self.learned = self.learned - (entry.ids and 1 or 0)
        self.supervisors[pid] = nil
      end
    end
  end
end

-- Registered supervisors that are not found any more although nobody is known to have ended them:
-- what a supervisor or an application started is theirs to end.
function Children:find_gone(result)
  local candidates, present = {}, {}
  if result.is_cut then
    return candidates
  end
  for _, row in pairs(result.rows) do
    present[row.registered and row.name or ""] = true
  end
  for name, known in pairs(self.registered) do
    local row = known.row
    if not present[name] then
      known.gone_ms = known.gone_ms or result.mono_ms
      if (row.application and not result.applications[row.application])
        or result.mono_ms - known.gone_ms > FORGET_MS then
        self.registered[name] = nil
      elseif row.parent_kind == "process" and #candidates < MAX_GONE then
        candidates[#candidates + 1] = { name = name, known = known }
      end
    end
  end
  return candidates
end

-- Of those, the ones that have ended while who started them goes on, or had ended before.
function Children:tell_gone(result, candidates, alive)
  result.gone = {}
  for i, candidate in ipairs(candidates) do
    local known, answer = candidate.known, alive[i]
    local row = known.row
    if answer and answer[1] then
      known.gone_ms = nil -- it has another name now, or did not answer
    elseif answer and row.parent_alive and not answer[2] then
      self.registered[candidate.name] = nil
    elseif answer then
      result.gone[#result.gone + 1] = {
        name = candidate.name, since_ms = known.gone_ms,
        seen_s = (known.gone_ms - known.first_ms) / 1000, application = row.application,
      }
    end
  end
  table.sort(result.gone, function(a, b)
    return a.name < b.name
  end)
end

--- Takes in a pass, asks what it needs to, and adds to the result what is known: `restarts` and
--- `missing` of its rows, `gone`, and `silent`: how many supervisors did not answer when they were
--- last asked.
---@async
---@param target table
---@param result sweep.Supervisors
---@param terms { supervisors: table<string, any>, parents: table<string, any> } By pid.
function Children:update(target, result, terms)
  self:see(result, terms)
  local candidates = self:find_gone(result)
  local alive = self:ask(target, result, terms.supervisors, candidates)
  self:tell_gone(result, candidates, alive)
  result.silent = 0
  for pid, row in pairs(result.rows) do
    local entry = self.supervisors[pid]
    entry.fingerprint = row.fingerprint
    result.silent = result.silent + (entry.is_silent and 1 or 0)
    row.restarts, row.missing = entry.restarts, record.missing(entry)
  end
end

return M
