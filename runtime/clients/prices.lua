--- What models cost, in USD per million tokens, and the cost of one answer.
---
--- Only prices that a provider publishes for everyone; a model that is not here has no known cost,
--- and `options.price` of a client sets it. Source: the providers' price lists, January 2026.

local M = {}

local function anthropic(input, output)
  -- Reading the cache costs a tenth of input, writing to it (5 minutes) a quarter more.
  return { input = input, output = output, cache_read = input * 0.1, cache_write = input * 1.25 }
end

local PRICES = {
  ["claude-haiku-4-5"] = anthropic(1, 5),
  ["claude-sonnet-4-5"] = anthropic(3, 15),
  ["claude-opus-4-5"] = anthropic(5, 25),
  ["claude-opus-4-1"] = anthropic(15, 75),
  ["claude-opus-4"] = anthropic(15, 75),
  ["claude-sonnet-4"] = anthropic(3, 15),
  ["claude-3-7-sonnet"] = anthropic(3, 15),
  ["claude-3-5-sonnet"] = anthropic(3, 15),
  ["claude-3-5-haiku"] = anthropic(0.8, 4),
  ["rules"] = { input = 0, output = 0 },
}

--- The price of a model, by its name with or without the date of its version.
---@param model string
---@return { input: number, output: number, cache_read?: number, cache_write?: number }?
function M.of(model)
  local name = model:gsub("%-%d%d%d%d%d%d%d%d$", ""):gsub("%-latest$", ""):gsub("%-0$", "")
  return PRICES[name]
end

--- The cost of an answer in USD.
---@param price table? As `of` returns it. A missing cache price is that of input.
---@param usage providers.Usage
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

return M
