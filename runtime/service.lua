--- The host as a service: tells the service manager when the watchers run, what they see, and that
--- all is well, as long as it is. See runtime/notify.lua.

local async = require("runtime.async")

local M = {}

local HANDLER = "beamlens-service"
-- How often the line for people is looked at; it is sent when it is another.
local STATUS_MS = 5000

---@class service.Service
local Service = {}
local service_mt = { __index = Service }

local function plural(count, word)
  return ("%d %s%s"):format(count, word, count == 1 and "" or "s")
end

local function status_line(self)
  local extent = self.app:extent()
  local firing = #self.alerts:firing()
  local nodes = extent.nodes > 0 and (" on %s, %d up"):format(plural(extent.nodes, "node"),
    extent.up) or ""
  return ("%s%s%s"):format(plural(extent.watchers, "watcher"), nodes,
    firing > 0 and ", " .. plural(firing, "alert") .. " firing" or "")
end

-- The line, unless it was sent already.
local function new_status(self)
  local line = "STATUS=" .. status_line(self)
  if line == self.line then
    return nil
  end
  self.line = line
  return line
end

-- A sign of life at half of the time after which the manager would miss one. It is a task on the
-- loop: where the loop stands still there is none, and none either while a watcher is stuck.
local function beat(self)
  while true do
    if self.is_well() then
      self.notifier:send({ "WATCHDOG=1" })
    end
    async.sleep(self.notifier.watchdog_ms / 2)
  end
end

local function tell_status(self)
  while true do
    async.sleep(STATUS_MS)
    local line = new_status(self)
    if line then
      self.notifier:send({ line })
    end
  end
end

local function ready(self)
  self.telemetry:detach(HANDLER)
  self.notifier:insist({ "READY=1", new_status(self) })
  self.tasks[#self.tasks + 1] = async.spawn(tell_status, { name = "status", detached = true }, self)
end

-- Ready is who has started each watcher that the files name.
local function await_watchers(self)
  local left = #self.app.units
  assert(self.telemetry:attach(HANDLER, "beamlens.watcher.started", function()
    left = left - 1
    if left == 0 then
      ready(self)
    end
  end))
  if left == 0 then
    ready(self)
  end
end

--- Begins; to be called before the app starts.
---@param opts { notifier: notify.Notifier, app: app.App, alerts: alerts.Alerts,
--- telemetry: telemetry.Bus, is_well: fun(): boolean }
---@return service.Service
function M.start(opts)
  local self = setmetatable({ notifier = opts.notifier, app = opts.app, alerts = opts.alerts,
    telemetry = opts.telemetry, is_well = opts.is_well, tasks = {} }, service_mt)
  if self.notifier.path then
    await_watchers(self)
    if self.notifier.watchdog_ms then
      self.tasks[#self.tasks + 1] = async.spawn(beat, { name = "watchdog", detached = true }, self)
    end
  end
  return self
end

--- Runs a reload between its two messages.
---@async
---@param fn async fun(): any, string?, string?
---@return any result What `fn` returned.
---@return string? err
---@return string? code
function Service:reload(fn)
  self.notifier:reloading()
  local result, err, code = fn()
  self.notifier:insist({ "READY=1" })
  return result, err, code
end

--- Says that the host ends. Its signs of life go on until it has: an end that hangs is cut.
function Service:stopping()
  self.telemetry:detach(HANDLER)
  self.notifier:insist({ "STOPPING=1", "STATUS=stopping" })
end

--- Ends all tasks.
function Service:close()
  for _, task in ipairs(self.tasks) do
    task:cancel()
  end
  self.notifier:close()
end

return M
