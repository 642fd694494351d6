--- Hot reload: watcher files, what they require, domains, prompts, the client registry and price
--- tables are in force as soon as they are saved, and right.
---
--- What has changed is compiled, run in an environment of its own and checked; only then it takes
--- the place of what was. On a mistake the older version stays in force, and `reload.failed` says
--- so, once for each text of the file. A file whose text is the same is left alone.

local async = require("runtime.async")
local changes = require("runtime.app.changes")
local crypto = require("host.crypto")
local handlers = require("runtime.reload.handlers")
local listener = require("runtime.reload.listener")
local round = require("runtime.reload.round")
local suggest = require("runtime.suggest")
local traces = require("runtime.loader.trace")
local world = require("runtime.world")

local M = {}

-- How long a file may be empty, and what a timer may be too early.
local EMPTY_MS, LATER_MS = 1000, 100
local EMPTY = crypto.sha256("")
-- For events that are due to come in.
local HEAR_MS = 5

---@class reload.Reloader
local Reloader = {}
local reloader_mt = { __index = Reloader }

--- Watches nothing yet; the handlers of the files are attached.
---@param opts { app: app.App, loaded: parts.Loaded, sources: sources.Sources,
--- registry: registry_source.Source, telemetry: telemetry.Bus, clock: clock.Clock,
--- warn: fun(text: string), look_ms?: number }
---@return reload.Reloader
function M.new(opts)
  local self = setmetatable({ opts = opts, app = opts.app, told = {}, failing = {},
    empty_since = {},
    handlers = handlers.new(opts.telemetry) }, reloader_mt)
  self.handlers:set(opts.app:policies())
  self.warned = {}
  for _, warning in ipairs(opts.app:warnings()) do
    self.warned[warning] = true -- told at the start
  end
  opts.app.reloader = self
  return self
end

--- Begins to watch the files.
function Reloader:start()
  self.listener = world.open("files", function(on_event)
    return listener.new({ clock = self.opts.clock, look_ms = self.opts.look_ms,
      on_quiet = on_event, has_more = function()
        return select(2, self:paths()) ~= self.watched -- a function has required another file
      end })
  end, function(is_early)
    self:on_quiet(is_early)
  end)
  self:watch_files()
end

--- Ends; a round under way is abandoned.
function Reloader:stop()
  self.is_stopped = true
  if self.listener then
    self.listener:close()
  end
  for _, task in ipairs({ self.task or false, self.again or false }) do
    if task then
      task:cancel()
    end
  end
end

-- All that was read or looked for, and how many that are.
function Reloader:paths()
  local paths, seen = {}, {}
  for _, list in ipairs({ self.opts.loaded:traces(), self.opts.sources:traces(),
    self.opts.registry:traces() }) do
    for _, trace in ipairs(list) do
      for path in pairs(trace.seen) do
        paths[#paths + 1] = not seen[path] and path or nil
        seen[path] = true
      end
    end
  end
  return paths, #paths
end

function Reloader:watch_files()
  if self.listener then
    local paths
    paths, self.watched = self:paths()
    self.listener:set(paths, self.opts.sources:listings())
  end
end

-- The files have been quiet for a while, or not for too long. While a round runs, another one
-- follows it.
function Reloader:on_quiet(is_early)
  if self.is_stopped then
    return
  end
  if self.task and not self.task.done then
    self.is_due = true
    return
  end
  self.task = async.spawn(function()
    repeat
      self.is_due = false
      self:run("a file changed", { is_early = is_early })
    until not self.is_due
  end, { name = "reload", detached = true, on_error = function(text)
    self.opts.warn("reload: " .. text)
  end })
end

--- Reads the files now, and tries those again that were wrong; nodes that refused us, too.
---@async
---@param reason string
---@return table result As of `app:reload`.
function Reloader:reload(reason)
  self.told = {}
  for _, node in pairs(self.app.nodes) do
    if node.target then
      node.target:retry_now()
    end
  end
  return self:run(reason, { is_final = true })
end

-- One round at a time.
function Reloader:run(reason, how)
  while self.running do
    self.running:wait()
  end
  local running = async.signal()
  self.running = running
  local ok, result = async.pcall(self.once, self, reason, how)
  self.running = nil
  running:fire()
  if not ok then
    error(result, 0)
  end
  return result
end

-- What must be in no recording, of registries that are new.
local function hide_secrets(app)
  local seen = {}
  for _, unit in ipairs(world.is_inside() and app.units or {}) do
    if not seen[unit.registry] then
      seen[unit.registry] = true
      world.hide(unit.registry:secrets())
    end
  end
end

function Reloader:once(reason, how)
  local opts, started_ms = self.opts, self.opts.clock.now_ms()
  if self.listener then
    self.listener:mark()
  end
  opts.loaded:begin()
  local registry = opts.registry:look()
  opts.loaded:set_registry(registry.value)
  local now = round.look({ loaded = opts.loaded, sources = opts.sources,
    is_final = how.is_final })
  for _, err in ipairs(registry.errors) do
    now:fail(registry.file, err)
  end
  if not how.is_final then
    self:leave_empty(now)
  end
  for _, path in ipairs(registry.changed) do
    table.insert(now.changed, path)
  end
  self:add_mended(now)
  local report = changes.apply(self.app, now.plan)
  hide_secrets(self.app)
  now:commit()
  self.handlers:set(self.app:policies())
  self:watch_files()
  if now.failed[1] and self.listener and (how.is_early or not self:has_settled()) then
    self.listener:note() -- it may be half written: that is told when the writer is done
  else
    self:tell_failures(now.failed)
  end
  self:tell(now, report, reason, opts.clock.now_ms() - started_ms)
  if now.again_ms then
    self:look_again(now.again_ms)
  end
  return { applied = now.changed, watchers = report, failed = now.failed }
end

-- A file that has just gone is looked for once more.
function Reloader:look_again(ms)
  if self.again then
    return
  end
  self.again = async.spawn(function()
    async.sleep(ms)
    self.again = nil
    self:on_quiet()
  end, { name = "reload again", detached = true })
end

-- Calls fn(trace) for what each version that is wrong depends on, until it returns true.
function Reloader:any_tried(fn)
  for _, part in ipairs({ self.opts.loaded, self.opts.sources, self.opts.registry }) do
    for _, trace in ipairs(part:tried_traces()) do
      if fn(trace) then
        return true
      end
    end
  end
  return false
end

-- Whether what is wrong is still as it was read, and nothing is heard of a change.
function Reloader:has_settled()
  async.sleep(HEAR_MS)
  local is_due = world.value("files due", function()
    return self.listener:is_due()
  end)
  return not is_due and not self:any_tried(function(trace)
    return not trace:is_current()
  end)
end

-- A file that was empty when it was read is about to be written: that it is wrong is told when it
-- stays so.
function Reloader:leave_empty(now)
  local since, told, now_ms = {}, {}, self.opts.clock.now_ms()
  for _, failure in ipairs(now.failed) do
    local file = failure.file
    if self:any_tried(function(trace)
      return trace.seen[file] == EMPTY
    end) then
      since[file] = self.empty_since[file] or now_ms
    end
    if since[file] and now_ms - since[file] < EMPTY_MS then
      now.again_ms = now.again_ms or EMPTY_MS + LATER_MS
    else
      told[#told + 1] = failure
    end
  end
  self.empty_since, now.failed = since, told
end

-- A file that was wrong, and is what it was before that: this is worth a word, too.
function Reloader:add_mended(now)
  local failing = {}
  for _, failure in ipairs(now.failed) do
    failing[failure.file] = true
  end
  local changed = {}
  for _, path in ipairs(now.changed) do
    changed[path] = true
  end
  for _, path in ipairs(suggest.keys(self.failing)) do
    if not failing[path] and not changed[path] then
      table.insert(now.changed, path)
    end
  end
end

-- The text that a failure is about, so that the same mistake in it is told once.
local function text_of(file)
  local trace = traces.new()
  trace:read(file)
  return trace.seen[file] or ""
end

function Reloader:tell_failures(failed)
  local still, bus, clock = {}, self.opts.telemetry, self.opts.clock
  self.failing = {}
  for _, failure in ipairs(failed) do
    self.failing[failure.file] = true
    local key = ("%s\0%s"):format(failure.error, text_of(failure.file))
    if not self.told[key] and not still[key] then
      bus:execute("beamlens.reload.failed", { system_time = clock.wall_ms() },
        { file = failure.file, line = failure.line, error = failure.error })
    end
    still[key] = true
  end
  self.told = still
end

function Reloader:tell(now, report, reason, took_ms)
  if now.changed[1] or report.started[1] or report.stopped[1] or report.changed[1] then
    self.opts.telemetry:execute("beamlens.reload.applied", { duration = took_ms }, {
      files = now.changed, reason = reason, changed = report.changed, started = report.started,
      stopped = report.stopped,
    })
    self:warn()
  end
end

-- Says what has no effect, and was not said before.
function Reloader:warn()
  local known = self.warned
  self.warned = {}
  for _, warning in ipairs(self.app:warnings()) do
    self.warned[warning] = true
    if not known[warning] then
      self.opts.warn(warning)
    end
  end
end

return M
