-- What changed from one plain value to the next, as a value that is small as JSON.
--
--   local change = changes.between(old, new)       -- nil: nothing did
--   changes.apply(old, change)                     -- a value equal to new; old stays as it was
--
-- Plain values are texts, numbers, booleans, json.null, lists of them, and tables of them by text.
-- A change is one of
--
--   5          a whole number that rose by 5
--   [value]    another value
--   false      the key is there no more (only inside a change of a table)
--   {"of":…}   another list: each entry is [first, last], a part of the old list, or {"v": value}
--   [[…], {…}] a table: pairs of how many of the old keys (sorted) are left as they are, and the
--              change of the next one; and what came new, or 0: pairs of a key and the change that
--              makes its value out of the one it had before, or out of the one of the pair before

local M = {}

local WHOLE = 2 ^ 53

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

local between

-- The past of the value of a key.
local function below(past, key)
  if past and not past.keys[key] then
    past.keys[key] = M.past()
  end
  return past and past.keys[key]
end

-- Keeps what leaves a table.
local function remember(old, new, past)
  for key, value in pairs(past and old or {}) do
    if new[key] == nil and type(value) == "table" then
      past.gone[key], past.keys[key] = value, nil
    end
  end
end

-- Lists of scalars as parts of the old list; nil where that does not apply.
local function list_change(old, new)
  local where, same = {}, #old == #new
  for i, value in ipairs(old) do
    if type(value) == "table" then
      return nil
    end
    where[value] = where[value] or i
    same = same and new[i] == value
  end
  if same then
    return nil, true
  end
  local entries, first, last = {}, nil, nil
  local function close()
    if first then
      entries[#entries + 1] = { first, last }
      first = nil
    end
  end
  for _, value in ipairs(new) do
    if type(value) == "table" then
      return nil
    end
    if first and old[last + 1] == value then
      last = last + 1
    elseif where[value] then
      close()
      first, last = where[value], where[value]
    else
      close()
      entries[#entries + 1] = { v = value }
    end
  end
  close()
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

-- What a new key's value is written against: what it was when it was there before, or else the
-- value of the key that came in before it, since rows of one table are alike.
local function template(past, key, before)
  local gone = past and past.gone[key]
  return gone or before
end

local function table_change(old, new, past)
  local list, added, skipped, last = {}, {}, 0, nil
  for _, key in ipairs(sorted_keys(old)) do
    local change = false
    if new[key] ~= nil then
      change = between(old[key], new[key], below(past, key))
    end
    if change == nil then
      skipped = skipped + 1
    else
      list[#list + 1] = skipped
      list[#list + 1] = change
      skipped = 0
    end
  end
  for _, key in ipairs(sorted_keys(new)) do
    if old[key] == nil then
      added[#added + 1] = key
      added[#added + 1] = between(template(past, key, last), new[key]) or 0
      last = new[key]
    end
  end
  remember(old, new, past)
  if #list > 0 or #added > 0 then
    return { list, #added > 0 and added or 0 }
  end
end

--- What `between` and `apply` remember of tables' keys that were there before. Whoever applies the
--- changes to a value starts with an empty one, as whoever made them did.
function M.past()
  return { gone = {}, keys = {} }
end

--- The change from `old` to `new`; nil when they are equal.
---@param old any
---@param new any
---@param past? table Of `past()`: makes the changes of tables whose keys come and go smaller.
---@return any change
between = function(old, new, past)
  if old == new then
    return nil
  elseif is_whole(old) and is_whole(new) and is_whole(new - old) then
    return new - old
  elseif type(old) ~= "table" or type(new) ~= "table" then
    return { new }
  elseif is_list(old) ~= is_list(new) then
    return { new } -- an empty table may be either
  elseif not is_list(old) then
    return table_change(old, new, past)
  end
  local change, same = list_change(old, new)
  if same or (not change and same_lists(old, new)) then
    return nil
  end
  return change or { new }
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

local function apply_table(old, change, past)
  local new, at, keys, last = {}, 0, sorted_keys(old), nil
  local list, added = change[1], change[2] ~= 0 and change[2] or {}
  for key, value in pairs(old) do
    new[key] = value
  end
  for i = 1, #list, 2 do
    at = at + list[i] + 1
    local key = keys[at]
    if list[i + 1] == false then
      new[key] = nil
    else
      new[key] = M.apply(old[key], list[i + 1], below(past, key))
    end
  end
  for i = 1, #added, 2 do
    last = M.apply(template(past, added[i], last), added[i + 1])
    new[added[i]] = last
  end
  remember(old, new, past)
  return new
end

--- The value that `old` became. What did not change is shared with `old`.
---@param old any
---@param change any As of `between`, nil (or 0) included; it may have been JSON meanwhile.
---@param past? table Of `past()`, if `between` had one.
---@return any new
function M.apply(old, change, past)
  if change == nil or change == 0 then
    return old
  elseif type(change) == "number" then
    return old + change
  elseif change.of then
    return apply_list(old, change.of)
  elseif #change == 1 then
    return change[1]
  end
  return apply_table(old, change, past)
end

return M
