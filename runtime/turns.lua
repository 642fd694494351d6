--- Lets many tasks that could all go on at once do so a few in each turn of the loop, in the order
--- in which they asked, so that no turn takes long and whatever else waits gets its own.
---
---   local turns = turns.new()
---   turns:wait()

local async = require("runtime.async")
local world = require("runtime.world")

local M = {}

-- What a task does in its turn, such as putting together a request, takes some milliseconds.
local IN_A_TURN = 8
local PAUSE_MS = 1

---@class turns.Turns
local Turns = {}
local turns_mt = { __index = Turns }

--- Nobody waits.
---@return turns.Turns
function M.new()
  return setmetatable({ waiting = {}, first = 1, last = 0 }, turns_mt)
end

local run

local function run_soon(self)
  self.timer = world.timer(PAUSE_MS, function()
    self.timer:close()
    self.timer = nil
    run(self)
  end)
end

-- Lets the next ones go on.
function run(self)
  local count = 0
  while count < IN_A_TURN and self.first <= self.last do
    local waiting = self.waiting[self.first]
    self.waiting[self.first] = nil
    self.first = self.first + 1
    if waiting.done then
      count = count + 1
      waiting.done()
    end
  end
  if self.first <= self.last and not self.timer then
    run_soon(self)
  end
end

--- Waits for a turn of the loop in which the caller may go on. It is never the present one.
---@async
function Turns:wait()
  async.await(nil, function(done)
    local waiting = { done = done }
    self.last = self.last + 1
    self.waiting[self.last] = waiting
    if not self.timer then
      run_soon(self)
    end
    return function()
      waiting.done = nil
    end
  end)
end

return M
