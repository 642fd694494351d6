--- Coalesces: many notes become one call, a short while after the last of them, and never long
--- after the first.

local uv = require("luv")

local M = {}

-- Nothing new for so long, and the writer is done.
local QUIET_MS = 150
local MAX_MS = 1500

---@class quiet.Quiet
local Quiet = {}
local quiet_mt = { __index = Quiet }

--- Creates it; nothing is due.
---@param opts { clock: clock.Clock, on_quiet: fun(is_early: boolean), quiet_ms?: number,
--- max_ms?: number } `on_quiet` is called 150 ms after the last note, at most 1.5 s after the first
--- (`is_early`: the notes have not ended).
---@return quiet.Quiet
function M.new(opts)
  return setmetatable({
    clock = opts.clock, on_quiet = opts.on_quiet,
    quiet_ms = opts.quiet_ms or QUIET_MS, max_ms = opts.max_ms or MAX_MS,
    timer = uv.new_timer(),
  }, quiet_mt)
end

--- Says that something has changed.
function Quiet:note()
  if self.timer:is_closing() then
    return
  end
  local now_ms = self.clock.now_ms()
  self.first_ms = self.first_ms or now_ms
  local left_ms = self.first_ms + self.max_ms - now_ms
  local is_early = left_ms < self.quiet_ms
  self.timer:start(math.max(0, math.floor(math.min(self.quiet_ms, left_ms))), 0, function()
    -- Timers come before events: notes that are due already are to be heard first.
    self.timer:start(1, 0, function()
      self.first_ms = nil
      self.on_quiet(is_early)
    end)
  end)
end

--- Whether something was noted since the last call.
---@return boolean
function Quiet:is_due()
  return self.first_ms ~= nil
end

--- Ends; what is due is dropped.
function Quiet:close()
  if not self.timer:is_closing() then
    self.timer:close()
  end
end

return M
