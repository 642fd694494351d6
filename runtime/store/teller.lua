--- Says that a store fails, and that it works again: to people, and as events.
---
--- A failure is told when it begins, and again only when it becomes another one.

local failures = require("runtime.store.failures")

local M = {}

---@class store_teller.Teller
local Teller = {}
local teller_mt = { __index = Teller }

--- A teller of a store that works; its events wait until `start`.
---@param opts { path: string, clock: clock.Clock, telemetry: telemetry.Bus,
--- warn: fun(text: string) }
---@return store_teller.Teller
function M.new(opts)
  return setmetatable({ path = opts.path, clock = opts.clock, telemetry = opts.telemetry,
    warn = opts.warn, waiting = {} }, teller_mt)
end

--- Emits an event.
---@param event string Without `beamlens.store.`.
---@param measurements table
---@param metadata table
function Teller:emit(event, measurements, metadata)
  measurements.system_time, metadata.path = self.clock.wall_ms(), self.path
  local told = { "beamlens.store." .. event, measurements, metadata }
  if self.waiting then
    self.waiting[#self.waiting + 1] = told
  else
    self.telemetry:execute(unpack(told))
  end
end

--- Emits what happened before somebody listened, and from now on at once.
function Teller:start()
  local waiting = self.waiting
  self.waiting = nil
  for _, told in ipairs(waiting) do
    self.telemetry:execute(unpack(told))
  end
end

local function begin(self, code)
  self.since_ms = self.since_ms or self.clock.now_ms()
  self.code = code
end

--- Tells of a failure.
---@param err string
---@param code? string
---@param retry_ms number When it is tried again.
function Teller:failed(err, code, retry_ms)
  if self.since_ms and self.code == code then
    return
  end
  begin(self, code)
  self.warn(("the store %s: %s; what is to outlive a restart is kept in memory alone until it "
    .. "works"):format(self.path, failures.text(err, code)))
  self:emit("failed", { retry_ms = retry_ms }, { error = err, code = code })
end

--- Tells that a broken file was moved, and a new one is begun.
---@param err string
---@param aside string
function Teller:set_aside(err, aside)
  begin(self, "EBROKEN")
  self.warn(("the store %s: %s; it is set aside as %s, and a new one is begun"):format(self.path,
    failures.plain(err), aside))
  self:emit("failed", { retry_ms = 0 }, { error = err, code = "EBROKEN", set_aside = aside })
end

--- True from a failure until `recovered`.
---@return boolean
function Teller:is_failing()
  return self.since_ms ~= nil
end

--- Tells that the store works again.
function Teller:recovered()
  local duration = self.clock.now_ms() - self.since_ms
  self.since_ms, self.code = nil, nil
  self.warn(("the store %s works; all is written"):format(self.path))
  self:emit("recovered", { duration = duration }, {})
end

return M
