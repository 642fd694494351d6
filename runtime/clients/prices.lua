--- Price tables: what a model costs, and the cost of one answer.
---
---   local table = assert(prices.load("/etc/beamlens/prices.lua"))   -- over the built-in list
---   local price = prices.of("us.anthropic.claude-haiku-4-5-20251001-v1:0", table)
---   prices.cost_usd(price, { input = 1000, output = 50 })           -- 0.00125
---
--- A model that is in no table has no known cost: its calls count in tokens alone.

local loader = require("runtime.loader")
local price_list = require("runtime.clients.price_list")
local suggest = require("runtime.suggest")
local tables = require("runtime.loader.tables")
local traces = require("runtime.loader.trace")

local M = {}

local FIELDS = { input = true, output = true, cache_read = true, cache_write = true,
  cache_write_1h = true, long = true, regional = true }
local SHAPE = "{ input, output, cache_read?, cache_write? } in USD per million tokens"

-- Where a model is served, in front of its name: a region of Bedrock, its maker, a folder.
local REGIONS = { us = true, eu = true, apac = true, ap = true, jp = true, au = true, ca = true,
  sa = true, global = true, ["us-gov"] = true }
local MAKERS = { anthropic = true, amazon = true, openai = true, google = true, models = true,
  ["x-ai"] = true, deepseek = true }

-- Bedrock's names have a dot behind the maker: all but its profile `global.` are regional.
local function without_place(name)
  -- An inference profile of Bedrock's own ends with its name, one of the user's with an id.
  name = name:gsub("^arn:aws[%w-]*:bedrock:.*/", "")
  local region, rest = name:match("^([%w-]+)%.(.+)$")
  if REGIONS[region] then
    name = rest
  end
  local maker, mark
  maker, mark, rest = name:match("^([%w-]+)([./])(.+)$")
  if not MAKERS[maker] then
    return name, false
  end
  return rest, mark == "." and region ~= "global"
end

-- The plain name: without where it is served, its version and that version's date.
local function plain(model)
  local name, is_regional = without_place(model:lower())
  name = name:gsub("^publishers/[^/]+/models/", "")
    :gsub("%-v%d+:%d+$", ""):gsub("%-v%d+$", ""):gsub("@[%w-]+$", "")
  if name:find("^claude") then
    name = name:gsub("%.", "-")
  end
  return name:gsub("%-%d%d%d%d%d%d%d%d$", ""):gsub("%-%d%d%d%d%-%d%d%-%d%d$", "")
    :gsub("%-latest$", ""):gsub("%-0$", ""):gsub("%-00%d$", ""), is_regional
end

local function scaled(price, factor)
  local copy = {}
  for field, value in pairs(price) do
    if field == "long" then
      copy.long = scaled(value, factor)
    elseif field ~= "regional" then
      copy[field] = field == "over" and value or value * factor
    end
  end
  return copy
end

---@class prices.Price In USD per million tokens.
---@field input number
---@field output number
---@field cache_read? number Default: as input.
---@field cache_write? number Default: as input.
---@field cache_write_1h? number Default: as cache_write.
---@field long? table The same of a request with more than `over` tokens in its prompt.
---@field regional? number Factor for Bedrock's names, those with `global.` excepted.

--- The price of a model: by its name as it is, else by its plain name.
---@param model string
---@param own? table<string, prices.Price> As `load` returns it; it wins over the built-in list.
---@return prices.Price?
function M.of(model, own)
  local name, is_regional = plain(model)
  for _, list in ipairs({ own or {}, price_list }) do
    local price = list[model] or list[name]
    if price then
      return is_regional and price.regional and price ~= list[model]
        and scaled(price, price.regional) or price
    end
  end
end

local function is_usd(value)
  return type(value) == "number" and value >= 0 and value < math.huge
end

-- What is wrong with one field of a price; nil: nothing.
local function problem_in(field, value, is_long)
  if not FIELDS[field] and not (is_long and field == "over") then
    return ("unknown field %q%s"):format(tostring(field),
      suggest.hint(tostring(field), suggest.keys(FIELDS)))
  elseif not is_usd(value) then
    return ("%s must be a number of USD per million tokens"):format(field)
  end
end

-- All that is wrong with a price: `{ text, field }` each, as far as it is one field's.
local function problems_of(price, is_long)
  if type(price) ~= "table" then
    return { { text = "must be " .. SHAPE } }
  end
  local list = {}
  for field, value in pairs(price) do
    if field == "long" and not is_long then
      for _, problem in ipairs(problems_of(value, true)) do
        list[#list + 1] = { text = "long: " .. problem.text, field = "long",
          inner = problem.field }
      end
    else
      local text = problem_in(field, value, is_long)
      list[#list + 1] = text and { text = text, field = field }
    end
  end
  if not price.input or not price.output then
    list[#list + 1] = { text = "needs input and output" }
  end
  if is_long and not price.over then
    list[#list + 1] = { text = "needs over, the tokens from which it counts" }
  end
  table.sort(list, function(x, y)
    return x.text < y.text
  end)
  return list
end

--- All that is wrong with one price, or nil.
---@param price any
---@return string?
function M.problem_of(price)
  local texts = {}
  for i, problem in ipairs(problems_of(price)) do
    texts[i] = problem.text
  end
  return texts[1] and table.concat(texts, "; ")
end

-- The line that names the model as a key.
local function line_of(source, model)
  local line = 0
  for text in (source .. "\n"):gmatch("(.-)\n") do
    line = line + 1
    local at, stop = text:find(model, 1, true)
    if at and text:find("^[\"'%]%s]*=", stop + 1) then
      return line
    end
  end
  return 1
end

-- The line of a problem in a table that is written out: its field's, else that of what holds it.
local function written_at(written, model, problem)
  local found = written and written.fields[model]
  local line = found and found.line
  for _, name in ipairs({ problem.field or false, problem.inner or false }) do
    found = found and found.value and found.value.fields[name]
    line = found and found.line or line
  end
  return line
end

-- The mistakes of a model's price, each with its line.
local function mistakes_of(model, price, source, written)
  if type(model) ~= "string" then
    return { { line = line_of(source, tostring(model)),
      text = ("model %q: the key must be a model's name"):format(tostring(model)) } }
  end
  local list = problems_of(price)
  for i, problem in ipairs(list) do
    list[i] = { line = written_at(written, model, problem) or line_of(source, model),
      text = ("model %q: %s"):format(model, problem.text) }
  end
  return list
end

--- Checks a price table.
---@param value any What the file returned.
---@param source string
---@param path string
---@return string[] mistakes `FILE:LINE: text`, by line.
function M.check(value, source, path)
  if type(value) ~= "table" then
    return { ("%s:1: a price table is a table of model name and price"):format(path) }
  end
  local mistakes, written = {}, tables.read(source)
  for model, price in pairs(value) do
    for _, mistake in ipairs(mistakes_of(model, price, source, written)) do
      mistakes[#mistakes + 1] = mistake
    end
  end
  table.sort(mistakes, function(a, b)
    return a.line < b.line or (a.line == b.line and a.text < b.text)
  end)
  for i, mistake in ipairs(mistakes) do
    mistakes[i] = ("%s:%d: %s"):format(path, mistake.line, mistake.text)
  end
  return mistakes
end

--- Reads a user's price table and checks it.
---@param path string
---@param trace? trace.Trace Is told what the file depends on.
---@return table<string, table>? table
---@return string? err A line `FILE:LINE: text` for each mistake.
function M.load(path, trace)
  trace = trace or traces.new()
  local source, err = trace:read(path)
  if not source then
    return nil, err
  end
  local value
  value, err = loader.run(source, path, nil, trace)
  if err then
    return nil, err
  end
  local mistakes = M.check(value, source, path)
  if #mistakes > 0 then
    return nil, table.concat(mistakes, "\n")
  end
  return value
end

--- The prices for a prompt of so many tokens.
---@param price prices.Price
---@param prompt_tokens number
---@return prices.Price
function M.for_prompt(price, prompt_tokens)
  return price.long and prompt_tokens > price.long.over and price.long or price
end

--- The cost of an answer in USD: what its provider says, else by the price.
---@param price prices.Price?
---@param usage providers.Usage Reasoning is part of its output.
---@return number? usd nil when the price or the usage is unknown.
function M.cost_usd(price, usage)
  if usage.cost_usd then
    return usage.cost_usd
  elseif not price or not usage.input or not usage.output then
    return nil
  end
  local read, write = usage.cache_read or 0, usage.cache_write or 0
  local write_1h = math.min(write, usage.cache_write_1h or 0)
  price = M.for_prompt(price, usage.input + read + write)
  local write_usd = price.cache_write or price.input
  return (usage.input * price.input
    + usage.output * price.output
    + read * (price.cache_read or price.input)
    + (write - write_1h) * write_usd
    + write_1h * (price.cache_write_1h or write_usd)) / 1e6
end

--- All tokens of an answer.
---@param usage providers.Usage
---@return integer? tokens nil when nothing was reported.
function M.tokens(usage)
  if not usage.input and not usage.output then
    return nil
  end
  return (usage.input or 0) + (usage.output or 0) + (usage.cache_read or 0)
    + (usage.cache_write or 0)
end

return M
