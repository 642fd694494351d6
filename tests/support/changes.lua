-- What changed from one plain value to the next, as a value that is small as JSON.
--
--   local change = changes.between(old, new)       -- nil: nothing did
--   changes.apply(old, change)                     -- a value equal to new; old stays as it was
--
-- Plain values are texts, numbers, booleans, json.null, lists of them, and tables of them by text.
-- A change is one of
--
--   5          a whole number that rose by 5; 0 where something must stand: no change
--   true       the key of the table in which it stands: rows hold the id by which they are found
--   [value]    another value
--   {"of":…}   another list: each entry is [first, last], a part of the old list, or {"v": value}
--   [[…], […]] a table: first pairs of how many of the old keys (sorted) are left as they are, and
--              the change of the next one, false when it is gone; then what came new, or 0: a key,
--              a template, and the change that makes its value out of that. Template 0 is what the
--              key had when it was there before, or else an empty table; 3 the value of the third
--              to come new before it in this table.

local json = require("runtime.json")

local M = {}

local WHOLE = 2 ^ 53
local TEMPLATES = 8

local between

local function is_whole(value)
  return type(value) == "number" and value % 1 == 0 and math.abs(value) < WHOLE
end

local function is_list(value)
  return value[1] ~= nil
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do
    if type(key) ~= "string" then
      error(("a table with the key %s (%s) is neither a list nor has texts for keys")
        :format(tostring(key), type(key)), 0)
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

--- What `between` and `apply` remember of the keys that were in tables before. Whoever applies the
--- changes of a value starts with an empty one, as whoever made them did.
function M.past()
  return { gone = {}, keys = {} }
end

-- The past of the value of a key.
local function below(past, key)
  if past and not past.keys[key] then
    past.keys[key] = M.past()
  end
  return past and past.keys[key]
end

-- Keeps the rows that leave a table.
local function remember(past, old, new)
  for key, value in pairs(past and old or {}) do
    if new[key] == nil and type(value) == "table" then
      past.gone[key], past.keys[key] = value, nil
    end
  end
end

local function template(past, key, recent, which)
  return recent[which] or (past and past.gone[key]) or {}
end

-- A value that came new, the last first.
local function put_recent(recent, value)
  if type(value) == "table" then
    table.insert(recent, 1, value)
    recent[TEMPLATES + 1] = nil
  end
end

-- The change of a new value from the template that makes it smallest.
local function from_template(past, key, recent, value)
  local best = between(template(past, key, recent, 0), value, nil, key) or 0
  local which, size = 0, #json.encode(best)
  if type(value) == "table" and not (past and past.gone[key]) then
    for i, other in ipairs(recent) do
      local change = between(other, value, nil, key) or 0
      if #json.encode(change) < size then
        best, which, size = change, i, #json.encode(change)
      end
    end
  end
  return which, best
end

-- Each value of a list of scalars, and where it stands first; nil for another list.
local function positions(list)
  local where = {}
  for i, value in ipairs(list) do
    if type(value) == "table" then
      return nil
    end
    where[value] = where[value] or i
  end
  return where
end

local function list_change(old, new)
  local where = positions(old)
  if not where or not positions(new) then
    return { new }
  end
  local entries, last = {}, nil
  for _, value in ipairs(new) do
    if last and old[last + 1] == value then
      last = last + 1
      entries[#entries][2] = last
    else
      last = where[value]
      entries[#entries + 1] = last and { last, last } or { v = value }
    end
  end
  return { of = entries }
end

local function same_lists(old, new)
  if #old ~= #new then
    return false
  end
  for i = 1, #old do
    if between(old[i], new[i]) ~= nil then
      return false
    end
  end
  return true
end

local function kept_keys(old, new, past, name)
  local list, skipped = {}, 0
  for _, key in ipairs(sorted_keys(old)) do
    local change = false
    if new[key] ~= nil then
      change = between(old[key], new[key], below(past, key), key)
      change = change ~= nil and new[key] == name or change
    end
    if change == nil then
      skipped = skipped + 1
    else
      list[#list + 1] = skipped
      list[#list + 1] = change
      skipped = 0
    end
  end
  return list
end

local function new_keys(old, new, past, name)
  local added, recent = {}, {}
  for _, key in ipairs(sorted_keys(new)) do
    if old[key] == nil then
      local which, change = from_template(past, key, recent, new[key])
      added[#added + 1] = key
      added[#added + 1] = which
      added[#added + 1] = new[key] == name or change
      put_recent(recent, new[key])
    end
  end
  return added
end

local function table_change(old, new, past, name)
  local list, added = kept_keys(old, new, past, name), new_keys(old, new, past, name)
  remember(past, old, new)
  if list[1] or added[1] then
    return { list, added[1] and added or 0 }
  end
end

--- The change from `old` to `new`; nil when they are equal.
---@param old any
---@param new any
---@param past? table Of `past()`: makes the changes of tables whose keys come and go smaller.
---@param name? string The key under which the values stand.
---@return any change
between = function(old, new, past, name)
  if old == new then
    return nil
  elseif is_whole(old) and is_whole(new) and is_whole(new - old) then
    return new - old
  elseif type(old) ~= "table" or type(new) ~= "table" or is_list(old) ~= is_list(new) then
    return { new } -- an empty table counts as no list
  elseif not is_list(old) then
    return table_change(old, new, past, name)
  elseif not same_lists(old, new) then
    return list_change(old, new)
  end
end

M.between = between

local function apply_list(old, entries)
  local new = {}
  for _, entry in ipairs(entries) do
    if entry.v ~= nil then
      new[#new + 1] = entry.v
    else
      for i = entry[1], entry[2] do
        new[#new + 1] = old[i]
      end
    end
  end
  return new
end

local apply

local function apply_table(old, change, past, name)
  local new, keys, at, recent = {}, sorted_keys(old), 0, {}
  local list, added = change[1], change[2] ~= 0 and change[2] or {}
  for key, value in pairs(old) do
    new[key] = value
  end
  for i = 1, #list, 2 do
    at = at + list[i] + 1
    local key, inner = keys[at], list[i + 1]
    new[key] = nil
    if inner ~= false then
      new[key] = apply(old[key], inner, below(past, key), key, name)
    end
  end
  for i = 1, #added, 3 do
    local key = added[i]
    new[key] = apply(template(past, key, recent, added[i + 1]), added[i + 2], nil, key, name)
    put_recent(recent, new[key])
  end
  remember(past, old, new)
  return new
end

-- `name` is the key under which `old` stands, `above` that of the table around it.
apply = function(old, change, past, name, above)
  if change == nil or change == 0 then
    return old
  elseif change == true then
    return above
  elseif type(change) == "number" then
    return old + change
  elseif change.of then
    return apply_list(old, change.of)
  elseif #change == 1 then
    return change[1]
  end
  return apply_table(old, change, past, name)
end

--- The value that `old` became. What did not change is shared with `old`.
---@param old any
---@param change any As of `between`, nil (or 0) included; it may have been JSON meanwhile.
---@param past? table Of `past()`, if `between` had one.
---@return any new
function M.apply(old, change, past)
  return apply(old, change, past)
end

return M
