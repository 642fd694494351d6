--- The client registry of a host with its price table: opened, and in a later round opened anew
--- when one of their files has changed.

local common = require("runtime.commands.common")
local traces = require("runtime.loader.trace")

local M = {}

---@class registry_source.Source
local Source = {}
local source_mt = { __index = Source }

--- Nothing is opened yet.
---@param opts { file?: string, watcher_file?: string, telemetry: telemetry.Bus,
--- clock: clock.Clock, ledger?: spending.Ledger } As of `common.open_registry`.
---@return registry_source.Source
function M.new(opts)
  return setmetatable({ opts = opts }, source_mt)
end

local function open(self)
  local given, trace = {}, traces.new()
  for key, value in pairs(self.opts) do
    given[key] = value
  end
  given.trace = trace
  local registry, err = common.open_registry(given)
  return registry, err, trace
end

--- The registry as its files are now; when they are wrong, as it was.
---@return { value?: table, errors: string[], file: string, changed: string[] } look `value` is nil
--- when the first one is wrong.
function Source:look()
  if self.trace and self.trace:is_current() then
    self.tried = nil
    return { value = self.value, errors = {}, changed = {} }
  end
  local registry, err, trace = open(self)
  if not registry then
    self.tried = trace
    local errors = {}
    for line in err:gmatch("[^\n]+") do
      errors[#errors + 1] = line
    end
    return { value = self.value, errors = errors, changed = {},
      file = self.opts.file or "clients.lua" }
  end
  local changed = trace:differences(self.trace)
  self.value, self.trace, self.tried = registry, trace, nil
  return { value = registry, errors = {}, changed = changed }
end

--- What a version that is wrong depends on.
---@return trace.Trace[]
function Source:tried_traces()
  return { self.tried }
end

--- What the registry depends on.
---@return trace.Trace[]
function Source:traces()
  return { self.trace, self.tried }
end

return M
