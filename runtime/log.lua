--- The event stream of `run`: every telemetry event as a line of JSON, or short lines for people.

local json = require("runtime.json")
local releases = require("runtime.releases")
local telemetry = require("runtime.telemetry")
local texts = require("runtime.log.texts")
local units = require("runtime.units")

local M = {}

local CALM_LINE_EVERY_MS = 3600000
-- Above so many nodes one calm line stands for all of them.
local NODES_WITH_FIGURES = 5

-- What says nothing of a client: nobody waited for it, or it was not asked.
local UNTOLD = { cancelled = true, budget = true }
local FAILURES, MAX_MESSAGE = 3, 300

local COLOURS = {
  critical = "\27[1;31m", warning = "\27[33m", observing = "\27[36m", info = "\27[36m",
  healthy = "\27[32m", dim = "\27[2m", off = "\27[0m",
}

--- One event as one line of JSON.
---@return string
function M.json_line(time_ms, event, measurements, metadata)
  return json.encode({
    time = units.format_time(time_ms),
    event = event,
    measurements = json.object(measurements),
    metadata = json.object(metadata),
  })
end

-- A copy for a terminal: whoever named a process wrote these texts, so control characters go. The
-- traceback after an error's first line is left to the events as JSON.
local function clean(value, depth)
  if type(value) == "string" then
    return (value:gsub("%c", " "))
  elseif type(value) ~= "table" or depth == 0 then
    return value
  end
  local copy = {}
  for key, item in pairs(value) do
    local is_error = key == "error" and type(item) == "string"
    copy[key] = clean(is_error and item:match("^[^\n]*") or item, depth - 1)
  end
  return copy
end

---@class log.Log
local Log = {}
local log_mt = { __index = Log }

--- Creates a log that prints the bus's events.
---@param opts { output: output.Output, format: "text"|"json", telemetry: telemetry.Bus,
---  clock: clock.Clock, key_metrics: fun(domain: string): string[],
---  extent: fun(): { nodes: integer, up: integer, watchers: integer } }
--- `key_metrics` names the figures that a line about a domain shows; `extent` says how much is
--- watched: with several nodes each line names its own.
---@return log.Log
function M.new(opts)
  local self = setmetatable({
    output = opts.output,
    format = opts.format,
    clock = opts.clock,
    key_metrics = opts.key_metrics,
    extent = opts.extent,
    calm_at = {}, -- "watcher node" -> when its last line was printed
    shown = {}, -- "watcher node" -> true after its first figures
    untested = {}, -- node -> the release of which it was said that it is not tested
    failing = {}, -- client -> { count, is_told } since it last answered
  }, log_mt)
  assert(opts.telemetry:attach_many("beamlens-log", telemetry.event_names(), function(...)
    self:on_event(...)
  end))
  return self
end

local function painter(self)
  if not self.output.is_terminal then
    return function(_, text)
      return text
    end
  end
  return function(colour, text)
    return (COLOURS[colour] or "") .. text .. COLOURS.off
  end
end

local function watcher_key(metadata)
  return ("%s %s"):format(metadata.watcher, metadata.node)
end

-- One calm line an hour for all of many nodes.
local function extent_line(self, extent)
  local now = self.clock.now_ms()
  if self.told_extent_at and now - self.told_extent_at < CALM_LINE_EVERY_MS then
    return nil
  end
  self.told_extent_at = now
  return ("watching %d nodes, of which %d are up, with %d watchers"):format(extent.nodes,
    extent.up, extent.watchers)
end

-- The first figures of a watcher, and one calm line an hour.
local function figures_line(self, metadata)
  local key, now = watcher_key(metadata), self.clock.now_ms()
  if self.shown[key] and now - (self.calm_at[key] or now) < CALM_LINE_EVERY_MS then
    return nil
  end
  self.shown[key], self.calm_at[key] = true, now
  local parts = {}
  for _, metric in ipairs(self.key_metrics(metadata.domain)) do
    parts[#parts + 1] = texts.metric(metric, metadata.data[metric])
  end
  return "figures " .. table.concat(parts, ", ")
end

-- What a release that is not tested may mean is worth one line, not one at each reconnect.
local function warn_untested(self, metadata)
  local node, release = metadata.node, metadata.otp_release
  if metadata.tested == false and self.untested[node] ~= release then
    self.untested[node] = release
    self:write(nil, painter(self)("warning", "note") .. " "
      .. releases.untested_line(node, release))
  end
end

-- A client that fails is told once, at its third failure or when trying again cannot help: others
-- may answer in its place, so that nothing else would say it. Once more when it answers again.
function Log:model_line(event, metadata)
  local client, paint = metadata.client, painter(self)
  local state = self.failing[client] or { count = 0 }
  if event == "beamlens.llm.stop" then
    self.failing[client] = nil
    return state.is_told and ("%s %s answers again"):format(paint("healthy", "model"), client)
      or nil
  elseif UNTOLD[metadata.kind] then
    return nil
  end
  self.failing[client] = state
  state.count = state.count + 1
  if state.is_told or metadata.retryable ~= false and state.count < FAILURES then
    return nil
  end
  state.is_told = true
  return ("%s %s fails: %s"):format(paint("warning", "model"), client,
    tostring(metadata.message):sub(1, MAX_MESSAGE))
end

function Log:on_event(event, measurements, metadata)
  local now = self.clock.wall_ms()
  if self.format == "json" then
    self.output:write_line(M.json_line(now, event, measurements, metadata))
    return
  end
  local extent = self.extent()
  local is_many = extent.nodes > NODES_WITH_FIGURES
  if event == "beamlens.sampler.sample" then
    local line = is_many and extent_line(self, extent) or not is_many
      and figures_line(self, metadata)
    self:write_about(not is_many and metadata, line, extent)
  elseif event == "beamlens.llm.stop" or event == "beamlens.llm.exception" then
    self:write_about(nil, self:model_line(event, clean(metadata, 1)), extent)
  elseif texts.of_event[event] then
    local line = texts.of_event[event](measurements, clean(metadata, 4), painter(self))
    if metadata.watcher and not is_many then
      self.calm_at[watcher_key(metadata)] = self.clock.now_ms()
    end
    self:write_about(metadata, line, extent)
  end
  if event == "beamlens.node.left" then
    self:forget_node(metadata.node)
  elseif event == "beamlens.node.up" then
    warn_untested(self, clean(metadata, 1))
  end
end

-- Writes a line about a watcher. Among several nodes it names its own.
function Log:write_about(metadata, line, extent)
  local who = metadata and metadata.watcher
  if who and extent.nodes > 1 then
    who = ("%s %s"):format(who, metadata.node)
  end
  if line then
    self:write(who, line)
  end
end

function Log:forget_node(node)
  for _, times in ipairs({ self.calm_at, self.shown }) do
    for key in pairs(times) do
      if key:sub(-#node - 1) == " " .. node then
        times[key] = nil
      end
    end
  end
end

--- Prints a line that is not an event, in the text format only.
---@param watcher? string
---@param text string
function Log:write(watcher, text)
  if self.format == "text" then
    local prefix = watcher and ("[%s] "):format(watcher) or ""
    local clock = units.format_clock(self.clock.wall_ms())
    self.output:write_line(("%s %s%s"):format(clock, prefix, text))
  end
end

return M
