--- A watcher's snapshots: those samples that its model has seen, so that an alert can name them.
---
--- The store is bounded: the oldest go first, but never one that is pinned because an alert of the
--- running cycle references it.

local M = {}

---@class snapshots.Snapshot
---@field id string 16 hex digits.
---@field captured_at number Unix milliseconds.
---@field data table

---@class snapshots.Store
---@field on_change? fun(id: string) Called when one was added or dropped.
local Store = {}
local store_mt = { __index = Store }

--- Creates an empty store.
---@param opts { limit: integer }
---@return snapshots.Store
function M.new(opts)
  assert(type(opts.limit) == "number" and opts.limit >= 1, "limit must be at least 1")
  return setmetatable({ limit = opts.limit, list = {}, by_id = {} }, store_mt)
end

local function changed(self, id)
  if self.on_change then
    self.on_change(id)
  end
end

local function drop_oldest(self)
  local i = 1
  while #self.list > self.limit and i < #self.list do
    if self.pinned and self.pinned[self.list[i].id] then
      i = i + 1
    else
      local gone = table.remove(self.list, i)
      self.by_id[gone.id] = nil
      changed(self, gone.id)
    end
  end
end

--- Keeps a sample as a snapshot. One that is there already is not added again.
---@param sample { id: string, at_ms: number, data: table }
---@return snapshots.Snapshot
function Store:add(sample)
  local known = self.by_id[sample.id]
  if known then
    return known
  end
  local snapshot = { id = sample.id, captured_at = sample.at_ms, data = sample.data }
  self.by_id[snapshot.id] = snapshot
  self.list[#self.list + 1] = snapshot
  changed(self, snapshot.id)
  drop_oldest(self)
  return snapshot
end

--- Takes over snapshots of before a restart, oldest first. To be called before any is added.
---@param list snapshots.Snapshot[]
function Store:restore(list)
  for _, snapshot in ipairs(list) do
    self.by_id[snapshot.id] = snapshot
    self.list[#self.list + 1] = snapshot
  end
  drop_oldest(self)
end

--- The snapshot with this id.
---@param id string
---@return snapshots.Snapshot?
function Store:get(id)
  return self.by_id[id]
end

--- A page, newest first.
---@param limit integer
---@param offset? integer Default: 0.
---@return { snapshots: snapshots.Snapshot[], total: integer, offset: integer }
function Store:page(limit, offset)
  local page = {}
  local newest = #self.list - (offset or 0)
  for i = newest, math.max(1, newest - limit + 1), -1 do
    page[#page + 1] = self.list[i]
  end
  return { snapshots = page, total = #self.list, offset = offset or 0 }
end

--- The ids of the newest snapshots, newest first.
---@param limit? integer Default: all.
---@return string[]
function Store:ids(limit)
  local ids = {}
  for i, snapshot in ipairs(self:page(limit or #self.list).snapshots) do
    ids[i] = snapshot.id
  end
  return ids
end

--- Keeps these snapshots until `unpin_all`, whatever the limit.
---@param ids string[]
function Store:pin(ids)
  self.pinned = self.pinned or {}
  for _, id in ipairs(ids) do
    self.pinned[id] = true
  end
end

--- Ends all pins; called when a cycle ends.
function Store:unpin_all()
  self.pinned = nil
  drop_oldest(self)
end

--- Changes the limit, as a reload may.
---@param limit integer
function Store:set_limit(limit)
  self.limit = limit
  drop_oldest(self)
end

return M
