-- A real node under time that jumps: what stands between the host and it. The clock stands while
-- the node is asked, connected or started, so that what it answers takes no time.
--
--   local node = attached.start("life1")           -- before support/jumping.lua's time begins
--   living.start({ on = node, … })
--   node:restart()                                 -- its process is killed, and started again

local async = require("runtime.async")
local dist = require("host.dist")
local link = require("runtime.target.link")
local node = require("support.node")
local support = require("support")
local sweep = require("runtime.sweep")
local target = require("runtime.target")
local tree = require("support.tree")

local M = {}

local DOWN_MS = 20000
-- Between the two readings of a rate, which is time of the node.
local GAP_MS = 2

local Attached = {}
local attached_mt = { __index = Attached }

--- Starts one; it ends with the case.
---@async
---@param name string
function M.start(name)
  local real = node.start({ name = name })
  return setmetatable({ real = real, name = real.name, incarnations = 1,
    folder = tree.make({ ["watchers/spec.lua"] = "" }) }, attached_mt)
end

--- From now on whoever waits for the node stops this clock.
---@param time table Of support/jumping.lua.
function Attached:live_by(time)
  self.time = time
  local open = link.open
  link.open = function(...) -- luacheck: ignore 122
    local opened, err, code = time:outside(open, ...)
    if opened then
      local call = opened.call
      opened.call = function(...)
        return time:outside(call, ...)
      end
    end
    return opened, err, code
  end
  support.on_cleanup(function()
    link.open = open -- luacheck: ignore 122
  end)
end

--- As runtime/target.lua's, with this run's cookie and epmd.
function Attached:new_target(opts)
  opts.epmd_port = self.real.epmd_port
  opts.cookie = function()
    return self.real.cookie
  end
  self.target = target.new(opts)
  return self.target
end

function Attached.new_sweep(_, opts)
  opts.gap_ms = GAP_MS
  return sweep.new(opts)
end

local function await_status(self, status)
  self.time:really_until(function()
    return self.target:status().status == status
  end)
end

-- epmd sees the end of a node somewhat later than we do, and until then gives its name to nobody.
local function is_registered(self)
  local list = assert(async.await(nil, function(done)
    local request = dist.epmd_names("127.0.0.1", self.real.epmd_port, done)
    return function()
      request:cancel()
    end
  end))
  for _, entry in ipairs(list) do
    if entry.name == self.name:match("^[^@]+") then
      return true
    end
  end
end

local function await_free_name(self)
  while self.time:outside(is_registered, self) do
    local looks = 0
    self.time:really_until(function()
      looks = looks + 1
      return looks > 10
    end)
  end
end

--- The node's process is killed, and another one comes up in its place.
---@async
function Attached:restart()
  self.time:outside(self.real.stop, self.real)
  await_status(self, "down")
  async.sleep(DOWN_MS)
  await_free_name(self)
  self.time:outside(self.real.start_again, self.real)
  self.incarnations = self.incarnations + 1
  support.wait_until(function()
    return self.target:status().status == "up"
  end, 600000, "the node to be up again")
end

return M
