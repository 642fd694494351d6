--- The feeds of one node: finds the one that a watcher can share, and lets it move to another.
---
--- A feed's key is its domain (which loaded file), its settings (by what they say) and its cadence.
--- A watcher that comes to want something else takes its feed along when it is the only one on it;
--- else it goes to the feed that is as it wants, or to a new one that goes on with a copy of the
--- history that it had.

local feed = require("runtime.detector.feed")
local keys = require("runtime.detector.keys")

local M = {}

---@class feeds.Feeds
---@field keys detector_keys.Keys
local Feeds = {}
local feeds_mt = { __index = Feeds }

--- None yet.
---@param opts? { spread?: fun(sample_ms: number, index: integer): table? } Asked for the spread of
--- each new one, as how many there are with it; see runtime/sampler.lua.
---@return feeds.Feeds
function M.new(opts)
  return setmetatable({ keys = keys.new(), by_key = {}, order = {},
    spread = opts and opts.spread or function() end }, feeds_mt)
end

function Feeds:key(wanted)
  return ("%s every %.17g ms with %s"):format(self.keys:text(wanted.domain), wanted.sample_ms,
    self.keys:text(wanted.settings))
end

function Feeds:make(key, wanted, parts, from)
  local made = feed.new({ key = key, keys = self.keys, wanted = wanted, parts = parts,
    spread = self.spread(wanted.sample_ms, #self.order + 1), from = from,
    holder = function(id)
      return self:holder(id)
    end })
  self.by_key[key] = made
  self.order[#self.order + 1] = made
  return made
end

--- Adds a detector to the feed that it wants.
---@param user detector.Detector
---@param wanted feed.Wanted
---@param parts feed.Parts
---@return feed.Feed
function Feeds:join(user, wanted, parts)
  local key = self:key(wanted)
  local found = self.by_key[key] or self:make(key, wanted, parts)
  found:add(user)
  return found
end

-- The only watcher of a feed goes to one that others have, too: what it saw goes along.
local function hand_over(from, to)
  if from.count == 1 then
    to.history:take_over(from.history)
  end
end

--- Lets a detector have another feed. One that is new does not run yet.
---@param user detector.Detector
---@param wanted feed.Wanted
---@return feed.Feed The same one when it stays, changed or not.
function Feeds:move(user, wanted)
  local key, from = self:key(wanted), user.feed
  local to = self.by_key[key]
  if to == from then
    return from
  elseif not to and from.count == 1 then
    self.by_key[from.key], self.by_key[key], from.key = nil, from, key
    from:change(wanted)
    return from
  elseif to then
    hand_over(from, to)
  else
    to = self:make(key, wanted, from.parts, from)
  end
  to:add(user)
  return to
end

--- Takes a detector off a feed, which ends with the last.
---@param user detector.Detector
---@param left feed.Feed
---@param in_flight? boolean See `feed:stop`.
function Feeds:leave(user, left, in_flight)
  left:remove(user)
  if left.count > 0 then
    return
  end
  left:stop(in_flight)
  self.by_key[left.key] = nil
  local kept = {}
  for _, other in ipairs(self.order) do
    kept[#kept + 1] = other ~= left and other or nil
  end
  self.order = kept
end

--- Whether there is one of that domain.
---@param domain string
---@return boolean
function Feeds:has(domain)
  for _, one in ipairs(self.order) do
    if one.meta.domain == domain then
      return true
    end
  end
  return false
end

--- A watcher whose rules have this alert, or nil.
---@param alert_id string
---@return detector.Detector?
function Feeds:holder(alert_id)
  for _, one in ipairs(self.order) do
    for _, rules in ipairs(one:all_rules()) do
      local user = rules:holder(alert_id)
      if user then
        return user
      end
    end
  end
end

--- The newest snapshots of each; see runtime/detector/feed.lua.
---@return { id: string, captured_at: number, data: table }[]
function Feeds:last_snapshots()
  local list = {}
  for _, one in ipairs(self.order) do
    for _, snapshot in ipairs(one:last_snapshots()) do
      list[#list + 1] = snapshot
    end
  end
  return list
end

return M
