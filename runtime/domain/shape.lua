--- The shape of a domain: checks what a domain file returns, and the arguments of its callbacks.

local docs = require("runtime.domain.docs")
local json = require("runtime.json")
local suggest = require("runtime.suggest")
local sweep = require("runtime.sweep")
local units = require("runtime.units")

local M = {}

local function problem(path, text, ...)
  error({ text = ("%s %s"):format(path, text:format(...)) }, 0)
end

local function article(value)
  if value == nil then
    return "missing"
  end
  return "a " .. (value == json.null and "null" or type(value))
end

local function check_type(path, value, wanted)
  if type(value) ~= wanted then
    problem(path, "is %s; it must be %s", article(value),
      wanted == "string" and "text" or "a " .. wanted)
  end
end

local function check_word(path, value, words)
  for _, word in ipairs(words) do
    if value == word then
      return
    end
  end
  if value == nil then
    problem(path, "is missing; allowed: %s", table.concat(words, ", "))
  end
  problem(path, "is %q%s", tostring(value), suggest.hint(tostring(value), words))
end

-- Checks a table against { field = { check, required } }.
local function check_record(path, value, fields)
  check_type(path, value, "table")
  for key in pairs(value) do
    if not fields[key] then
      problem(path, "has an unknown field %q%s", tostring(key),
        suggest.hint(tostring(key), suggest.keys(fields)))
    end
  end
  for _, key in ipairs(suggest.keys(fields)) do
    local field = fields[key]
    local inner = path == "the domain" and key or ("%s.%s"):format(path, key)
    if value[key] ~= nil then
      field.check(inner, value[key])
    elseif field.required then
      problem(inner, "is missing")
    end
  end
end

local function text(path, value)
  check_type(path, value, "string")
  if value == "" then
    problem(path, "is empty; it must be text")
  end
end

local function func(path, value)
  check_type(path, value, "function")
end

local function name(path, value)
  text(path, value)
  if not value:find("^[a-z][a-z0-9_]*$") then
    problem(path, "is %q; a name has lower-case letters, digits and _, and begins with a letter",
      value)
  end
end

local function of_type(wanted)
  return function(path, value)
    check_type(path, value, wanted)
  end
end

local function anything() end

local function list_of(check_item)
  return function(path, value)
    check_type(path, value, "table")
    for key in pairs(value) do
      if type(key) ~= "number" then
        problem(path, "has a field %q; it must be a list", tostring(key))
      end
    end
    local seen = {}
    for i, item in ipairs(value) do
      local key = type(item) == "table" and (item.name or item.type)
      local inner = type(key) == "string" and ("%s[%d] (%s)"):format(path, i, key)
        or ("%s[%d]"):format(path, i)
      check_item(inner, item)
      if key and seen[key] then
        problem(inner, "is there twice")
      end
      seen[key or i] = true
    end
  end
end

local RESULT_TYPES = { "string", "integer", "number", "boolean", "list", "table" }
local PARAM_TYPES = { "string", "integer", "number", "boolean" }

local function word_of(words)
  return function(path, value)
    check_word(path, value, words)
  end
end

local check_fields

local function check_field(path, value)
  check_record(path, value, {
    name = { check = name, required = true },
    type = { check = word_of(RESULT_TYPES), required = true },
    unit = { check = text },
    doc = { check = text },
    nullable = { check = of_type("boolean") },
    optional = { check = of_type("boolean") },
    fields = { check = check_fields },
  })
end

check_fields = list_of(check_field)

local function check_returns(path, value)
  check_type(path, value, "table")
  local fields = { unpack(value) }
  for key in pairs(value) do
    if type(key) ~= "number" and key ~= "list" then
      problem(path, "has an unknown field %q; allowed: list", tostring(key))
    end
  end
  check_fields(path, fields)
end

local function check_default(path, param)
  if param.default ~= nil and not M.fits(param, param.default) then
    problem(path .. ".default", "is %s; it must be %s", tostring(param.default),
      docs.allowed(param))
  end
end

local function check_param(path, value)
  check_record(path, value, {
    name = { check = name, required = true },
    type = { check = word_of(PARAM_TYPES), required = true },
    default = { check = anything },
    min = { check = of_type("number") },
    max = { check = of_type("number") },
    values = { check = of_type("table") },
    aliases = { check = of_type("table") },
    doc = { check = text },
  })
  check_default(path, value)
end

local function check_sweep(path, value)
  check_word(path, value, sweep.PARTS)
end

local function check_callback(path, value)
  check_record(path, value, {
    name = { check = name, required = true },
    params = { check = list_of(check_param) },
    returns = { check = check_returns, required = true },
    doc = { check = text, required = true },
    run = { check = func, required = true },
  })
end

local function duration(path, value)
  local _, err = units.duration_ms(value)
  if err then
    problem(path, "%s", err)
  end
end

local function check_rule(path, value)
  check_record(path, value, {
    type = { check = name, required = true },
    severity = { check = word_of({ "info", "warning", "critical" }) },
    hold = { check = duration },
    clear_hold = { check = duration },
    when = { check = func, required = true },
    subject = { check = text },
    investigate = { check = text },
    title = { check = text },
    next = { check = anything },
  })
end

local DOMAIN = {
  name = { check = name, required = true },
  title = { check = text },
  description = { check = text },
  instructions = { check = text },
  metrics = { check = check_fields },
  snapshot = { check = func, required = true },
  callbacks = { check = list_of(check_callback) },
  sweeps = { check = list_of(check_sweep) },
  target = { check = word_of({ "node", "none" }) },
  rules = { check = list_of(check_rule) },
}

local RESERVED = { get_current_time = true, get_node_info = true, sleep = true }

local function check_domain(definition)
  check_record("the domain", definition, DOMAIN)
  if definition.target == "none" and (definition.sweeps or {})[1] then
    problem("sweeps", "is set, but a domain with target \"none\" has no node to sweep")
  end
  for i, callback in ipairs(definition.callbacks or {}) do
    local path = ("callbacks[%d].name"):format(i)
    if RESERVED[callback.name] then
      problem(path, "is %q, which every domain has already", callback.name)
    elseif callback.name:sub(1, #definition.name + 1) ~= definition.name .. "_" then
      problem(path, "is %q; it must begin with \"%s_\"", callback.name, definition.name)
    end
  end
end

--- Checks what a domain's file returned.
---@param definition any
---@return table? domain Its fields with defaults filled in; `own_callbacks` are its callbacks.
---@return string? err
function M.check(definition)
  local ok, err = pcall(check_domain, definition)
  if not ok then
    if type(err) ~= "table" then
      error(err, 0)
    end
    return nil, err.text
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
    watches_node = definition.target ~= "none",
    own_callbacks = callbacks,
  }
end

--- Whether a value is one that a parameter allows (aliases are not looked at).
---@param param domain.Param
---@param value any
---@return boolean
function M.fits(param, value)
  local kind = type(value)
  if param.type == "integer" or param.type == "number" then
    return kind == "number" and value == value and (param.type == "number" or value % 1 == 0)
      and value >= (param.min or -math.huge) and value <= (param.max or math.huge)
      and math.abs(value) < math.huge
  elseif param.values then
    for _, word in ipairs(param.values) do
      if value == word then
        return true
      end
    end
    return false
  elseif param.type == "string" then
    return kind == "string" and #value <= (param.max or math.huge)
  end
  return kind == param.type
end

local function shown(value)
  if type(value) == "string" then
    return ("%q, a string"):format(#value > 60 and value:sub(1, 60) .. "…" or value)
  elseif value == nil or value == json.null then
    return "missing"
  elseif type(value) == "table" then
    return "a table"
  end
  return ("%s, a %s"):format(tostring(value), type(value))
end

-- One table with the arguments by name, as some write it: f{ limit = 5 }.
local function by_position(callback, args)
  local only = args[1]
  if type(only) ~= "table" or next(args, 1) ~= nil or #only > 0 then
    return args
  end
  local position, list = {}, {}
  for i, param in ipairs(callback.params) do
    position[param.name] = i
  end
  for key, value in pairs(only) do
    if not position[key] then
      return nil, ("%s: there is no argument %q%s"):format(callback.name, tostring(key),
        suggest.hint(tostring(key), suggest.keys(position)))
    end
    list[position[key]] = value
  end
  return list
end

--- Checks a callback's arguments and fills in its defaults.
---@param callback domain.Callback
---@param args any[]
---@return any[]? values One per parameter.
---@return string? err
function M.arguments(callback, args)
  local list, err = by_position(callback, args)
  if not list then
    return nil, err
  end
  for key in pairs(list) do
    if type(key) ~= "number" or key > #callback.params then
      return nil, ("%s: argument %s is one too many; allowed: %s"):format(callback.name,
        tostring(key), #callback.params == 0 and "none" or ("at most %d"):format(#callback.params))
    end
  end
  local values = {}
  for i, param in ipairs(callback.params) do
    local value = list[i]
    if value == nil or value == json.null then
      value = param.default
    end
    value = param.aliases and param.aliases[value or false] or value
    if not M.fits(param, value) then
      return nil, ("%s: argument %d (%s) is %s; allowed: %s"):format(callback.name, i, param.name,
        shown(value), docs.allowed(param))
    end
    values[i] = value
  end
  return values
end

return M
