--- The running host: all that `beamlens run` builds out of its command line, from the files of its
--- watchers to the end of the last of them.
---
---   local host, errors = host.new(opts, warn)
---   local status = host:run(session)

local async = require("runtime.async")
local build = require("runtime.host.build")
local clock = require("runtime.clock")
local core = require("host.core")
local log = require("runtime.log")
local output = require("runtime.output")
local payloads = require("runtime.app.payloads")
local reload = require("runtime.reload")
local signals = require("runtime.signals")
local store = require("runtime.store")
local store_keeper = require("runtime.store.keeper")
local units = require("runtime.units")
local upkeep = require("runtime.upkeep")
local world = require("runtime.world")

local M = {}

-- With the writing of what is left, the end takes 2 s at most.
local STOP_WITHIN_MS = 1000
local FLUSH_MS = 700
local OUTPUT_MS = 500
-- How long --show-payload waits for a node.
local SHOW_WITHIN_MS = 30000

---@class host.Host
---@field clock clock.Clock
---@field telemetry telemetry.Bus
---@field app app.App
---@field alerts alerts.Alerts
---@field ledger spending.Ledger
---@field registry table The models of watchers that name none of their own.
---@field keeper? store_keeper.Keeper Of the store, where there is one.
---@field output output.Output
---@field upkeep? upkeep.Upkeep Not where payloads are only shown.
local Host = {}
local host_mt = { __index = Host }

--- Builds the host; nothing runs and nothing connects yet.
---@param opts table The options of `beamlens run`, and its arguments.
---@param warn fun(text: string) Tells people.
---@return host.Host?
---@return string[]? errors A line each.
function M.new(opts, warn)
  local self = setmetatable({ opts = opts, warn = warn, clock = clock.system(),
    stopping = async.signal() }, host_mt)
  local ok, errors = build.all(self)
  if not ok then
    return nil, errors
  end
  return self
end

-- Becomes the owner of the store and takes over what it holds. False when another process is the
-- owner; whatever else is wrong with the store, the host watches on from memory.
local function open_store(self)
  local path, place_err = store.path(self.opts.store, world.env)
  if not path then
    if place_err then
      self.warn(place_err .. "; nothing outlives a restart")
    end
    return true
  end
  self.keeper = store_keeper.new({ path = path, parts = { self.spending, self.state },
    clock = self.clock, telemetry = self.telemetry, warn = self.warn })
  local opened, _, _, pid = self.keeper:open()
  if not opened then
    self.warn(("the store %s belongs to a running beamlens%s: stop that one, or give this one a "
      .. "store of its own with --store FILE (or none)"):format(path,
        pid ~= 0 and ", pid " .. pid or ""))
  end
  return opened
end

local function close_store(self)
  self.state:close()
  if self.keeper then
    self.keeper:flush(FLUSH_MS)
    self.keeper:close()
  end
end

-- Opens stdout. That it was closed belongs to a recording; a replay has a stdout of its own, and
-- nobody to tell.
local function open_output(self, session)
  world.open("stdout", function(on_event)
    self.output = output.new(1, on_event)
    return self.output
  end, function()
    self:stop("stdout closed")
  end)
  self.output = self.output or output.new(1, function() end)
  if session then
    session:set_output(self.output)
    -- What must be in no recording.
    for _, unit in ipairs(self.app.units) do
      session:hide(unit.registry:secrets())
    end
  end
end

-- Prints the events, from the introduction on.
local function start_log(self)
  self.log = log.new({ output = self.output, telemetry = self.telemetry, clock = self.clock,
    format = self.opts.log or (self.output.is_terminal and "text" or "json"),
    key_metrics = function(name)
      return self.app:key_metrics(name)
    end,
    extent = function()
      return self.app:extent()
    end })
  for _, line in ipairs(self.app:introduction()) do
    self.log:write(nil, line)
  end
end

local function say_warnings(self)
  if self.registry.notice then
    self.warn(self.registry.notice)
  end
  for _, warning in ipairs(self.app:warnings()) do
    self.warn(warning)
  end
end

--- Reads the files again: the one way to a reload, whoever wants it.
---@async
---@param reason string
---@return table? result As of `app:reload`.
---@return string? err
function Host:reload(reason)
  return self.app:reload(reason)
end

--- Ends the host. The first reason counts.
---@param reason string
---@param status? integer Of the process. Default: 0.
function Host:stop(reason, status)
  if not self.reason then
    self.reason, self.status = reason, status or 0
    self.stopping:fire()
  end
end

local function start(self)
  if self.opts["show-payload"] then
    payloads.start(self, self.warn)
  else
    reload.new({ app = self.app, loaded = self.loaded, sources = self.sources,
      registry = self.registries, telemetry = self.telemetry, clock = self.clock,
      warn = self.warn }):start()
    self.upkeep = upkeep.start(self, self.opts, self.warn)
  end
  self.app:start({
    on_refused = function(err)
      self.warn(err)
      self:stop("refused", 1)
    end,
    iterations = self.opts.iterations,
    on_finished = function()
      self:stop("iterations")
    end,
  })
  self.state:settle(self.app)
end

-- Waits for the end, whoever wants it.
local function await_end(self)
  local only_shows = self.opts["show-payload"]
  if not self.reason then
    self.stopping:wait(self.opts["for"] or (only_shows and SHOW_WITHIN_MS))
  end
  self.reason = self.reason or "time is over"
  if only_shows and not self.shown then
    self.warn("there was nothing to show: no watcher came to its first decision")
    self.status = 1
  end
end

-- Ends all in order, the watchers first.
local function close(self, session)
  if self.upkeep then
    self.upkeep:stopping()
  end
  local stopping = async.spawn(function()
    if self.app.reloader then
      self.app.reloader:stop()
    end
    self.app:stop(self.reason)
  end, { on_error = self.warn })
  stopping:join(STOP_WITHIN_MS)
  if self.upkeep then
    self.upkeep:close()
  end
  close_store(self)
  self.release_signals()
  if session then
    session:finish(self.reason)
  end
  self.output:close(OUTPUT_MS)
  if self.output.dropped > 0 then
    self.warn(("%s events were dropped: stdout's reader was too slow"):format(
      units.format_count(self.output.dropped)))
  end
end

--- Runs the host to its end.
---@async
---@param session? session.Session That is recorded or replayed.
---@return integer status
function Host:run(session)
  local only_shows = self.opts["show-payload"]
  if not only_shows and not open_store(self) then
    self.sandbox:close()
    return 2
  end
  open_output(self, session)
  core.set_error_hook(self.warn)
  if not only_shows then
    start_log(self)
  end
  if self.keeper then
    self.keeper:start()
  end
  self.release_signals = signals.handle({
    stop = function(name)
      self:stop(name)
    end,
    reload = function(name)
      if self.upkeep then
        self.upkeep:reload_soon(name)
      end
    end,
  })
  say_warnings(self)
  start(self)
  await_end(self)
  close(self, session)
  return self.status or 0
end

return M
