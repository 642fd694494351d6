--- Clusters that are followed: who belongs to them, who is new, who has left.
---
--- Every member that is up is asked for its visible peers, once for the whole host, and a peer of a
--- member is a member. One that is out of reach stays a member: that is for reachability to tell.
--- It has left when for 10 min no member knew it and its epmd did not list it, while at least one
--- member answered. A node that the files name is never said to have left.
---
---   local c = cluster.new({ clock = clock, telemetry = bus, on_member = …, on_left = … })
---   c:add("shop@db1", target, true); c:follow("shop@db1")
---   c:start()

local async = require("runtime.async")
local dist = require("host.dist")
local node_name = require("runtime.node_name")
local world = require("runtime.world")

local M = {}

local ASK_MS = 10000
local LEAVE_MS = 10 * 60 * 1000
local MAX_MEMBERS = 500
local ASK_TIMEOUT_MS = 5000
local EPMD_TIMEOUT_MS = 6000
local MAX_BETWEEN_MS = 100 -- between the questions of one round
local FRESH_ROUNDS = 3 -- an answer counts for so many rounds, and a pause of ours for no more
local MAX_TOLD = 20
local MAX_SHOWN_BYTES = 64

---@class cluster.Member
---@field name string
---@field target target.Target
---@field is_listed boolean The files name it: it cannot leave.
---@field seeds table<string, true> The followed nodes that it was found through; empty: no member.
---@field peers table<string, true> As it said last.
---@field answered_ms? number When it said so.
---@field absent_ms number For how long nobody has known it.

---@class cluster.Cluster
---@field members table<string, cluster.Member>
local Cluster = {}
local cluster_mt = { __index = Cluster }

--- Creates the membership of all clusters of a host; nobody is in it.
---@param opts { clock: clock.Clock, telemetry: telemetry.Bus,
--- on_member: (fun(name: string, seed: string): target.Target), on_left: fun(name: string),
--- epmd_port?: integer, ask_ms?: number, leave_ms?: number, limit?: integer }
--- `on_member` is called once for each member and seed that it was found through, and returns the
--- node's target. `ask_ms` is the time between rounds (default 10 s), `leave_ms` how long a member
--- must be unknown (default 10 min), `limit` how many members there may be (default 500).
---@return cluster.Cluster
function M.new(opts)
  return setmetatable({
    clock = opts.clock,
    telemetry = opts.telemetry,
    on_member = opts.on_member,
    on_left = opts.on_left,
    epmd_port = opts.epmd_port,
    ask_ms = opts.ask_ms or ASK_MS,
    leave_ms = opts.leave_ms or LEAVE_MS,
    limit = opts.limit or MAX_MEMBERS,
    members = {},
    count = 0, -- of those with a seed
    told = {}, -- names that were refused -> true
    told_count = 0,
  }, cluster_mt)
end

--- Makes a node known, so that it can become a member under the target that it has.
---@param name string
---@param target target.Target
---@param is_listed boolean Whether the files name it.
---@return cluster.Member
function Cluster:add(name, target, is_listed)
  local member = { name = name, target = target, is_listed = is_listed, seeds = {}, peers = {},
    absent_ms = 0 }
  self.members[name] = member
  member.unsubscribe = target:subscribe(function(kind)
    if kind == "up" and self.task and next(member.seeds) then
      self:ask(member)
    end
  end)
  return member
end

--- Makes a node that was added the first of a cluster.
---@param name string
function Cluster:follow(name)
  self:join(self.members[name], name)
end

--- The members that were found through a followed node, itself included, sorted.
---@param seed string
---@return string[]
function Cluster:members_of(seed)
  local names = {}
  for name, member in pairs(self.members) do
    if member.seeds[seed] then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

--- Takes other files' word for what is listed and followed: who was found through a node that is
--- followed no more is no member any more.
---@param listed table<string, true>
---@param followed table<string, true>
function Cluster:keep(listed, followed)
  for name, member in pairs(self.members) do
    member.is_listed = listed[name] or false
    local was_member = next(member.seeds)
    for seed in pairs(member.seeds) do
      if not followed[seed] then
        member.seeds[seed] = nil
      end
    end
    if was_member and not next(member.seeds) then
      self.count = self.count - 1
    end
  end
end

--- Drops a node that is not watched any more.
---@param name string
function Cluster:remove(name)
  local member = self.members[name]
  if member then
    self.count = self.count + (next(member.seeds) and 0 or 1) -- `forget` takes a member away
    self:forget(member)
  end
end

-- A member was found through a seed for the first time.
function Cluster:join(member, seed)
  if member.seeds[seed] then
    return
  end
  if not next(member.seeds) then
    self.count = self.count + 1
  end
  member.seeds[seed] = true
end

-- Tells of a peer that is not watched; each once, and not of more than can be meant.
function Cluster:refuse(via, name, err)
  local shown = tostring(name):gsub("[^\32-\126]", "?"):sub(1, MAX_SHOWN_BYTES)
  if self.told[shown] or self.told_count >= MAX_TOLD then
    return
  end
  self.told[shown], self.told_count = true, self.told_count + 1
  self.telemetry:execute("beamlens.node.ignored", { system_time = self.clock.wall_ms() },
    { node = shown, via = via.name, error = err })
end

-- A member knows a node of this name.
function Cluster:see(name, via)
  local member = self.members[name]
  if (not member or not next(member.seeds)) and self.count >= self.limit then
    self:refuse(via, name, ("ELIMIT: %d members are watched already, which is the most")
      :format(self.count))
    return
  end
  for seed in pairs(via.seeds) do
    if not member then
      local target = self.on_member(name, seed)
      member = self.members[name] or self:add(name, target, false)
      self:join(member, seed)
    elseif not member.seeds[seed] then
      self.on_member(name, seed)
      self:join(member, seed)
    end
  end
end

-- Takes a member's answer: names are text from the node.
function Cluster:learn(member, names)
  local peers, count = {}, 0
  for _, name in ipairs(names) do
    if count >= self.limit then
      break
    elseif node_name.is_peer(name) then
      peers[name], count = true, count + 1
    else
      self:refuse(member, name, "ENAME: not a name to connect to")
    end
  end
  member.peers, member.answered_ms = peers, self.clock.now_ms()
  for name in pairs(peers) do
    self:see(name, member)
  end
end

-- Asks a member for its peers, unless that is under way.
function Cluster:ask(member)
  if member.asking then
    return
  end
  member.asking = true
  async.spawn(function()
    local names = member.target:call("erlang", "nodes", { dist.atom("visible") },
      { timeout_ms = ASK_TIMEOUT_MS })
    member.asking = nil
    if type(names) == "table" and self.members[member.name] == member and not self.is_over then
      self:learn(member, names)
    end
  end, { name = "peers of " .. member.name, detached = true, on_error = function(text)
    member.asking = nil
    self:refuse(member, member.name, "EINTERNAL: " .. text:match("^[^\n]*"))
  end })
end

local function is_up(member)
  local status = member.target:status().status
  return status == "up" or status == "unresponsive"
end

--- Asks every member that is up, one after the other.
---@async
function Cluster:ask_all()
  local list = {}
  for _, member in pairs(self.members) do
    if next(member.seeds) and is_up(member) then
      list[#list + 1] = member
    end
  end
  local pause_ms = math.min(MAX_BETWEEN_MS, self.ask_ms / 2 / math.max(1, #list))
  for _, member in ipairs(list) do
    self:ask(member)
    async.sleep(pause_ms)
  end
end

-- Whether other members know one: true, false, or nil when none of its cluster has answered.
function Cluster:is_known(member)
  local answered
  local oldest_ms = self.clock.now_ms() - FRESH_ROUNDS * self.ask_ms
  for _, other in pairs(self.members) do
    if other ~= member and next(other.seeds) and (other.answered_ms or -math.huge) >= oldest_ms then
      if other.peers[member.name] then
        return true
      end
      for seed in pairs(other.seeds) do
        answered = answered or member.seeds[seed]
      end
    end
  end
  if answered then
    return false
  end
  return nil
end

-- Whether the epmd of a member's host lists it. One that does not answer lists nobody.
function Cluster:is_registered(member)
  local alive, host = member.name:match("^([^@]+)@(.+)$")
  local nodes = async.await(EPMD_TIMEOUT_MS, function(done)
    local question = world.open("epmd", function(on_event)
      return dist.epmd_names(host, self.epmd_port, on_event)
    end, done, host)
    return function()
      question:cancel()
    end
  end)
  for _, node in ipairs(nodes or {}) do
    if node.name == alive then
      return true
    end
  end
  return false
end

-- Counts for how long a member has been absent; it leaves when that is long enough.
function Cluster:check_member(member, step_ms)
  local is_known = is_up(member) or self:is_known(member)
  if is_known == false then
    is_known = self:is_registered(member) or is_up(member)
  end
  if is_known then
    member.absent_ms = 0
  elseif is_known == false then
    member.absent_ms = member.absent_ms + step_ms
  end
  if member.absent_ms >= self.leave_ms and self.members[member.name] == member then
    self:forget(member)
    self.on_left(member.name)
  end
end

function Cluster:forget(member)
  member.unsubscribe()
  self.members[member.name] = nil
  self.count = self.count - 1
  for _, other in pairs(self.members) do
    other.peers[member.name] = nil
  end
end

--- Looks who has left. Called after each round; specs that move the clock call it themselves.
---@async
function Cluster:check()
  local now_ms = self.clock.now_ms()
  local step_ms = math.min(now_ms - (self.checked_ms or now_ms), FRESH_ROUNDS * self.ask_ms)
  self.checked_ms = now_ms
  local checks = {}
  for _, member in pairs(self.members) do
    if next(member.seeds) and not member.is_listed then
      checks[#checks + 1] = async.spawn(self.check_member, { name = "member " .. member.name },
        self, member, step_ms)
    end
  end
  for _, check in ipairs(checks) do
    check:join()
  end
end

--- Begins to ask and to look.
function Cluster:start()
  if self.task or self.count == 0 then
    return
  end
  self.task = async.spawn(function()
    while true do
      async.sleep(self.ask_ms)
      self:ask_all()
      self:check()
    end
  end, { name = "cluster", detached = true })
end

--- Ends; nobody is told of as left.
function Cluster:stop()
  self.is_over = true
  if self.task then
    self.task:cancel()
    self.task = nil
  end
  for _, member in pairs(self.members) do
    member.unsubscribe()
  end
end

return M
