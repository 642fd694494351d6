--- Messages to the service manager, as systemd defines them (sd_notify): what state the service is
--- in, a line about it, and that it is alive. Without NOTIFY_SOCKET all of it does nothing.
---
---   local n = notify.new({ warn = warn })
---   n:send({ "READY=1", "STATUS=watching" })

local async = require("runtime.async")
local process = require("host.process")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

local AGAIN_MS = 50

---@class notify.Notifier
---@field path? string The manager's socket.
---@field watchdog_ms? number Without a sign of life for so long, the manager kills the service.
local Notifier = {}
local notifier_mt = { __index = Notifier }

local function watchdog_ms(env)
  local usec, pid = tonumber(env("WATCHDOG_USEC")), env("WATCHDOG_PID")
  if not usec or usec <= 0 or (pid and pid ~= "" and tonumber(pid) ~= uv.os_getpid()) then
    return nil
  end
  return usec / 1000
end

--- Reads the environment, and takes these variables out of it: they are not for our children.
---@param opts { warn: fun(text: string), env?: fun(name: string): string? }
---@return notify.Notifier
function M.new(opts)
  local env = opts.env or world.env
  local path = env("NOTIFY_SOCKET")
  local self = setmetatable({ warn = opts.warn, path = path ~= "" and path or nil,
    queue = {} }, notifier_mt)
  self.watchdog_ms = self.path and world.value("watchdog", function()
    return watchdog_ms(env)
  end)
  for _, name in ipairs({ "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" }) do
    uv.os_unsetenv(name)
  end
  return self
end

--- Sends one message. A manager that cannot be told is no reason to end; it is said once.
---@param lines string[] Such as `READY=1`.
---@return boolean sent
---@return boolean? is_busy The manager has too much to read just now.
function Notifier:send(lines)
  if not self.path then
    return false
  end
  local text = {}
  for i, line in ipairs(lines) do
    text[i] = line:gsub("%c", " ")
  end
  local ok, err, code = world.value("notify", function()
    return process.notify(self.path, table.concat(text, "\n"))
  end)
  if not ok and code ~= "EAGAIN" and not self.has_failed then
    self.has_failed = true
    self.warn(("the service manager cannot be told: %s"):format(err))
  end
  return ok ~= nil, code == "EAGAIN"
end

-- Sends what waits, in its order. False while the manager is busy.
local function send_queue(self)
  while self.queue[1] do
    local _, is_busy = self:send(self.queue[1])
    if is_busy then
      return false
    end
    table.remove(self.queue, 1)
  end
  return true
end

--- Sends one message that must arrive, in its turn: again and again while the manager is busy.
---@param lines string[]
function Notifier:insist(lines)
  table.insert(self.queue, lines)
  if not self.task and not send_queue(self) then
    self.task = async.spawn(function()
      repeat
        async.sleep(AGAIN_MS)
      until send_queue(self)
      self.task = nil
    end, { name = "notify", detached = true })
  end
end

--- Gives up what could not be sent yet.
function Notifier:close()
  if self.task then
    self.task:cancel()
  end
end

--- A reload begins; the manager waits for `READY=1`.
function Notifier:reloading()
  self:insist({ "RELOADING=1", ("MONOTONIC_USEC=%.0f"):format(async.now_ms() * 1000) })
end

return M
