--- The arguments of callbacks and the settings of a domain: checked, with defaults filled in.

local docs = require("runtime.domain.docs")
local json = require("runtime.json")
local suggest = require("runtime.suggest")

local M = {}

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
function M.check(callback, args)
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
        docs.given(value), docs.allowed(param))
    end
    values[i] = value
  end
  return values
end

--- Checks a policy's settings and fills in the defaults.
---@param settings domain.Param[] As the domain declares them.
---@param given table<string, any>
---@return table<string, any>? values
---@return string? err
function M.settings(settings, given)
  local known, values = {}, {}
  for _, setting in ipairs(settings) do
    known[setting.name] = setting
    values[setting.name] = setting.default
  end
  for key, value in pairs(given) do
    local setting = known[key]
    if not setting then
      return nil, next(known) and ("there is no setting %q%s"):format(tostring(key),
        suggest.hint(tostring(key), suggest.keys(known))) or "this domain has no settings"
    elseif not M.fits(setting, value) then
      return nil, ("%s is %s; allowed: %s"):format(key, docs.given(value), docs.allowed(setting))
    end
    values[key] = value
  end
  return values
end

return M
