--- The tables of a Lua file: on which line each field is written. The text is read as Lua, as far
--- as tables, locals and blocks go; what a file builds by other means is not found.

local lpeg = require("lpeg")

local P, R, S = lpeg.P, lpeg.R, lpeg.S
local C, Cc, Cg, Cmt, Cp, Ct, Cb = lpeg.C, lpeg.Cc, lpeg.Cg, lpeg.Cmt, lpeg.Cp, lpeg.Ct, lpeg.Cb

local M = {}

local OPENS = { ["function"] = true, ["do"] = true, ["if"] = true, ["repeat"] = true,
  ["("] = true, ["["] = true, ["{"] = true }
local CLOSES = { ["end"] = true, ["until"] = true, [")"] = true, ["]"] = true, ["}"] = true }

-- --- tokens --------------------------------------------------------------------------------------

local long_open = "[" * Cg(P("=") ^ 0, "level") * "["
local long_close = Cmt("]" * C(P("=") ^ 0) * "]" * Cb("level"), function(_, _, close, open)
  return close == open
end)
local long = Cg(long_open * (1 - long_close) ^ 0 * long_close / 0)
local comment = "--" * (long + (1 - P("\n")) ^ 0)
local skip = (S(" \t\r\n") + comment) ^ 0
local letter = R("az", "AZ") + "_"

local function quoted(mark)
  return mark * C((P("\\") * 1 + (1 - S("\\\n" .. mark))) ^ 0) * mark
end

local function token(kind, pattern)
  return Ct(Cg(Cp(), "at") * Cg(Cc(kind), "kind") * Cg(pattern, "text"))
end

local symbol = P("...") + ".." + "==" + "~=" + "<=" + ">=" + 1
local tokens = Ct((skip * (token("string", long / "" + quoted('"') + quoted("'"))
  + token("name", C(letter * (letter + R("09")) ^ 0))
  + token("number", C(R("09") * (R("09", "az", "AZ") + ".") ^ 0))
  + token("symbol", C(symbol)))) ^ 0)

local function tokens_of(source)
  local list = lpeg.match(tokens, source)
  local line, from = 1, 1
  for _, each in ipairs(list) do
    line = line + select(2, source:sub(from, each.at - 1):gsub("\n", ""))
    from, each.line = each.at, line
  end
  return list
end

-- --- tables --------------------------------------------------------------------------------------

---@class tables.Table
---@field line integer
---@field fields table<any, { line: integer, value?: tables.Table }>

local Reader = {}
local reader_mt = { __index = Reader }

function Reader:text(at)
  local found = self.list[at]
  return found and found.kind ~= "string" and found.text or nil
end

-- The position behind an expression: at `,`, `;` or what closes the table.
function Reader:skip(at)
  local depth = 0
  while self.list[at] do
    local text = self:text(at)
    if depth == 0 and (text == "," or text == ";" or CLOSES[text]) then
      return at
    end
    depth = depth + (OPENS[text] and 1 or CLOSES[text] and -1 or 0)
    at = at + 1
  end
  return at
end

-- The key that begins here, and the position of its value; nil for a value without one.
function Reader:key(at)
  local first = self.list[at]
  if first.kind == "name" and self:text(at + 1) == "=" then
    return first.text, at + 2
  elseif self:text(at) == "[" and self:text(at + 2) == "]" and self:text(at + 3) == "=" then
    local key = self.list[at + 1]
    return key.kind == "number" and tonumber(key.text) or key.text, at + 4
  end
end

-- A value that is a table, written here or as a local of the file.
function Reader:value(at)
  if self:text(at) == "{" then
    return (self:table(at))
  end
  local name, after = self.list[at], self:text(at + 1)
  if name and name.kind == "name" and (after == nil or after == "," or after == ";" or after == "}")
    and self.locals[name.text] and not self.reading[name.text] then
    self.reading[name.text] = true
    local found = self:table(self.locals[name.text])
    self.reading[name.text] = nil
    return found
  end
end

-- Reads the table that begins here.
function Reader:table(at)
  local found = { line = self.list[at].line, fields = {} }
  local count = 0
  at = at + 1
  while self.list[at] and self:text(at) ~= "}" do
    local line = self.list[at].line
    local key, value_at = self:key(at)
    if not key then
      count = count + 1
      key, value_at = count, at
    end
    if self.list[value_at] then
      found.fields[key] = { line = line, value = self:value(value_at) }
    end
    at = self:skip(value_at)
    if self:text(at) == "," or self:text(at) == ";" then
      at = at + 1
    elseif self:text(at) ~= "}" then
      break
    end
  end
  return found, at
end

-- Finds the tables that the file's own level gives names to, and what it returns.
function Reader:scan()
  local depth, returned = 0, nil
  for at in ipairs(self.list) do
    local text = self:text(at)
    if depth == 0 and text == "return" then
      returned = at + 1
    elseif depth == 0 and self.list[at].kind == "name" and self:text(at + 1) == "="
      and self:text(at + 2) == "{" then
      self.locals[text] = at + 2
    end
    depth = depth + (OPENS[text] and 1 or CLOSES[text] and -1 or 0)
  end
  return returned
end

--- Reads the tables of a file.
---@param source string
---@return tables.Table? returned What the file returns; nil where that is no plain table.
function M.read(source)
  local self = setmetatable({ list = tokens_of(source), locals = {}, reading = {} }, reader_mt)
  local at = self:scan()
  return at and self.list[at] and self:value(at)
end

return M
