--- Readers of the values in a watcher's table: each returns the value in the one form that the
--- runtime uses, or nil and what is wrong with it: a text, or, for a table, a list of texts.

local events = require("runtime.events")
local metered = require("runtime.metered")
local shape = require("runtime.domain.shape")
local suggest = require("runtime.suggest")
local timezone = require("runtime.timezone")
local units = require("runtime.units")

local MAX_INSTRUCTIONS = 8192
-- Of running Lua, for what a policy has the host call.
local HOOK_MS = 100

local function text(value)
  if type(value) ~= "string" or value == "" then
    return nil, ("must be text, not %s"):format(value == "" and "empty" or type(value))
  end
  return value
end

local function name(value)
  local ok, err = text(value)
  if not ok then
    return nil, err
  end
  if not value:find("^[%w_%-%.]+$") then
    return nil, ("%q is not a name: use letters, digits, _, - and ."):format(value)
  end
  return value
end

local function instructions(value)
  local ok, err = text(value)
  if ok and #value > MAX_INSTRUCTIONS then
    return nil, ("has %d bytes; at most %d are allowed"):format(#value, MAX_INSTRUCTIONS)
  end
  return ok, err
end

local function duration(min_ms)
  return function(value)
    local ms, err = units.duration_ms(value)
    if ms and ms < min_ms then
      return nil, ("must be at least %s"):format(units.format_duration(min_ms))
    end
    return ms, err
  end
end

local function size(min_bytes, max_bytes)
  return function(value)
    local bytes, err = units.size_bytes(value)
    if bytes and (bytes < min_bytes or bytes > max_bytes) then
      local is_low = bytes < min_bytes
      return nil, ("must be at %s %s"):format(is_low and "least" or "most",
        units.format_size(is_low and min_bytes or max_bytes))
    end
    return bytes, err
  end
end

local function number(min, whole)
  return function(value)
    if type(value) ~= "number" or value ~= value or value < min or (whole and value % 1 ~= 0) then
      return nil, ("must be a %snumber, at least %s"):format(whole and "whole " or "", min)
    end
    return value
  end
end

local function one_of(words)
  return function(value)
    for _, word in ipairs(words) do
      if value == word then
        return value
      end
    end
    return nil, ("must be one of %s"):format(table.concat(words, ", "))
  end
end

local function of_type(wanted)
  return function(value)
    if type(value) ~= wanted then
      return nil, ("must be a %s, not a %s"):format(wanted, type(value))
    end
    return value
  end
end

local func, any_table = of_type("function"), of_type("table")

-- The keys of a table in an order that is always the same: the list part first.
local function keys_of(value)
  local keys = {}
  for key in pairs(value) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    local is_index = type(a) == "number"
    if is_index ~= (type(b) == "number") then
      return is_index
    end
    return is_index and a < b or not is_index and tostring(a) < tostring(b)
  end)
  return keys
end

-- Adds to a list what a reader found wrong, with where that is.
local function add(mistakes, where, problem)
  for _, text_of in ipairs(type(problem) == "table" and problem or { problem }) do
    mistakes[#mistakes + 1] = where .. text_of
  end
end

-- A table of known fields, each with its own reader and default. `rename` maps to the inner name.
local function record(fields)
  return function(value)
    local ok, err = any_table(value)
    if not ok then
      return nil, err
    end
    local result, mistakes = {}, {}
    for _, key in ipairs(keys_of(value)) do
      local field = fields[key]
      if not field then
        add(mistakes, "", ("unknown field %q%s"):format(tostring(key),
          suggest.hint(tostring(key), suggest.keys(fields))))
      else
        local read, problem = field.read(value[key])
        if read == nil then
          add(mistakes, key .. " ", problem)
        end
        result[field.as or key] = read
      end
    end
    for key, field in pairs(fields) do
      if result[field.as or key] == nil then
        result[field.as or key] = field.default
      end
    end
    return not mistakes[1] and result or nil, mistakes
  end
end

local function clock_time(value)
  local h, m = tostring(value):match("^(%d%d):(%d%d)$")
  if not h or tonumber(h) > 23 or tonumber(m) > 59 then
    return nil, ("%q is not a time of day; write 02:30"):format(tostring(value))
  end
  return value
end

local function zone_name(value)
  local zone, err = timezone.load(value)
  return zone and value, err
end

local function type_names(value)
  if type(value) ~= "table" or value[1] == nil then
    return nil, 'must be a list of types, such as { "mailbox_growth" }'
  end
  for i, item in ipairs(value) do
    if type(item) ~= "string" then
      return nil, ("[%d] must be text, not a %s"):format(i, type(item))
    end
  end
  return value
end

local mute_window = record({
  from = { read = clock_time },
  to = { read = clock_time },
  tz = { read = zone_name, default = "UTC" },
  types = { read = type_names },
})

local function mute(value)
  if type(value) ~= "table" then
    return nil, "must be a list of { from = …, to = …, tz = \"UTC\", types = {…} }"
  end
  local list, mistakes = {}, {}
  for i, window in ipairs(value) do
    local read, err = mute_window(window)
    if read and not (read.from and read.to) then
      read, err = nil, "needs `from` and `to`"
    end
    if read then
      read.zone = timezone.load(read.tz)
    else
      add(mistakes, ("[%d]: "):format(i), err)
    end
    list[i] = read or false
  end
  return not mistakes[1] and list or nil, mistakes
end

local rule_change = record({
  enabled = { read = function(value)
    if type(value) ~= "boolean" then
      return nil, "must be true or false"
    end
    return value
  end },
  hold = { read = duration(0), as = "hold_ms" },
  clear_hold = { read = duration(0), as = "clear_hold_ms" },
  severity = { read = function(value)
    if value == "info" or value == "warning" or value == "critical" then
      return value
    end
    return nil, "must be info, warning or critical"
  end },
})

-- A detector of the file itself, whose `when` has as long as a hook. `written`: as the file has it.
local function own_rule(rule)
  local copy = {}
  for key, value in pairs(rule) do
    copy[key] = value
  end
  copy.written = rule
  copy.when = metered.wrap({ label = "rule " .. rule.type, limit_ms = HOOK_MS }, rule.when)
  return copy
end

-- By type: changes to a domain's rules. In the list part: further detectors.
local function rules(value)
  local ok, err = any_table(value)
  if not ok then
    return nil, err
  end
  local result, mistakes = {}, {}
  for _, key in ipairs(keys_of(value)) do
    local item = value[key]
    if type(key) == "number" then
      local problem = shape.rule_mistake(item, ("[%d]"):format(key))
      add(mistakes, "", problem)
      result[key] = not problem and own_rule(item) or nil
    else
      local change, problem = rule_change(item)
      add(mistakes, key .. ": ", not change and problem or nil)
      result[key] = change
    end
  end
  return not mistakes[1] and result or nil, mistakes
end

local function near_event(event)
  local near = suggest.nearest(event, suggest.keys(events))
  return near and ("; did you mean %q?"):format(near) or "; `beamlens events` lists them"
end

local function handlers(value)
  local ok, err = any_table(value)
  if not ok then
    return nil, err
  end
  local seen = {}
  for i, handler in ipairs(value) do
    local id, event, fn = unpack(type(handler) == "table" and handler or {})
    if type(id) ~= "string" or type(event) ~= "string" or type(fn) ~= "function" then
      return nil, ("[%d]: must be { \"id\", \"event\", function(…) end }"):format(i)
    elseif event:find("^beamlens%.") and not events[event] then
      return nil, ("[%d]: unknown event %q%s"):format(i, event, near_event(event))
    elseif seen[id] then
      return nil, ("[%d]: there is another handler %q"):format(i, id)
    end
    seen[id] = true
  end
  return value
end

local execute = record({
  wall = { read = duration(10), as = "wall_ms", default = 10000 },
  cpu = { read = duration(10), as = "cpu_ms", default = 2000 },
  memory = { read = size(1024 ^ 2, 256 * 1024 ^ 2), as = "memory_bytes",
    default = 64 * 1024 ^ 2 },
  callbacks = { read = number(0, true), default = 100 },
  result = { read = size(64, 1024 ^ 2), as = "result_bytes", default = 8192 },
  output = { read = size(0, 64 * 1024), as = "output_bytes", default = 64 * 1024 },
  arguments = { read = size(64, 256 * 1024), as = "args_bytes", default = 256 * 1024 },
  reply = { read = size(64, 4 * 1024 ^ 2), as = "reply_bytes", default = 4 * 1024 ^ 2 },
})

--- By what they read. `duration`, `number` and `record` make a reader.
return {
  any_table = any_table,
  duration = duration,
  execute = execute,
  func = func,
  handlers = handlers,
  instructions = instructions,
  mute = mute,
  name = name,
  number = number,
  one_of = one_of,
  record = record,
  rules = rules,
  text = text,
}
