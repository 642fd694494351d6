--- The control socket as the one way by which its commands come in: those that change something are
--- noted by a recorded session and come again in its replay, which opens no socket.

local async = require("runtime.async")
local commands = require("runtime.control.commands")
local control_server = require("runtime.control.server")
local members = require("runtime.members")
local world = require("runtime.world")

local M = {}

local CHANGES = { pause = true, resume = true, wake = true, reload = true }

---@class control_door.Door
local Door = {}
local door_mt = { __index = Door }

-- Hands a command in, and waits for what it comes to.
local function hand_in(self, request, on_event)
  return async.await(nil, function(done)
    table.insert(self.waiting, done)
    on_event(request)
  end)
end

-- Performs a command as a task of its own. A replay has nobody who waits for the answer.
local function perform(self, request)
  local done = table.remove(self.waiting, 1)
  local task
  local function tell(...)
    if task then
      self.tasks:remove(task)
    end
    if done then
      local answer, count = { ... }, select("#", ...)
      world.leave(function()
        done(unpack(answer, 1, count))
      end)
    end
  end
  task = async.spawn(function()
    local ok, result, err, code = async.pcall(self.answer, request)
    if not ok then
      self.warn("the control socket: " .. tostring(result))
      tell(nil, "the host failed to answer", "EINTERNAL")
    else
      tell(result, err, code)
    end
  end, { name = "command", detached = true })
  if not task.done then
    self.tasks:add(task)
  end
end

--- Opens the socket.
---@param opts { host: table, warn: fun(text: string) } `host` as of runtime/control/commands.lua.
---@return control_door.Door?
---@return string? err
function M.open(opts)
  local self = setmetatable({ waiting = {}, tasks = members.new(), warn = opts.warn,
    answer = commands.new(opts.host) }, door_mt)
  local err
  self.server, err = world.open("control", function(on_event)
    return control_server.open({ warn = opts.warn, answer = function(request)
      if CHANGES[request.command] then
        return hand_in(self, request, on_event)
      end
      return self.answer(request)
    end })
  end, function(request)
    perform(self, request)
  end)
  if not self.server then
    return nil, err
  end
  return self
end

--- Ends all connections and what they have asked for, and removes the socket.
function Door:close()
  self.server:close()
  for _, task in ipairs(self.tasks:list()) do
    task:cancel()
  end
end

return M
