--- Command-line options: `--name value`, `--name=value` and flags, checked against a table.

local suggest = require("runtime.suggest")
local units = require("runtime.units")

local M = {}

---@class options.Option
---@field arg? string What the value is called in the help; nil for a flag.
---@field doc string
---@field parse? fun(text: string): any, string? Default: the text itself.
---@field is_list? boolean It may be given more than once; its values are in a list.

--- Reads a duration of an option into milliseconds.
M.duration = units.duration_ms

--- Reads a positive whole number.
function M.count(text)
  local n = tonumber(text)
  if n and n >= 1 and n % 1 == 0 then
    return n
  end
  return nil, ("%q is not a positive whole number"):format(text)
end

--- Makes a reader that allows only these words.
---@param words string[]
function M.one_of(words)
  return function(text)
    for _, word in ipairs(words) do
      if text == word then
        return word
      end
    end
    return nil, ("%q is not one of: %s"):format(text, table.concat(words, ", "))
  end
end

local function read_value(name, option, text)
  if not option.parse then
    return text
  end
  local value, err = option.parse(text)
  if value == nil then
    return nil, ("--%s: %s"):format(name, err)
  end
  return value
end

--- Splits arguments into options and the rest.
---@param args string[]
---@param known table<string, options.Option>
---@return { [string]: any }? options Positional arguments are in its array part.
---@return string? err
function M.parse(args, known)
  local found, i = {}, 1
  while i <= #args do
    local name, value = args[i]:match("^%-%-([%w-]+)=(.*)$")
    name = name or args[i]:match("^%-%-([%w-]+)$") or (args[i] == "-h" and "help" or nil)
    if args[i] == "--" then
      for j = i + 1, #args do
        found[#found + 1] = args[j]
      end
      break
    elseif name == nil and args[i]:find("^%-.") then
      return nil, ("unknown option %s; a file of that name is ./%s"):format(args[i], args[i])
    elseif name == nil then
      found[#found + 1] = args[i]
    elseif not known[name] then
      return nil, ("unknown option --%s%s"):format(name, suggest.hint(name, suggest.keys(known)))
    elseif not known[name].arg then
      found[name] = true
    else
      if value == nil then
        i = i + 1
        value = args[i]
      end
      if value == nil then
        return nil, ("--%s needs a value: --%s %s"):format(name, name, known[name].arg)
      end
      local read, err = read_value(name, known[name], value)
      if err then
        return nil, err
      end
      if known[name].is_list then
        found[name] = found[name] or {}
        table.insert(found[name], read)
      else
        found[name] = read
      end
    end
    i = i + 1
  end
  return found
end

--- The help text of a command.
---@param usage string
---@param known table<string, options.Option>
---@return string
function M.help(usage, known)
  local lines = { "usage: beamlens " .. usage, "" }
  for _, name in ipairs(suggest.keys(known)) do
    local option = known[name]
    local left = "--" .. name .. (option.arg and " " .. option.arg or "")
    lines[#lines + 1] = ("  %-24s %s"):format(left, option.doc)
  end
  return table.concat(lines, "\n")
end

return M
