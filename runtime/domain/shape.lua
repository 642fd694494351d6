--- The shape of a domain: checks what a domain file returns, and finds all mistakes at once.

local arguments = require("runtime.domain.arguments")
local docs = require("runtime.domain.docs")
local fields = require("runtime.domain.fields")

local M = {}

local PARAM_TYPES = { "string", "integer", "number", "boolean" }
local SCALAR_TYPES = { "string", "integer", "number", "boolean" }
local RESULT_TYPES = { "string", "integer", "number", "boolean", "list", "table" }
local SEVERITIES = { "info", "warning", "critical" }

-- What of a parameter says something about values of its type.
local LIMITS = {
  integer = { min = true, max = true, aliases = true },
  number = { min = true, max = true, aliases = true },
  string = { max = true, values = true, aliases = true },
  boolean = { aliases = true },
}

local text, func, record, list_of = fields.text, fields.func, fields.record, fields.list_of

local check_fields

local FIELD = {
  name = { check = fields.key, required = true },
  type = { check = fields.word_of(RESULT_TYPES), required = true },
  unit = { check = text },
  doc = { check = text },
  nullable = { check = fields.of_type("boolean") },
  optional = { check = fields.of_type("boolean") },
  fields = { check = function(...)
    return check_fields(...)
  end },
}

-- The same fields, some of them others.
local function with(base, changes)
  local all = {}
  for _, from in ipairs({ base, changes }) do
    for key, value in pairs(from) do
      all[key] = value
    end
  end
  return all
end

check_fields = list_of(record(FIELD, function(report, path, field)
  if field.fields and field.type ~= "list" and field.type ~= "table" then
    report(path .. ".fields", "is set, but the type is %q; only a list or a table has fields",
      field.type)
  end
end))

-- A snapshot is flat.
local METRIC = with(FIELD, { type = { check = fields.word_of(SCALAR_TYPES), required = true } })
METRIC.fields = nil

local function check_returns(report, path, value)
  if not fields.check_type(report, path, value, "table") then
    return
  end
  local list = {}
  for key, item in pairs(value) do
    if type(key) == "number" then
      list[key] = item
    elseif key ~= "list" then
      report(path, "has an unknown field %q; allowed: list", tostring(key))
    end
  end
  if value.list ~= nil then
    fields.check_type(report, path .. ".list", value.list, "boolean")
  end
  check_fields(report, path, list)
end

local function check_param_limits(report, path, param)
  for _, key in ipairs({ "min", "max", "values" }) do
    if param[key] ~= nil and not LIMITS[param.type][key] then
      report(("%s.%s"):format(path, key), "has no effect: the type is %q", param.type)
    end
  end
  if param.min and param.max and param.min > param.max then
    return report(path .. ".min", "is %s, above max, which is %s", param.min, param.max)
  elseif param.values and #param.values == 0 then
    return report(path .. ".values", "is empty; it lists the words that are allowed")
  end
  for word, meant in pairs(param.aliases or {}) do
    if not arguments.fits(param, meant) then
      report(path .. ".aliases", "has %q stand for %q; it must be %s", tostring(word),
        tostring(meant), docs.allowed(param))
    end
  end
  if param.default ~= nil and not arguments.fits(param, param.default) then
    report(path .. ".default", "is %s; it must be %s", tostring(param.default),
      docs.allowed(param))
  end
end

local PARAM = {
  name = { check = fields.key, required = true },
  type = { check = fields.word_of(PARAM_TYPES), required = true },
  default = {},
  min = { check = fields.of_type("number") },
  max = { check = fields.of_type("number") },
  values = { check = list_of(text) },
  aliases = { check = fields.of_type("table") },
  doc = { check = text },
}

local check_param = record(PARAM, check_param_limits)

local SETTING = with(PARAM, { secret = { check = fields.of_type("boolean") } })

local check_setting = record(SETTING, function(report, path, setting)
  check_param_limits(report, path, setting)
  if setting.default == nil then
    report(path .. ".default", "is missing: a watcher need not set it")
  end
end)

local check_callback = record({
  name = { check = fields.name, required = true },
  params = { check = list_of(check_param) },
  returns = { check = check_returns, required = true },
  doc = { check = text, required = true },
  run = { check = func, required = true },
})

local function check_script(report, path, value)
  if text(report, path, value) then
    local _, err = load(value, "=script", "t")
    if err then
      report(path, "is no Lua: %s", err)
    end
  end
end

local function check_next(report, path, value)
  if type(value) ~= "function" and type(value) ~= "table" then
    report(path, "is %s; it must be a list of commands, or a function that returns one",
      fields.article(value))
  elseif type(value) == "table" then
    list_of(text)(report, path, value)
  end
end

local check_rule = record({
  type = { check = fields.name, required = true },
  severity = { check = fields.word_of(SEVERITIES) },
  hold = { check = fields.duration },
  clear_hold = { check = fields.duration },
  looks_back = { check = fields.duration },
  when = { check = func, required = true },
  subject = { check = text },
  left_to = { check = fields.name },
  investigate = { check = check_script },
  title = { check = text },
  next = { check = check_next },
})

local RESERVED = { get_current_time = true, get_node_info = true, sleep = true }

-- Looks only at names that could be some: the others are told by their own checks.
local function check_names(report, definition)
  local is_list = type(definition) == "table" and type(definition.callbacks) == "table"
  for i, callback in ipairs(is_list and definition.callbacks or {}) do
    local name, prefix = type(callback) == "table" and callback.name, definition.name
    local path = ("callbacks[%d] (%s).name"):format(i, tostring(name))
    if RESERVED[name] then
      report(path, "is %q, which every domain has already", name)
    elseif fields.is_name(name) and fields.is_name(prefix)
      and name:sub(1, #prefix + 1) ~= prefix .. "_" then
      report(path, "is %q; it must begin with \"%s_\"", name, prefix)
    end
  end
end

local check_domain = record({
  name = { check = fields.name, required = true },
  title = { check = text },
  description = { check = text },
  instructions = { check = text },
  metrics = { check = list_of(record(METRIC)) },
  snapshot = { check = func, required = true },
  callbacks = { check = list_of(check_callback) },
  sweeps = { check = list_of(fields.word_of(require("runtime.sweep").PARTS)) },
  target = { check = fields.word_of({ "node", "none" }) },
  settings = { check = list_of(check_setting) },
  rules = { check = list_of(check_rule, "type") },
}, function(report, _, definition)
  if definition.target == "none" and (definition.sweeps or {})[1] then
    report("sweeps", "is set, but a domain with target \"none\" has no node to sweep")
  end
end)

--- Checks one rule, such as those that a watcher adds to its domain's.
---@param value any
---@param path string
---@return string? mistake The first one, beginning with the path.
function M.rule_mistake(value, path)
  local mistake
  check_rule(function(inner, message, ...)
    mistake = mistake or ("%s %s"):format(inner, message:format(...))
  end, path, value)
  return mistake
end

--- Checks what a domain's file returned.
---@param definition any
---@return table? domain Its fields with defaults filled in; `own_callbacks` are its callbacks.
---@return string[]? mistakes Each begins with the path of what is wrong:
--- `callbacks[2] (shop_orders).doc is missing`.
function M.check(definition)
  local mistakes = {}
  local function report(path, message, ...)
    mistakes[#mistakes + 1] = ("%s %s"):format(path, message:format(...))
  end
  check_domain(report, fields.TOP, definition)
  check_names(report, definition)
  if mistakes[1] then
    return nil, mistakes
  end
  local callbacks = {}
  for i, callback in ipairs(definition.callbacks or {}) do
    callbacks[i] = {
      name = callback.name, params = callback.params or {}, returns = callback.returns,
      doc = callback.doc, run = callback.run,
    }
  end
  return {
    name = definition.name,
    title = definition.title or definition.name,
    description = definition.description or "",
    instructions = definition.instructions or "",
    metrics = definition.metrics or {},
    rules = definition.rules or {},
    sweeps = definition.sweeps or {},
    settings = definition.settings or {},
    watches_node = definition.target ~= "none",
    own_callbacks = callbacks,
  }
end

return M
