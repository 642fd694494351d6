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

local check_field = record({
  name = { check = fields.key, required = true },
  type = { check = fields.word_of(RESULT_TYPES), required = true },
  unit = { check = text },
  doc = { check = text },
  nullable = { check = fields.of_type("boolean") },
  optional = { check = fields.of_type("boolean") },
  fields = { check = function(...)
    return check_fields(...)
  end },
}, function(report, path, field)
  if field.fields and field.type ~= "list" and field.type ~= "table" then
    report(path .. ".fields", "is set, but the type is %q; only a list or a table has fields",
      field.type)
  end
end)

check_fields = list_of(check_field)

-- A snapshot is flat.
local function check_metrics(report, path, value)
  if not check_fields(report, path, value) then
    return
  end
  for i, metric in ipairs(value) do
    if metric.type == "list" or metric.type == "table" then
      report(("%s[%d] (%s).type"):format(path, i, metric.name),
        "is %q; a snapshot is flat: %s", metric.type, table.concat(SCALAR_TYPES, ", "))
    end
  end
end

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

local function check_words(report, path, value)
  local ok = list_of(text)(report, path, value)
  if ok and #value == 0 then
    report(path, "is empty; it lists the words that are allowed")
  end
  return ok
end

local function check_param_limits(report, path, param)
  for _, key in ipairs({ "min", "max", "values" }) do
    if param[key] ~= nil and not LIMITS[param.type][key] then
      report(("%s.%s"):format(path, key), "has no effect on a %s", param.type)
    end
  end
  if param.min and param.max and param.min > param.max then
    report(path .. ".min", "is %s, above max, which is %s", param.min, param.max)
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
  values = { check = check_words },
  aliases = { check = fields.of_type("table") },
  doc = { check = text },
}

local check_param = record(PARAM, check_param_limits)

local SETTING = { secret = { check = fields.of_type("boolean") } }
for key, value in pairs(PARAM) do
  SETTING[key] = value
end

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
  when = { check = func, required = true },
  subject = { check = text },
  investigate = { check = check_script },
  title = { check = text },
  next = { check = check_next },
})

local RESERVED = { get_current_time = true, get_node_info = true, sleep = true }

local function check_names(report, definition)
  for i, callback in ipairs(definition.callbacks or {}) do
    local path = ("callbacks[%d].name"):format(i)
    if RESERVED[callback.name] then
      report(path, "is %q, which every domain has already", callback.name)
    elseif callback.name:sub(1, #definition.name + 1) ~= definition.name .. "_" then
      report(path, "is %q; it must begin with \"%s_\"", callback.name, definition.name)
    end
  end
end

local check_domain = record({
  name = { check = fields.name, required = true },
  title = { check = text },
  description = { check = text },
  instructions = { check = text },
  metrics = { check = check_metrics },
  snapshot = { check = func, required = true },
  callbacks = { check = list_of(check_callback) },
  sweeps = { check = list_of(fields.word_of(require("runtime.sweep").PARTS)) },
  target = { check = fields.word_of({ "node", "none" }) },
  settings = { check = list_of(check_setting) },
  rules = { check = list_of(check_rule) },
}, function(report, _, definition)
  check_names(report, definition)
  if definition.target == "none" and (definition.sweeps or {})[1] then
    report("sweeps", "is set, but a domain with target \"none\" has no node to sweep")
  end
end)

--- Checks what a domain's file returned.
---@param definition any
---@return table? domain Its fields with defaults filled in; `own_callbacks` are its callbacks.
---@return string[]? mistakes Each begins with the path of what is wrong:
--- `callbacks[2] (shop_orders).doc is missing`.
function M.check(definition)
  local mistakes = {}
  check_domain(function(path, message, ...)
    mistakes[#mistakes + 1] = ("%s %s"):format(path, message:format(...))
  end, fields.TOP, definition)
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
