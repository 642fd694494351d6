--- Quoted text as models write it: with quotes of every kind, unescaped quotes and line breaks
--- inside, or without an end.
---
--- An inner quote is told from the closing one by what follows: after the closing one of a key
--- comes a colon; of a value, a comma and the next key, or the end of what holds it.

local lpeg = require("lpeg")

local M = {}

local P, R, S, C, Cs = lpeg.P, lpeg.R, lpeg.S, lpeg.C, lpeg.Cs

local blank = S(" \t\r\n")
local ws = blank ^ 0
local eof = -P(1)
local comment = P("//") + P("/*") + P("#") * S(" \t")
local quote = S("\"'`") + P("“") + P("”")
local word = R("az", "AZ", "__", "$$", "\128\255") * (R("az", "AZ", "09", "__", "$$", "\128\255")
  + S(".-")) ^ -60
local quoted_key = quote * (1 - S("\"'`\n{}[],")) ^ 1 * quote * ws * ":"
local key = quoted_key + word * ws * ":"
-- Where a comma is missing; `object:method` is none.
local next_key = quoted_key + word * ws * ":" * #(blank + quote + S("{[-") + R("09"))
local closer = S("}]")

-- What follows the closing quote, by what the text is.
local AFTER = {
  key = ws * ":",
  value = ws * (eof + closer + "," * ws * (eof + closer + "," + quote + key + comment)
    + #comment) + blank ^ 1 * next_key,
  item = ws * (eof + closer + ",") + blank ^ 1 * (quote + comment),
  top = ws * eof,
}

local function code_point(code)
  if code < 0x80 then
    return string.char(code)
  elseif code < 0x800 then
    return string.char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40)
  elseif code < 0x10000 then
    return string.char(0xE0 + math.floor(code / 0x1000), 0x80 + math.floor(code / 0x40) % 0x40,
      0x80 + code % 0x40)
  end
  return string.char(0xF0 + math.floor(code / 0x40000), 0x80 + math.floor(code / 0x1000) % 0x40,
    0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
end

local ESCAPED = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\",
  ["/"] = "/", ["'"] = "'", ["`"] = "`", ["\n"] = "" }
local hex = R("09", "af", "AF")
local hex4 = hex * hex * hex * hex
local high = P("\\u") * C(S("dD") * S("89abAB") * hex * hex)
local low = P("\\u") * C(S("dD") * R("cf", "CF") * hex * hex)

-- An escape that JSON does not know stays as it is.
local unescape = Cs((
  high * low / function(first, second)
    return code_point(0x10000 + (tonumber(first, 16) - 0xD800) * 0x400
      + tonumber(second, 16) - 0xDC00)
  end
  + P("\\u") * C(hex4) / function(digits)
    local code = tonumber(digits, 16)
    return (code >= 0xD800 and code < 0xE000) and "\239\191\189" or code_point(code)
  end
  + P("\\") * C(S("bfnrt\"\\/'`\n")) / ESCAPED
  + 1) ^ 0)

-- The text without the indentation that all of its lines share.
local function dedented(text)
  text = text:gsub("^[ \t]*\r?\n", ""):gsub("\r?\n[ \t]*$", "")
  local least
  for indent in ("\n" .. text):gmatch("\n([ \t]*)%f[^ \t\r\n]") do
    least = math.min(least or #indent, #indent)
  end
  if not least or least == 0 then
    return text
  end
  return (("\n" .. text):gsub("\n" .. ("[ \t]"):rep(least), "\n"):sub(2))
end

local TRIPLE = { ['"""'] = true, ["```"] = true, ["'''"] = true }
local QUOTES = { ['"'] = '"', ["'"] = "'", ["`"] = "`", ["“"] = "”" }

-- The language after an opening ``` is no part of the text.
local function read_triple(text, at, fence)
  local from = at + #fence
  if fence == "```" then
    from = text:match("^[%w_+-]*[ \t]*\r?\n()", from) or from
  end
  local stop = text:find(fence, from, true)
  local inner = text:sub(from, (stop or #text + 1) - 1)
  return dedented(inner), stop and stop + #fence or #text + 1, stop ~= nil
end

--- Reads quoted text.
---@param text string
---@param at integer Where it begins.
---@param where "key"|"value"|"item"|"top"
---@return string? value nil: there is no quote.
---@return integer? after
---@return boolean? complete It has its end.
function M.read(text, at, where)
  local fence = text:sub(at, at + 2)
  if TRIPLE[fence] and where ~= "key" and not (fence ~= "```" and AFTER[where]:match(text, at + 2))
  then
    return read_triple(text, at, fence)
  end
  local open = text:match('^["\'`]', at) or text:match("^“", at)
  if not open then
    return nil
  end
  local stop = QUOTES[open]
  local from = at + #open
  local scan = from
  while true do
    local found = text:find("[\\" .. stop .. "]", scan)
    if not found then
      return unescape:match(text:sub(from)), #text + 1, false
    elseif text:sub(found, found) == "\\" then
      scan = found + 2
    elseif text:sub(found, found + #stop - 1) == stop
        and AFTER[where]:match(text, found + #stop) then
      return unescape:match(text:sub(from, found - 1)), found + #stop, true
    else
      scan = found + 1
    end
  end
end

--- The length of the key with its colon that begins at `at`, or nil.
---@return integer? after
function M.key_at(text, at)
  return (ws * key):match(text, at)
end

return M
