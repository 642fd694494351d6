-- A clock that a spec moves, with a wait that ends when the clock passes it.

local async = require("runtime.async")
local clock = require("runtime.clock")

local M = {}

--- Creates a moved clock: `clock.await` is an `async.await` on its time, `clock.advance(ms)` moves
--- it step by step and wakes whose time has come, `clock.sleepers()` counts who waits for it.
---@param wall_ms? number
---@param over? table A manual clock to give all this to, instead of a new one.
function M.new(wall_ms, over)
  local self = over or clock.manual(wall_ms)
  local jump = self.advance
  local waiting = {}

  function self.await(timeout_ms, start)
    return async.await(nil, function(done)
      local entry = { done = done, at = timeout_ms and self.now_ms() + timeout_ms }
      waiting[entry] = true
      local cancel
      local function leave()
        waiting[entry] = nil
      end
      entry.fire = function()
        leave()
        if cancel then
          cancel()
        end
        done(nil, "ETIMEDOUT: moved clock", "ETIMEDOUT")
      end
      cancel = start(function(...)
        leave()
        done(...)
      end)
      return function()
        leave()
        if cancel then
          cancel()
        end
      end
    end)
  end

  --- Has `fn` called after a time, as runtime/world.lua's `timer` does.
  function self.after(ms, fn)
    local entry = { at = self.now_ms() + ms }
    local timer = {
      close = function()
        waiting[entry] = nil
      end,
    }
    function entry.fire()
      timer.close()
      fn()
    end
    waiting[entry] = true
    return timer
  end

  local function next_due(limit)
    local first
    for entry in pairs(waiting) do
      if entry.at and entry.at <= limit and (not first or entry.at < first.at) then
        first = entry
      end
    end
    return first
  end

  function self.advance(ms)
    local limit = self.now_ms() + ms
    while true do
      local entry = next_due(limit)
      if not entry then
        break
      end
      jump(math.max(0, entry.at - self.now_ms()))
      entry.fire()
    end
    jump(math.max(0, limit - self.now_ms()))
  end

  function self.sleepers()
    local count = 0
    for _ in pairs(waiting) do
      count = count + 1
    end
    return count
  end

  return self
end

return M
