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
local traces = require("runtime.loader.trace")

local M = {}

local FIELDS = { input = true, output = true, cache_read = true, cache_write = true }

-- Where a model is served, in front of its name: a region of Bedrock, its maker, a folder.
local REGIONS = { us = true, eu = true, apac = true, ap = true, jp = true, au = true, ca = true,
  sa = true, global = true, ["us-gov"] = true }
local MAKERS = { anthropic = true, amazon = true, openai = true, google = true, models = true,
  ["x-ai"] = true, deepseek = true }

local function without_place(name)
  local region, rest = name:match("^([%w-]+)%.(.+)$")
  if region and REGIONS[region] then
    name = rest
  end
  local maker
  maker, rest = name:match("^([%w-]+)[./](.+)$")
  return maker and MAKERS[maker] and rest or name
end

-- The plain name: without where it is served, its version and that version's date.
local function plain(model)
  local name = without_place(model:lower()):gsub("^publishers/[^/]+/models/", "")
    :gsub("%-v%d+:%d+$", ""):gsub("@[%w-]+$", "")
  if name:find("^claude") then
    name = name:gsub("%.", "-")
  end
  return (name:gsub("%-%d%d%d%d%d%d%d%d$", ""):gsub("%-%d%d%d%d%-%d%d%-%d%d$", "")
    :gsub("%-latest$", ""):gsub("%-0$", ""):gsub("%-00%d$", ""))
end

--- The price of a model: by its name as it is, else by its plain name.
---@param model string
---@param own? table<string, table> As `load` returns it; it wins over the built-in list.
---@return { input: number, output: number, cache_read?: number, cache_write?: number }?
function M.of(model, own)
  local name = plain(model)
  for _, list in ipairs({ own or {}, price_list }) do
    local price = list[model] or list[name]
    if price then
      return price
    end
  end
end

local function problem_of(price)
  if type(price) ~= "table" then
    return "must be { input, output, cache_read?, cache_write? } in USD per million tokens"
  end
  for field, usd in pairs(price) do
    if not FIELDS[field] then
      return ("unknown field %q%s"):format(tostring(field),
        suggest.hint(tostring(field), suggest.keys(FIELDS)))
    elseif type(usd) ~= "number" or not (usd >= 0 and usd < math.huge) then
      return ("%s must be a number of USD per million tokens"):format(field)
    end
  end
  if not price.input or not price.output then
    return "needs input and output"
  end
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

--- Checks a price table.
---@param value any What the file returned.
---@param source string
---@param path string
---@return string[] mistakes `FILE:LINE: text`, by line.
function M.check(value, source, path)
  if type(value) ~= "table" then
    return { ("%s:1: a price table is a table of model name and price"):format(path) }
  end
  local mistakes = {}
  for model, price in pairs(value) do
    local problem = type(model) ~= "string" and "the key must be a model's name"
      or problem_of(price)
    if problem then
      mistakes[#mistakes + 1] = { line = line_of(source, tostring(model)),
        text = ("model %q: %s"):format(tostring(model), problem) }
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

--- The cost of an answer in USD.
---@param price table? As `of` returns it. A missing cache price is that of input.
---@param usage providers.Usage Reasoning is part of its output.
---@return number? usd nil when the price or the usage is unknown.
function M.cost_usd(price, usage)
  if not price or not usage.input or not usage.output then
    return nil
  end
  return (usage.input * price.input
    + usage.output * price.output
    + (usage.cache_read or 0) * (price.cache_read or price.input)
    + (usage.cache_write or 0) * (price.cache_write or price.input)) / 1e6
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
