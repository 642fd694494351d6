--- The docs of a domain, generated from what is checked at run time, so that they cannot drift.

local json = require("runtime.json")
local names = require("runtime.names")

local M = {}

local MAX_GIVEN = 60
-- How a number that is not finite comes out of the sandbox.
local NOT_FINITE = { NaN = "nan", Infinity = "inf", ["-Infinity"] = "-inf" }
local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function literal(value)
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function signature(callback)
  local parts = {}
  for i, param in ipairs(callback.params) do
    parts[i] = param.default == nil and param.name
      or ("%s = %s"):format(param.name, literal(param.default))
  end
  return ("%s(%s)"):format(callback.name, table.concat(parts, ", "))
end

--- What an argument may be, in words.
---@param param domain.Param
---@return string
function M.allowed(param)
  if param.values then
    local words = {}
    for i, value in ipairs(param.values) do
      words[i] = literal(value)
    end
    return "one of " .. table.concat(words, ", ")
  end
  local what = ({ integer = "a whole number", number = "a number", string = "text",
    boolean = "true or false" })[param.type]
  if param.type == "string" then
    return param.max and ("%s of at most %d bytes"):format(what, param.max) or what
  elseif param.min and param.max then
    return ("%s from %s to %s"):format(what, param.min, param.max)
  elseif param.max then
    return ("%s, at most %s"):format(what, param.max)
  elseif param.min then
    return ("%s, at least %s"):format(what, param.min)
  end
  return what
end

-- A string on one line, without anything that a terminal would obey.
local function quoted(text)
  text = #text > MAX_GIVEN and names.clean(text, MAX_GIVEN + #"…") or names.utf8(text)
  return '"' .. text:gsub('[%c"\\]', function(char)
    return ESCAPES[char] or ("\\%03d"):format(char:byte())
  end) .. '"'
end

--- What an argument is, in words.
---@param value any
---@return string
function M.given(value)
  if value == nil or value == json.null then
    return "missing"
  elseif NOT_FINITE[value] then
    return NOT_FINITE[value] .. ", a number"
  elseif type(value) == "string" then
    return quoted(value) .. ", a string"
  elseif type(value) == "table" then
    return "a table"
  end
  local text = tostring(value)
  if type(value) == "number" and tonumber(text) ~= value and value == value then
    text = ("%.17g"):format(value)
  end
  return ("%s, a %s"):format(text, type(value))
end

local function result_fields(fields)
  local parts = {}
  for i, field in ipairs(fields) do
    local text = field.name
    if field.fields then
      text = ("%s = %s%s"):format(text, field.type == "list" and "list of " or "",
        result_fields(field.fields))
    elseif field.unit then
      text = ("%s (%s)"):format(text, field.unit)
    end
    if field.doc then
      text = ("%s: %s"):format(text, field.doc)
    end
    if field.nullable then
      text = text .. " or null"
    end
    parts[i] = text
  end
  return ("{ %s }"):format(table.concat(parts, ", "))
end

--- The text about one callback.
---@param callback domain.Callback
---@return string
function M.callback(callback)
  local lines = { signature(callback), "  " .. callback.doc }
  for _, param in ipairs(callback.params) do
    lines[#lines + 1] = ("  %s: %s%s"):format(param.name, M.allowed(param),
      param.doc and "; " .. param.doc or "")
  end
  lines[#lines + 1] = ("  returns %s%s%s"):format(callback.returns.list and "a list of " or "",
    result_fields(callback.returns),
    callback.returns.list and ", and second { total, returned, skipped, took_ms }" or "")
  return table.concat(lines, "\n")
end

--- The text about all callbacks.
---@param callbacks domain.Callback[]
---@return string
function M.callbacks(callbacks)
  local parts = {}
  for i, callback in ipairs(callbacks) do
    parts[i] = M.callback(callback)
  end
  return table.concat(parts, "\n\n")
end

--- The text about the settings of a domain, a line each.
---@param settings domain.Param[]
---@return string
function M.settings(settings)
  local lines = {}
  for i, setting in ipairs(settings) do
    lines[i] = ("%s = %s: %s%s"):format(setting.name,
      setting.secret and "(secret)" or literal(setting.default), M.allowed(setting),
      setting.doc and "; " .. setting.doc or "")
  end
  return table.concat(lines, "\n")
end

--- The text about the metrics of a snapshot, a line each.
---@param metrics domain.Field[]
---@return string
function M.metrics(metrics)
  local lines = {}
  for i, metric in ipairs(metrics) do
    lines[i] = ("%s%s%s"):format(metric.name, metric.unit and (" (%s)"):format(metric.unit) or "",
      metric.doc and ": " .. metric.doc or "")
  end
  return table.concat(lines, "\n")
end

return M
