--- Checks of single values of a domain's table. Each is `check(report, path, value)`: it calls
--- `report(path, message, …)` for each mistake and returns whether there was none.

local json = require("runtime.json")
local results = require("runtime.domain.results")
local suggest = require("runtime.suggest")
local units = require("runtime.units")

local M = {}

--- The path of the whole table.
M.TOP = "the domain"

--- What a value is, with its article.
---@param value any
---@return string
function M.article(value)
  return value == nil and "missing" or "a " .. (value == json.null and "null" or type(value))
end

function M.check_type(report, path, value, wanted)
  if type(value) == wanted then
    return true
  end
  report(path, "is %s; it must be %s", M.article(value),
    wanted == "string" and "text" or "a " .. wanted)
  return false
end

--- A check for a type of Lua.
function M.of_type(wanted)
  return function(report, path, value)
    return M.check_type(report, path, value, wanted)
  end
end

M.func = M.of_type("function")

function M.text(report, path, value)
  if not M.check_type(report, path, value, "string") then
    return false
  elseif value == "" then
    report(path, "is empty; it must be text")
    return false
  end
  return true
end

function M.is_name(value)
  return type(value) == "string" and value:find("^[a-z][a-z0-9_]*$") ~= nil
end

function M.name(report, path, value)
  if not M.text(report, path, value) then
    return false
  elseif not M.is_name(value) then
    report(path, "is %q; a name has lower-case letters, digits and _, and begins with a letter",
      value)
    return false
  end
  return true
end

--- A name that scripts write as `value.name`.
function M.key(report, path, value)
  if not M.name(report, path, value) then
    return false
  elseif results.KEYWORDS[value] then
    report(path, "is %q, a word of Lua itself, which scripts cannot use as a name", value)
    return false
  end
  return true
end

--- A check for one of some words.
function M.word_of(words)
  return function(report, path, value)
    for _, word in ipairs(words) do
      if value == word then
        return true
      end
    end
    if type(value) ~= "string" then
      report(path, "is %s; allowed: %s", M.article(value), table.concat(words, ", "))
    else
      report(path, "is %q%s", value, suggest.hint(value, words))
    end
    return false
  end
end

function M.duration(report, path, value)
  local _, err = units.duration_ms(value)
  if err then
    report(path, "%s", err:find('^"') and err or "is none: " .. err)
  end
  return not err
end

--- A check for a table of known fields, `{ name = { check?, required? } }`. When all of them are
--- right, `whole(report, path, value)` looks at them together.
function M.record(known, whole)
  return function(report, path, value)
    if not M.check_type(report, path, value, "table") then
      return false
    end
    local ok, misspelt = true, {}
    for key in pairs(value) do
      if not known[key] then
        report(path, "has an unknown field %q%s", tostring(key),
          suggest.hint(tostring(key), suggest.keys(known)))
        misspelt[suggest.nearest(tostring(key), suggest.keys(known)) or key] = true
        ok = false
      end
    end
    for _, key in ipairs(suggest.keys(known)) do
      local field = known[key]
      local inner = path == M.TOP and key or ("%s.%s"):format(path, key)
      if value[key] == nil and field.required then
        ok = false
        if not misspelt[key] then
          report(inner, "is missing")
        end
      elseif value[key] ~= nil and field.check and field.check(report, inner, value[key]) == false
      then
        ok = false
      end
    end
    if ok and whole then
      whole(report, path, value)
    end
    return ok
  end
end

-- The length of a list; nil and what is wrong when it is none.
local function length(value)
  local count, highest = 0, 0
  for key in pairs(value) do
    if type(key) ~= "number" then
      return nil, ("has a field %q; it must be a list"):format(tostring(key))
    end
    count, highest = count + 1, math.max(highest, key)
  end
  if count ~= highest then
    return nil, ("has a hole: %d items, the last of them at %s"):format(count, highest)
  end
  return count
end

--- A check for a list. What its items are called by, `key` ("name" by default) or they themselves,
--- is in it once.
function M.list_of(check_item, key_field)
  return function(report, path, value)
    if not M.check_type(report, path, value, "table") then
      return false
    end
    local count, err = length(value)
    if not count then
      report(path, "%s", err)
      return false
    end
    local ok, seen = true, {}
    for i, item in ipairs(value) do
      local key = item
      if type(item) == "table" then
        key = item[key_field or "name"]
      end
      local inner = type(item) == "table" and type(key) == "string"
        and ("%s[%d] (%s)"):format(path, i, key) or ("%s[%d]"):format(path, i)
      ok = check_item(report, inner, item) ~= false and ok
      if key ~= nil and seen[key] then
        report(inner, "is there twice")
        ok = false
      end
      seen[key or i] = true
    end
    return ok
  end
end

return M
