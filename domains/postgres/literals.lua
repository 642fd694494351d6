--- The text of a statement without its literals: they may be anybody's data, and the same statement
--- with other values is to read the same.

local M = {}

-- Where a literal that begins at `from` ends; a text that was cut short ends inside of it.
local function end_of_string(text, from, has_escapes)
  local at = from + 1
  while true do
    local found = text:find(has_escapes and "['\\]" or "'", at)
    if not found then
      return #text
    elseif text:sub(found, found) == "\\" then
      at = found + 2
    elseif text:sub(found + 1, found + 1) == "'" then
      at = found + 2 -- a quote inside
    else
      return found
    end
  end
end

-- The next literal from a position on: where it begins, and where it ends.
local function next_literal(text, from)
  local at = from
  while true do
    local first = text:find("['\"$%d%-/]", at)
    if not first then
      return nil
    end
    local char, before = text:sub(first, first), text:sub(first - 1, first - 1)
    if char == "'" then
      local has_escapes = text:sub(math.max(1, first - 2), first - 1):find("%f[%w_][eE]$") ~= nil
      return first, end_of_string(text, first, has_escapes)
    elseif char == '"' then
      at = (text:find('"', first + 1, true) or #text) + 1 -- a name
    elseif text:find("^%-%-", first) then
      at = (text:find("\n", first, true) or #text) + 1
    elseif text:find("^/%*", first) then
      at = (select(2, text:find("*/", first, true)) or #text) + 1
    elseif text:find("^%$%d", first) then
      at = select(2, text:find("^%$%d+", first)) + 1 -- a parameter
    elseif text:find("^%$[%a_]*[%w_]*%$", first) and not before:find("[%w_]") then
      local tag = text:match("^%$[%w_]*%$", first)
      return first, select(2, text:find(tag, first + #tag, true)) or #text
    elseif char:find("%d") and not before:find("[%w_]") then
      return first, select(2, text:find("^[%d.]+[eE]?[%d]*", first))
    elseif char:find("%d") then
      at = select(2, text:find("^[%w_]+", first)) + 1 -- of a name
    else
      at = first + 1
    end
  end
end

--- Puts `?` for each string and number.
---@param text? string
---@param max_bytes integer What is longer is cut at a character, with `…` after it.
---@return string?
function M.remove(text, max_bytes)
  if not text then
    return nil
  end
  local parts, at = {}, 1
  while true do
    local first, last = next_literal(text, at)
    if not first then
      break
    end
    parts[#parts + 1] = text:sub(at, first - 1) .. "?"
    at = last + 1
  end
  local plain = (table.concat(parts) .. text:sub(at)):gsub("%s+", " ")
  if #plain > max_bytes then
    local cut = max_bytes
    while cut > 0 and plain:find("^[\128-\191]", cut + 1) do
      cut = cut - 1
    end
    plain = plain:sub(1, cut) .. "…"
  end
  return plain
end

return M
