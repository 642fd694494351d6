--- Watcher files: reading them, checking every field, and bringing them into the one form that the
--- rest of the runtime uses (durations in ms, sizes in bytes, defaults filled in).

local lines = require("runtime.policy.lines")
local loader = require("runtime.loader")
local policy_nodes = require("runtime.policy.nodes")
local readers = require("runtime.policy.readers")
local suggest = require("runtime.suggest")
local traces = require("runtime.loader.trace")

local M = {}

local any_table, duration, execute = readers.any_table, readers.duration, readers.execute
local func, handlers, instructions = readers.func, readers.handlers, readers.instructions
local mute, name, number, one_of = readers.mute, readers.name, readers.number, readers.one_of
local record, rules, text = readers.record, readers.rules, readers.text

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
  uncorroborated = { read = one_of({ "next_cycle", "at_once", "never" }), default = "next_cycle" },
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
      for _, mistake in ipairs(read == nil and (type(err) == "table" and err or { err }) or {}) do
        report(key, ("%s %s"):format(key, mistake))
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

-- Mistakes by their lines, as text.
local function in_order(errors, path)
  table.sort(errors, function(a, b)
    if a.line ~= b.line then
      return a.line < b.line
    end
    return a.text < b.text
  end)
  local list = {}
  for i, err in ipairs(errors) do
    list[i] = ("%s:%d: %s"):format(path, err.line, err.text)
  end
  return list
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
--- runtime/policy/nodes.lua. `line_of(field, message?)` tells where a field of it is written.
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
  local base, line_in_source = path:match("([^/]+)%.lua$") or path, lines.of(source)
  for i, raw in ipairs(list) do
    local function line_of(field, message)
      return line_in_source(field, message or field, i, is_list(value))
    end
    local function report(field, message)
      errors[#errors + 1] = { line = line_of(field, message), text = message }
    end
    if type(raw) ~= "table" then
      report("return", ("watcher %d is a %s, not a table"):format(i, type(raw)))
    else
      local has_node = watches_node(raw.domain, path, opts, report)
      local policy = read_watcher(raw, has_node == false, report)
      policy.name = policy.name
        or (#list > 1 and ("%s-%s"):format(base, tostring(raw.domain)) or base)
      policy.file, policy.line_of = path, line_of
      if has_node then
        policy.nodes = policy_nodes.choose(policy, raw, opts, report)
      elseif has_node == false then
        label_policy(policy, raw)
      end
      policy_nodes.expand(policy, policies)
    end
  end
  if #errors > 0 then
    return nil, in_order(errors, path)
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
function M.read_execute(value)
  local limits, mistakes = execute(value)
  return limits, not limits and table.concat(mistakes, "; ") or nil
end

return M
