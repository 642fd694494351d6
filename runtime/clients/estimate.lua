--- What a request will cost, before it is sent, and learning from what it did cost.
---
--- Two figures: the likely cost, which decides whether a budget still has room, and the most that
--- is to be expected, which is held back while requests of others run at the same time. Both begin
--- careful (a token per three bytes, nothing cached) and follow what the client's answers report.
--- Where no price is known, but the provider reports what it charged, that is what is learned from.

local json = require("runtime.json")
local prices = require("runtime.clients.prices")

local M = {}

-- How much of what was known an answer leaves in force.
local KEEP = 0.5
local MOST_TOKENS_PER_BYTE = 0.5
-- The most is so many times the likely, at least: what was learned may be exceeded.
local MARGIN = 1.5
-- What the first request of an unknown price is taken to cost, and to hold back: all that there is,
-- so that it goes alone. Later a token of the answer may cost so many times the average of all.
local FIRST_USD, ALL_USD = 0.01, 1e9
local MOST_OF_AVERAGE = 10

---@class estimate.Cost
---@field usd number 0 where no price is known.
---@field tokens number

---@class estimate.Estimate
local Estimate = {}
local estimate_mt = { __index = Estimate }

--- An estimate that has seen no answer.
---@param opts? { reports_cost?: boolean } Answers say what they cost.
---@return estimate.Estimate
function M.new(opts)
  return setmetatable({ reports_cost = opts and opts.reports_cost, tokens_per_byte = 1 / 3,
    output = 300, discount = 1, tools = setmetatable({}, { __mode = "k" }) }, estimate_mt)
end

-- The tools are the same table for each request.
local function bytes_of_tools(self, tools)
  if not tools then
    return 0
  end
  self.tools[tools] = self.tools[tools] or #json.encode(tools)
  return self.tools[tools]
end

-- Bytes of what a model reads of a request.
local function bytes_of(self, request)
  local bytes = #(request.system or "") + bytes_of_tools(self, request.tools)
  for _, message in ipairs(request.messages or {}) do
    bytes = bytes + #(message.text or "")
    if message.call then
      bytes = bytes + #json.encode_once(message.call.args or {})
    end
  end
  return bytes
end

local function usd(price, input, output)
  return prices.cost_usd(price, { input = input, output = output }) or 0
end

-- The likely cost and the most in USD, where no price is known.
local function unpriced(self, likely_tokens, most_input, most_output)
  if not self.reports_cost then
    return 0, 0
  elseif not self.usd_per_token then
    return FIRST_USD, ALL_USD
  end
  return likely_tokens * self.usd_per_token,
    (MARGIN * most_input + MOST_OF_AVERAGE * most_output) * self.usd_per_token
end

local function priced(self, price, input, output, most_input, most_output)
  local dear = prices.for_prompt(price, most_input)
  local dearest = math.max(dear.input, dear.cache_write or 0)
  return usd(price, input, output) * self.discount,
    (most_input * dearest + most_output * dear.output) / 1e6
end

--- What a request will cost.
---@param request table As for the registry.
---@param price? table
---@param max_tokens integer
---@return { likely: estimate.Cost, most: estimate.Cost, bytes: integer }
function Estimate:of(request, price, max_tokens)
  local bytes = bytes_of(self, request)
  local input = math.ceil(bytes * self.tokens_per_byte)
  local output = math.ceil(self.output)
  local most_input = math.ceil(bytes * math.max(MOST_TOKENS_PER_BYTE,
    MARGIN * self.tokens_per_byte))
  local most_output = math.max(max_tokens, math.ceil(MARGIN * output))
  local likely_usd, most_usd
  if price then
    likely_usd, most_usd = priced(self, price, input, output, most_input, most_output)
  else
    likely_usd, most_usd = unpriced(self, input + output, most_input, most_output)
  end
  return {
    bytes = bytes,
    likely = { tokens = input + output, usd = likely_usd },
    most = { tokens = most_input + most_output, usd = most_usd },
  }
end

--- True when a budget in USD can count what a request costs.
---@param price? table
function Estimate:counts_usd(price)
  return price ~= nil or self.reports_cost == true
end

local function follow(known, seen)
  return KEEP * known + (1 - KEEP) * seen
end

--- Learns from an answer.
---@param bytes integer As `of` counted them.
---@param usage providers.Usage
---@param price? table
function Estimate:learn(bytes, usage, price)
  local tokens = prices.tokens(usage)
  if not tokens or not usage.output or bytes == 0 then
    return
  end
  local input = tokens - usage.output
  self.tokens_per_byte = follow(self.tokens_per_byte, input / bytes)
  self.output = follow(self.output, usage.output)
  local full_usd, cost_usd = usd(price, input, usage.output), prices.cost_usd(price, usage)
  if not price and tokens > 0 then
    -- One that does not report it after all is unknown from now on.
    self.reports_cost = usage.cost_usd ~= nil
    self.usd_per_token = cost_usd
      and follow(self.usd_per_token or cost_usd / tokens, cost_usd / tokens)
  elseif cost_usd and full_usd > 0 then
    self.discount = follow(self.discount, cost_usd / full_usd)
  end
end

return M
