--- Numbers, booleans and names out of text that a model wrote for them.

local M = {}

local FOLDED = {
  ["à"] = "a", ["á"] = "a", ["â"] = "a", ["ã"] = "a", ["ä"] = "a", ["å"] = "a", ["ç"] = "c",
  ["è"] = "e", ["é"] = "e", ["ê"] = "e", ["ë"] = "e", ["ì"] = "i", ["í"] = "i", ["î"] = "i",
  ["ï"] = "i", ["ñ"] = "n", ["ò"] = "o", ["ó"] = "o", ["ô"] = "o", ["õ"] = "o", ["ö"] = "o",
  ["ù"] = "u", ["ú"] = "u", ["û"] = "u", ["ü"] = "u", ["ý"] = "y", ["ÿ"] = "y", ["ß"] = "ss",
  ["À"] = "a", ["Á"] = "a", ["Â"] = "a", ["Ã"] = "a", ["Ä"] = "a", ["Å"] = "a", ["Ç"] = "c",
  ["È"] = "e", ["É"] = "e", ["Ê"] = "e", ["Ë"] = "e", ["Ì"] = "i", ["Í"] = "i", ["Î"] = "i",
  ["Ï"] = "i", ["Ñ"] = "n", ["Ò"] = "o", ["Ó"] = "o", ["Ô"] = "o", ["Õ"] = "o", ["Ö"] = "o",
  ["Ù"] = "u", ["Ú"] = "u", ["Û"] = "u", ["Ü"] = "u", ["Ý"] = "y",
}

--- Half away from zero.
---@param value number
---@return number
function M.round(value)
  return value >= 0 and math.floor(value + 0.5) or -math.floor(-value + 0.5)
end

local function finite(value)
  return value and value == value and math.abs(value) < math.huge and value or nil
end

--- The number that a text is: with a currency's sign, thousands' commas, a percent sign, or as a
--- fraction.
---@param text string
---@return number?
function M.exact_number(text)
  local plain = text:gsub("^%s+", ""):gsub("[%s,]+$", ""):gsub("^([+-]?)[$£]", "%1")
    :gsub("^€", ""):gsub("%s*€$", ""):gsub("%%$", "")
  local above, below = plain:match("^([+-]?%d+%.?%d*)%s*/%s*(%d+%.?%d*)$")
  if above then
    return finite(tonumber(above) / tonumber(below))
  end
  if plain:find("^[+-]?%d[%d,]*%.?%d*[eE]?[+-]?%d*$") and not plain:find(",,") then
    return finite(tonumber((plain:gsub(",", ""):gsub("^%+", ""))))
  elseif plain:find("^[+-]?%.%d+$") then
    return tonumber(plain)
  end
end

--- The only number in a text.
---@param text string
---@return number? nil: there is none, or more than one.
function M.only_number(text)
  local found
  if text:find("0[xX]%x") then
    return nil
  end
  for before, word in (" " .. text):gmatch("([^%d.,$€£-])([$€£-]*%.?%d[%d,]*%.?%d*%%?)") do
    if found or before:find("[%w_]") then
      return nil
    end
    found = word
  end
  return found and M.exact_number(found)
end

--- True or false, when a text names one of them and not the other.
---@param text string
---@return boolean?
function M.boolean(text)
  local lower = " " .. text:lower() .. " "
  local is_true = lower:find("%f[%w]true%f[^%w]") ~= nil
  local is_false = lower:find("%f[%w]false%f[^%w]") ~= nil
  if is_true ~= is_false then
    return is_true
  end
end

-- Small letters without accents.
local function folded(text)
  return (text:gsub("[\195][\128-\191]", FOLDED):lower())
end

-- Letters and digits alone.
local function letters(text)
  return (folded(text):gsub("[^%w\128-\255]+", ""))
end

local function same(text, names, normal)
  local wanted, found = normal(text), nil
  for _, name in ipairs(names) do
    if wanted ~= "" and normal(name) == wanted then
      if found then
        return nil
      end
      found = name
    end
  end
  return found
end

-- How often each name stands in the text; a longer one hides what it contains.
local function counts(text, names, normal)
  local longest_first = { unpack(names) }
  table.sort(longest_first, function(a, b)
    return #a > #b or (#a == #b and a < b)
  end)
  local left, found = normal(text), {}
  for _, name in ipairs(longest_first) do
    local wanted = normal(name)
    if wanted ~= "" then
      local pattern = wanted:gsub("%W", "%%%0")
      local count
      left, count = left:gsub(pattern, "\0")
      found[#found + 1] = { name = name, count = count }
    end
  end
  return found
end

local function most_frequent(found)
  local best, shared = nil, false
  for _, each in ipairs(found) do
    if each.count > 0 and (not best or each.count > best.count) then
      best, shared = each, false
    elseif each.count > 0 and each.count == best.count then
      shared = true
    end
  end
  return best and not shared and best.name or nil
end

--- The name that a text means: exactly, in another case, spelled with other signs, or, unless
--- `whole`, as the one that stands in it most often.
---@param text string
---@param names string[]
---@param whole? boolean
---@return string? name
---@return integer? penalty
function M.name(text, names, whole)
  local trimmed = text:match("^%s*(.-)%s*$")
  for _, name in ipairs(names) do
    if name == trimmed then
      return name, 0
    end
  end
  local found = same(trimmed, names, string.lower) or same(trimmed, names, folded)
    or same(trimmed, names, letters)
  if found then
    return found, 3
  elseif whole then
    return nil
  end
  for _, normal in ipairs({
    function(s)
      return s
    end,
    folded,
  }) do
    found = most_frequent(counts(text, names, normal))
    if found then
      return found, 5
    end
  end
end

return M
