--- Telemetry: named events with measurements and metadata, and handlers for them.
---
--- The meaning is that of Erlang's `telemetry`: handlers run at once in the emitting task, must not
--- wait, and one that raises is detached and reported. Events that begin with `beamlens.` are those
--- of runtime/events.lua; others are the user's own.

local events = require("runtime.events")

local M = {}

---@class telemetry.Bus
local Bus = {}
local bus_mt = { __index = Bus }

--- Creates a bus without handlers.
---@param opts? { on_handler_error?: fun(id: string, event: string, err: string) }
---@return telemetry.Bus
function M.new(opts)
  return setmetatable({
    handlers = {}, -- event -> list of {id, fn, config}
    by_id = {}, -- id -> list of events
    on_handler_error = opts and opts.on_handler_error or function() end,
  }, bus_mt)
end

--- The names of all events of beamlens, sorted.
---@return string[]
function M.event_names()
  local names = {}
  for name in pairs(events) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local function check_event(event)
  if type(event) ~= "string" then
    error(("an event name is a string, not a %s"):format(type(event)), 3)
  end
  if not events[event] and event:find("^beamlens%.") then
    error(("unknown event %q; `beamlens events` lists them"):format(event), 3)
  end
end

--- Attaches a handler to one event.
---@param id string Unique among all handlers.
---@param event string
---@param fn fun(event: string, measurements: table, metadata: table, config: any)
---@param config? any Given to each call.
---@return true? ok
---@return string? err
---@return string? code `"EEXIST"`: the id is taken.
function Bus:attach(id, event, fn, config)
  return self:attach_many(id, { event }, fn, config)
end

--- Attaches one handler to several events. As `attach`.
---@param event_names string[]
function Bus:attach_many(id, event_names, fn, config)
  if type(fn) ~= "function" then
    error("a handler is a function", 2)
  end
  for _, event in ipairs(event_names) do
    check_event(event)
  end
  if self.by_id[id] then
    return nil, ("EEXIST: a handler %q is attached already"):format(tostring(id)), "EEXIST"
  end
  self.by_id[id] = event_names
  for _, event in ipairs(event_names) do
    local list = {} -- a new one: the old one may be gone through just now
    for i, handler in ipairs(self.handlers[event] or {}) do
      list[i] = handler
    end
    list[#list + 1] = { id = id, fn = fn, config = config }
    self.handlers[event] = list
  end
  return true
end

--- Detaches a handler from all its events.
---@return true? ok
---@return string? err
---@return string? code `"ENOENT"`: there is no such handler.
function Bus:detach(id)
  local names = self.by_id[id]
  if not names then
    return nil, ("ENOENT: no handler %q is attached"):format(tostring(id)), "ENOENT"
  end
  self.by_id[id] = nil
  for _, event in ipairs(names) do
    local list = {}
    for _, handler in ipairs(self.handlers[event] or {}) do
      if handler.id ~= id then
        list[#list + 1] = handler
      end
    end
    self.handlers[event] = #list > 0 and list or nil
  end
  return true
end

--- The handlers whose event begins with `prefix`.
---@param prefix? string Default: all.
---@return { id: string, event: string, config: any }[]
function Bus:list_handlers(prefix)
  local found = {}
  for event, list in pairs(self.handlers) do
    if event:sub(1, #(prefix or "")) == (prefix or "") then
      for _, handler in ipairs(list) do
        found[#found + 1] = { id = handler.id, event = event, config = handler.config }
      end
    end
  end
  return found
end

--- Emits an event: calls its handlers in the order in which they were attached.
---@param event string
---@param measurements table<string, number>
---@param metadata table
function Bus:execute(event, measurements, metadata)
  check_event(event)
  for _, handler in ipairs(self.handlers[event] or {}) do
    local ok, err = pcall(handler.fn, event, measurements, metadata, handler.config)
    if not ok then
      self:detach(handler.id)
      self.on_handler_error(handler.id, event, tostring(err))
    end
  end
end

return M
