--- Watcher files: reading them, checking every field, and bringing them into the one form that the
--- rest of the runtime uses (durations in ms, sizes in bytes, defaults filled in).

local events = require("runtime.events")
local loader = require("runtime.loader")
local metered = require("runtime.metered")
local policy_nodes = require("runtime.policy.nodes")
local shape = require("runtime.domain.shape")
local suggest = require("runtime.suggest")
local timezone = require("runtime.timezone")
local traces = require("runtime.loader.trace")
local units = require("runtime.units")

local M = {}

local MAX_INSTRUCTIONS = 8192
-- Of running Lua, for what a policy has the host call.
local HOOK_MS = 100

--- Readers of one value each: return the normalised value, or nil and what is wrong.

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

local function func(value)
  if type(value) ~= "function" then
    return nil, ("must be a function, not a %s"):format(type(value))
  end
  return value
end

local function any_table(value)
  if type(value) ~= "table" then
    return nil, ("must be a table, not a %s"):format(type(value))
  end
  return value
end

-- A table of known fields, each with its own reader and default. `rename` maps to the inner name.
local function record(fields)
  return function(value)
    local ok, err = any_table(value)
    if not ok then
      return nil, err
    end
    local result = {}
    for key, item in pairs(value) do
      local field = fields[key]
      if not field then
        return nil, ("unknown field %q%s"):format(tostring(key),
          suggest.hint(tostring(key), suggest.keys(fields)))
      end
      local read, problem = field.read(item)
      if read == nil then
        return nil, ("%s %s"):format(key, problem)
      end
      result[field.as or key] = read
    end
    for key, field in pairs(fields) do
      if result[field.as or key] == nil then
        result[field.as or key] = field.default
      end
    end
    return result
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
  local list = {}
  for i, window in ipairs(value) do
    local read, err = mute_window(window)
    if not read then
      return nil, ("[%d]: %s"):format(i, err)
    end
    if not read.from or not read.to then
      return nil, ("[%d]: needs `from` and `to`"):format(i)
    end
    read.zone = timezone.load(read.tz)
    list[i] = read
  end
  return list
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

-- A detector of the file itself, whose `when` has as long as a hook.
local function own_rule(rule)
  local copy = {}
  for key, value in pairs(rule) do
    copy[key] = value
  end
  copy.when = metered.wrap({ label = "rule " .. rule.type, limit_ms = HOOK_MS }, rule.when)
  return copy
end

-- By type: changes to a domain's rules. In the list part: further detectors.
local function rules(value)
  local ok, err = any_table(value)
  if not ok then
    return nil, err
  end
  local result = {}
  for key, item in pairs(value) do
    if type(key) == "number" then
      local mistake = shape.rule_mistake(item, ("[%d]"):format(key))
      if mistake then
        return nil, mistake
      end
      result[key] = own_rule(item)
    else
      local change, problem = rule_change(item)
      if not change then
        return nil, ("%s: %s"):format(key, problem)
      end
      result[key] = change
    end
  end
  return result
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

-- Every field of a watcher, its reader, its default, and its name in a policy.
local FIELDS = {
  name = { read = name },
  domain = { read = name },
  node = { read = policy_nodes.read, as = "nodes", read_label = policy_nodes.read_label },
  prompt = { read = name, default = "watcher" },
  client = { read = text },
  clients = { read = any_table },
  instructions = { read = instructions },
  sample = { read = duration(1000), as = "sample_ms", default = 10000 },
  wait = { read = record({
    min = { read = duration(1000), as = "min_ms", default = 10000 },
    max = { read = duration(1000), as = "max_ms", default = 1800000 },
  }), default = { min_ms = 10000, max_ms = 1800000 } },
  limits = { read = record({
    calls_per_cycle = { read = number(1, true), default = 15 },
    tokens_per_hour = { read = number(0) },
    usd_per_day = { read = number(0) },
  }), default = { calls_per_cycle = 15 } },
  execute = { read = execute, default = execute({}) },
  history = { read = record({
    snapshots = { read = number(1, true), default = 100 },
    alerts = { read = number(1, true), default = 100 },
  }), default = { snapshots = 100, alerts = 100 } },
  renotify = { read = duration(1000), as = "renotify_ms", default = 3600000 },
  mute = { read = mute, default = {} },
  cookie_file = { read = text },
  settings = { read = any_table },
  rules = { read = rules, default = {} },
  guard = { read = func },
  on_alert = { read = func },
  on_state = { read = func },
  redact = { read = func },
  handlers = { read = handlers, default = {} },
}

-- Reads one watcher table. Mistakes go to report(field, message). Where the domain watches no node,
-- the field `node` is only a label.
local function read_watcher(raw, has_no_node, report)
  local policy = {}
  for key, value in pairs(raw) do
    local field = FIELDS[key]
    if not field then
      report(tostring(key), ("unknown field %q%s"):format(tostring(key),
        suggest.hint(tostring(key), suggest.keys(FIELDS))))
    else
      local read, err = (has_no_node and field.read_label or field.read)(value)
      if read == nil then
        report(key, ("%s %s"):format(key, err))
      end
      policy[field.as or key] = read
    end
  end
  for key, field in pairs(FIELDS) do
    if policy[field.as or key] == nil then
      policy[field.as or key] = field.default
    end
  end
  if not raw.domain then
    report("domain", "domain is missing: name one, such as domain = \"beam\"")
  end
  if policy.wait and policy.wait.min_ms > policy.wait.max_ms then
    report("wait", "wait.min is longer than wait.max")
  end
  return policy
end

local function is_list(value)
  return value[1] ~= nil
end

-- Whether a domain watches a node; nil when it cannot be told, which was reported.
local function watches_node(domain, path, opts, report)
  if not opts.watches_node or type(domain) ~= "string" then
    return true
  end
  local it_does, err = opts.watches_node(domain, path)
  if it_does == nil then
    report("domain", err)
  end
  return it_does
end

-- A policy without a node, under its label.
local function label_policy(policy, raw)
  policy.has_no_node = true
  policy.nodes = policy.nodes or raw.node == nil and policy_nodes.read_label(raw.domain) or nil
end

-- What a file returns, as a list of watcher tables; or what is wrong with it.
local function watcher_tables(value, path)
  if type(value) ~= "table" then
    return nil, ("%s:1: the file returns a %s; it must return a watcher table, or a list of them")
      :format(path, type(value))
  end
  return is_list(value) and value or { value }
end

--- Reads a watcher file.
---@param path string
---@param opts { node?: string, env: (fun(name: string): string?),
--- watches_node?: (fun(domain: string, file: string): boolean?, string?), trace?: trace.Trace }
--- `node` overrides every watcher's; `watches_node` tells whether a domain does (see
--- runtime/app/parts.lua): one that does not needs none, and `node` is a label there. `trace` is
--- told what the file depends on.
---@return table[]? policies One per (watcher table, node): `node` is its name, `address` where it
--- is reached, and `follows` is true for the first node of a cluster, see
--- runtime/policy/nodes.lua.
---@return string[]? errors `FILE:LINE: message` each.
function M.load(path, opts)
  local trace = opts.trace or traces.new()
  local source, err = trace:read(path)
  if not source then
    return nil, { err }
  end
  return M.parse(source, path, { node = opts.node, env = opts.env,
    watches_node = opts.watches_node, trace = trace })
end

--- As `load`, from a source text. Without a `trace` the file has no folder to require from.
function M.parse(source, path, opts)
  local value, err = loader.run(source, path, {
    env = function(variable, default)
      return opts.env(variable) or default
    end,
  }, opts.trace)
  local list
  if not err then
    list, err = watcher_tables(value, path)
  end
  if not list then
    return nil, { err }
  end
  local errors, policies = {}, {}
  local base = path:match("([^/]+)%.lua$") or path
  for i, raw in ipairs(list) do
    local function report(field, message)
      local line = loader.line_of(source, field, i)
      errors[#errors + 1] = ("%s:%d: %s"):format(path, line, message)
    end
    if type(raw) ~= "table" then
      report("return", ("watcher %d is a %s, not a table"):format(i, type(raw)))
    else
      local has_node = watches_node(raw.domain, path, opts, report)
      local policy = read_watcher(raw, has_node == false, report)
      policy.name = policy.name
        or (#list > 1 and ("%s-%s"):format(base, tostring(raw.domain)) or base)
      policy.file = path
      if has_node then
        policy.nodes = policy_nodes.choose(policy, raw, opts, report)
      elseif has_node == false then
        label_policy(policy, raw)
      end
      policy_nodes.expand(policy, policies)
    end
  end
  if #errors > 0 then
    table.sort(errors)
    return nil, errors
  end
  return policies
end

--- The known fields of a watcher, sorted. For docs and suggestions.
---@return string[]
function M.field_names()
  return suggest.keys(FIELDS)
end

--- Reads the limits of a script, as a watcher's field `execute` has them.
---@param value table
---@return table? limits `wall_ms`, `cpu_ms`, `memory_bytes`, `callbacks`, `result_bytes`.
---@return string? err
M.read_execute = execute

return M
