--- JSON as models write it, read into nodes: with comments, missing and doubled commas, names
--- without quotes, and brackets that are never closed.
---
--- A node is { kind = "text"|"number"|"boolean"|"null"|"list"|"object", value, complete } with
--- `items` (nodes) of a list, `entries` ({ key, node } each) of an object, and `source` of a
--- number. `complete` is false for what the end of the text cuts.

local strings = require("runtime.tolerant.strings")

local M = {}

local MAX_DEPTH = 100
-- Brackets in prose are tried this often; after that the rest of the text is not looked at.
local MAX_TRIES = 200

local function skip_blank(text, at)
  while true do
    local after = text:match("^[ \t\r\n]+()", at) or text:match("^//[^\n]*()", at)
      or text:match("^# [^\n]*()", at) or text:match("^/%*.-%*/()", at)
      or text:match("^\194\160()", at)
    if not after then
      return at
    end
    at = after
  end
end

local LITERALS = {
  ["true"] = { kind = "boolean", value = true },
  ["false"] = { kind = "boolean", value = false },
  ["null"] = { kind = "null" },
}

--- The node of a word without quotes.
---@param word string
---@param complete boolean
function M.bare(word, complete)
  local literal = LITERALS[word]
  if literal then
    return { kind = literal.kind, value = literal.value, complete = complete, source = word }
  end
  local number = word:find("^%-?%d+%.?%d*[eE]?[+-]?%d*$") and tonumber(word)
  if number then
    return { kind = "number", value = number, source = word, complete = complete }
  end
  return { kind = "text", value = word, bare = true, complete = complete }
end

-- A word without quotes goes to what ends it: in an object, a comma before the next key.
local function read_bare(text, at, where)
  local scan = at
  while true do
    local stop = text:find(where == "value" and "[,}%]\n]" or "[,%]\n]", scan)
    local char = stop and text:sub(stop, stop)
    local next_at = stop and char == "," and skip_blank(text, stop + 1)
    if not stop or char ~= "," or where == "item" or strings.key_at(text, next_at)
        or text:find("^[},%]]", next_at) or next_at > #text then
      local word = text:sub(at, (stop or #text + 1) - 1)
      word = word:gsub("%s+//.*$", ""):gsub("%s+# .*$", ""):gsub("%s+$", "")
      if word == "" then
        return nil
      end
      return M.bare(word, stop ~= nil), stop or #text + 1
    end
    scan = stop + 1
  end
end

local read_value

local function read_key(text, at)
  local name, after, complete = strings.read(text, at, "key")
  if name then
    return name, after, complete
  end
  local word, stop = text:match("^([^{}%[%]\"',:\n]+)()", at)
  if not word then
    return nil
  end
  return word:match("^%s*(.-)%s*$"), stop, stop <= #text
end

-- The value after a colon. None at all is left out.
local function read_entry(node, text, at, name, depth)
  at = skip_blank(text, at + 1)
  if at > #text then
    return at
  elseif text:find("^[,}]", at) then
    return at
  end
  local value, after = read_value(text, at, "value", depth + 1)
  if not value then
    return nil
  end
  table.insert(node.entries, { name, value })
  return after
end

-- One key with its value: where it ends, or nil when there is none.
local function read_pair(node, text, at, depth)
  local name, after = read_key(text, at)
  after = name and skip_blank(text, after)
  if not name or after > #text then
    return after
  elseif text:sub(after, after) ~= ":" then
    return nil
  end
  return read_entry(node, text, after, name, depth)
end

local function read_object(text, at, depth)
  local node = { kind = "object", entries = {}, complete = false }
  at = at + 1
  while true do
    at = skip_blank(text, at)
    local char = text:sub(at, at)
    if char == "" then
      return node, at
    elseif char == "}" then
      node.complete = true
      return node, at + 1
    elseif char == "," then
      at = at + 1
    else
      at = read_pair(node, text, at, depth)
      if not at then
        return nil
      end
    end
  end
end

local function read_list(text, at, depth)
  local node = { kind = "list", items = {}, complete = false }
  at = at + 1
  while true do
    at = skip_blank(text, at)
    if at > #text then
      return node, at
    elseif text:sub(at, at) == "]" then
      node.complete = true
      return node, at + 1
    elseif text:sub(at, at) == "," then
      at = at + 1
    else
      local item, after = read_value(text, at, "item", depth + 1)
      -- A brace that opens nothing in here closes what is around.
      if not item then
        return text:sub(at, at) == "}" and node or nil, at
      end
      table.insert(node.items, item)
      at = after
    end
  end
end

function read_value(text, at, where, depth)
  if depth > MAX_DEPTH then
    return nil
  end
  local char = text:sub(at, at)
  if char == "{" then
    return read_object(text, at, depth)
  elseif char == "[" then
    return read_list(text, at, depth)
  elseif char == "}" or char == "]" then
    return nil
  end
  local value, after, complete = strings.read(text, at, where)
  if value then
    return { kind = "text", value = value, complete = complete }, after
  end
  return read_bare(text, at, where)
end

-- Where each bracket is closed, by counting.
local function closing_brackets(text)
  local closed, open = {}, {}
  for position, char in text:gmatch("()([{}%[%]])") do
    if char == "{" or char == "[" then
      open[#open + 1] = position
    elseif #open > 0 then
      closed[table.remove(open)] = position
    end
  end
  return closed
end

--- The objects and lists in a text, whatever is around them.
---@param text string
---@return table[] nodes In their order; none inside another. `from` and `after` say where each is.
function M.find(text)
  local nodes, at, closed = {}, 1, nil
  for _ = 1, MAX_TRIES do
    at = text:find("[{%[]", at)
    if not at then
      break
    end
    local node, after = read_value(text, at, "top", 1)
    if node then
      nodes[#nodes + 1] = node
      node.from, node.after = at, math.max(after, at + 1)
      at = node.after
    else
      closed = closed or closing_brackets(text)
      at = (closed[at] or at) + 1
    end
  end
  return nodes
end

--- The whole text as one value without brackets: quoted, a number, a word, or just text.
---@param text string
---@return table node
function M.scalar(text)
  local trimmed = text:match("^%s*(.-)%s*$")
  local value, after, complete = strings.read(trimmed, 1, "top")
  if value and complete and after > #trimmed then
    return { kind = "text", value = value, complete = true }
  end
  return M.bare(trimmed, false)
end

return M
