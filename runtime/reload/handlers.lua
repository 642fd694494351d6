--- The telemetry handlers of the watcher files: attached while their file says so. Each has 100 ms
--- of running Lua and may wait; one that fails is detached and reported, as the bus does.

local async = require("runtime.async")
local metered = require("runtime.metered")

local M = {}

local LIMIT_MS = 100

---@class reload_handlers.Handlers
local Handlers = {}
local handlers_mt = { __index = Handlers }

--- None is attached.
---@param bus telemetry.Bus
---@return reload_handlers.Handlers
function M.new(bus)
  return setmetatable({ bus = bus, attached = {} }, handlers_mt)
end

-- What the policies ask for, in order. Watchers of one file share its handlers.
local function wanted_by(policies)
  local wanted, order = {}, {}
  for _, policy in ipairs(policies) do
    for _, handler in ipairs(policy.handlers) do
      local id = ("%s:%s"):format(policy.file, handler[1])
      if not wanted[id] then
        wanted[id] = { event = handler[2], fn = handler[3], config = handler[4] }
        order[#order + 1] = id
      end
    end
  end
  return wanted, order
end

-- Calls a handler as a task of its own, which may go on when the event has passed.
function Handlers:call(id, handler, event, ...)
  local outcome, is_late
  async.spawn(function(...)
    local ok, err = metered.call({ label = "handler " .. id, limit_ms = LIMIT_MS }, handler.fn, ...)
    outcome = { ok = ok, err = err }
    if is_late and not ok and self.attached[id] == handler then
      self.bus:detach(id)
      self.bus.on_handler_error(id, event, tostring(err))
    end
  end, { name = "handler " .. id, detached = true }, event, ...)
  if outcome and not outcome.ok then
    error(outcome.err, 0)
  end
  is_late = true
end

--- Attaches what these policies ask for, and nothing else. One that stays as it is is not touched.
---@param policies table[]
function Handlers:set(policies)
  local wanted, order = wanted_by(policies)
  for id, handler in pairs(self.attached) do
    local now = wanted[id]
    if not now or now.fn ~= handler.fn or now.event ~= handler.event then
      self.bus:detach(id)
      self.attached[id] = nil
    end
  end
  for _, id in ipairs(order) do
    if not self.attached[id] then
      local handler = wanted[id]
      self.attached[id] = handler
      self.bus:attach(id, handler.event, function(...)
        self:call(id, handler, ...)
      end, handler.config)
    end
  end
end

return M
