--- The commands that a running host takes over its control socket. Those about a watcher take a
--- name with "*" for many.
---
---   local answer = commands.new({ app = app, clock = clock, reload = function() … end, … })
---   local result, err, code = answer({ v = 1, command = "pause", watcher = "beam" })

local async = require("runtime.async")
local json = require("runtime.json")
local report = require("runtime.control.report")
local suggest = require("runtime.suggest")

local M = {}

local MAX_NAMED = 8
-- So many watchers are told in one turn of the loop.
local AT_ONCE = 100

local function full_name(unit)
  return ("%s@%s"):format(unit.meta.watcher, unit.meta.node)
end

-- "a, b and 3 more".
local function some(names)
  table.sort(names)
  local more = #names - MAX_NAMED
  local text = table.concat(names, ", ", 1, math.min(#names, MAX_NAMED))
  return more > 0 and ("%s and %d more"):format(text, more) or text
end

local function unknown(app, name, node)
  local names, seen = {}, {}
  for _, unit in ipairs(app.units) do
    for _, known in ipairs({ unit.meta.watcher, full_name(unit) }) do
      if not seen[known] then
        seen[known] = true
        names[#names + 1] = known
      end
    end
  end
  local near = suggest.nearest(name, names)
  local hint = near and ("did you mean %q?"):format(near) or "`beamlens status` lists them"
  return ("no watcher %s%s runs; %s"):format(name, node and " on " .. node or "", hint)
end

-- The units that are meant: by their name, by name@node, or by both.
local function all_named(app, name, node)
  local pattern = "^" .. name:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*") .. "$"
  local found = {}
  for _, unit in ipairs(app.units) do
    local is_named = unit.meta.watcher:find(pattern) or full_name(unit):find(pattern)
    if is_named and (not node or unit.meta.node == node) then
      found[#found + 1] = unit
    end
  end
  if #found == 0 then
    return nil, unknown(app, name, node), "EUNKNOWN"
  end
  return found
end

-- The one unit that is meant.
local function find(app, name, node)
  local found, err, code = all_named(app, name, node)
  if not found then
    return nil, err, code
  elseif #found == 1 then
    return found[1]
  end
  local names = {}
  for i, unit in ipairs(found) do
    names[i] = full_name(unit)
  end
  return nil, ("%d watchers are named %s: say which with --node, or one of %s"):format(#found, name,
    some(names)), "EAMBIGUOUS"
end

local COMMANDS = {}

-- {} -> what the host is; without its watchers
function COMMANDS.host(host)
  return report.host(host)
end

-- {} -> everything
function COMMANDS.status(host)
  return report.status(host)
end

-- {watcher, node?, for_ms?} -> the watcher; as the next two, {watchers, left_out} for a "*"
function COMMANDS.pause(_, unit, request)
  unit.watcher:pause({ for_ms = request.for_ms })
  return report.watcher(unit)
end

-- {watcher, node?} -> the watcher
function COMMANDS.resume(_, unit)
  if not unit.watcher.paused then
    return nil, ("%s is not paused"):format(full_name(unit)), "ENOTPAUSED"
  end
  unit.watcher:resume()
  return report.watcher(unit)
end

-- {watcher, node?} -> the watcher
function COMMANDS.wake(_, unit)
  if unit.watcher.paused then
    return nil, ("%s is paused: resume it"):format(full_name(unit)), "EPAUSED"
  end
  unit.watcher:wake()
  return report.watcher(unit)
end

-- {} -> what was reloaded
function COMMANDS.reload(host)
  return host.reload("the control socket")
end

-- Does it with all that a name with "*" means, and tells with which. Those with which it makes no
-- sense are left out, unless it makes none with any.
local function do_with_all(host, command, request)
  local units, unknown_err, unknown_code = all_named(host.app, request.watcher, request.node)
  if not units then
    return nil, unknown_err, unknown_code
  end
  local names, first_err, first_code = {}, nil, nil
  for i, unit in ipairs(units) do
    local done, err, code = command(host, unit, request)
    if done then
      names[#names + 1] = full_name(unit)
    else
      first_err, first_code = first_err or err, first_code or code
    end
    if i % AT_ONCE == 0 then
      async.sleep(0)
    end
  end
  if #names == 0 then
    return nil, first_err, first_code
  end
  return { watchers = json.array(names), left_out = #units - #names }
end

local NEEDS_WATCHER = { pause = true, resume = true, wake = true }

-- What is wrong with a request's own fields, or nil.
local function mistake(request)
  if NEEDS_WATCHER[request.command] and type(request.watcher) ~= "string" then
    return "a watcher has to be named"
  elseif request.node ~= nil and type(request.node) ~= "string" then
    return "a node is named by a text"
  elseif request.for_ms ~= nil
    and not (type(request.for_ms) == "number" and request.for_ms > 0) then
    return "for_ms is a number of milliseconds above 0"
  end
end

--- Makes the function that answers requests.
---@param host { app: app.App, clock: clock.Clock, reload: async fun(reason: string): any, string?,
--- string?, args: string[], ledger?: spending.Ledger, store_path?: string,
--- guardian?: guardian.Guardian }
---@return async fun(request: table): any, string?, string?
function M.new(host)
  local self = setmetatable({ started_ms = host.clock.now_ms(),
    started_at_ms = host.clock.wall_ms() }, { __index = host })
  return function(request)
    local command = COMMANDS[request.command]
    if not command then
      return nil, ("unknown command %q"):format(request.command:sub(1, 40)), "ECOMMAND"
    end
    local wrong = mistake(request)
    if wrong then
      return nil, wrong, "EREQUEST"
    elseif not NEEDS_WATCHER[request.command] then
      return command(self)
    elseif request.watcher:find("*", 1, true) then
      return do_with_all(self, command, request)
    end
    local unit, err, code = find(self.app, request.watcher, request.node)
    if not unit then
      return nil, err, code
    end
    return command(self, unit, request)
  end
end

return M
