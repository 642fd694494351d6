--- What a registry's requests cost: the client's price, the question to the budgets before a
--- request, and the correction after it.

local estimate = require("runtime.clients.estimate")
local failures = require("runtime.providers.failure")
local prices = require("runtime.clients.prices")

local M = {}

local DEFAULT_MAX_TOKENS = 4096
-- Failures before the model was at work; after others the provider may ask for money all the same.
local UNPAID = { auth = true, permission = true, not_found = true, invalid_request = true,
  context_length = true, rate_limit = true, quota = true, overloaded = true, server = true,
  connect = true }

-- A model on a machine of the user's own costs nothing; those of Ollama's service do.
local function price_of(client, own_prices)
  local model = client.handler.model
  local is_own = client.provider == "ollama" and not model:find("cloud$")
    and not client.handler.url:find("^https://ollama%.com%f[/%z:]")
  return prices.of(model, own_prices) or (is_own and { input = 0, output = 0 } or nil)
end

--- Gives a client its price and its estimate.
---@param client table Of a registry.
---@param own_prices? table<string, table>
function M.open(client, own_prices)
  client.price = client.options.price or price_of(client, own_prices)
  client.estimate = estimate.new({ reports_cost = client.handler.reports_cost })
end

-- The clients with a model that a client stands for, itself or by its members.
local function models_of(clients, name)
  local found, seen = {}, {}
  local function visit(client)
    if not client or seen[client] then
      return
    end
    seen[client] = true
    found[#found + 1] = client.handler and client or nil
    for _, member in ipairs(client.members or {}) do
      visit(clients[member])
    end
  end
  visit(clients[name])
  return found
end

--- The models that a client asks, itself or by its members, of which no price is known, and which
--- do not report what they cost.
---@param clients table<string, table>
---@param name string
---@return { name: string, model: string }[]
function M.unpriced(clients, name)
  local found = {}
  for _, client in ipairs(models_of(clients, name)) do
    found[#found + 1] = not client.estimate:counts_usd(client.price)
      and { name = client.name, model = client.handler.model } or nil
  end
  return found
end

--- What a token costs at most, with whichever model a client asks.
---@param clients table<string, table>
---@param name string
---@return number? usd nil when a price is not known.
function M.dearest_token_usd(clients, name)
  local usd = 0
  for _, client in ipairs(models_of(clients, name)) do
    local price = client.price
    if not price then
      return nil
    end
    for _, level in ipairs({ price, price.long }) do
      usd = math.max(usd, level.input, level.output, level.cache_write or 0,
        level.cache_write_1h or 0)
    end
  end
  return usd / 1e6
end

-- Whose money it is: the process's, that of a registry of a watcher's own, the watcher's.
local function accounts_of(registry, request)
  local accounts = { registry.ledger:account("process") }
  if registry.account ~= accounts[1] then
    accounts[2] = registry.account
  end
  accounts[#accounts + 1] = request.account
  return accounts
end

-- The failure of a request that no budget could count, where there are budgets in USD alone. What
-- a model may cost must be known beforehand.
local function uncounted(client, accounts)
  local has_usd, has_tokens = false, false
  for _, account in ipairs(accounts) do
    has_usd = has_usd or account.windows.usd_per_day.limit ~= nil
    has_tokens = has_tokens or account.windows.tokens_per_hour.limit ~= nil
  end
  if has_usd and not has_tokens and not client.estimate:counts_usd(client.price) then
    return failures.new("invalid_request", ("%s is not asked: no price of it is known, so "
      .. "usd_per_day cannot be kept; set the client's price, or tokens_per_hour as well"):format(
        client.handler.model))
  end
end

local function described(failure, client)
  failure.client, failure.provider = client.name, client.provider
  failure.model = client.handler.model
  return failure
end

--- Asks the budgets for one request.
---@async
---@param registry clients.Registry
---@param client table
---@param call table
---@param deadline_ms number
---@return table? admitted For `settle`.
---@return providers.Failure? failure
function M.admit(registry, client, call, deadline_ms)
  if client.provider == "rules" then
    return {}
  end
  local request = call.request
  local accounts = accounts_of(registry, request)
  local failure = uncounted(client, accounts)
  if failure then
    call.has_failed = true
    return nil, described(failure, client)
  end
  local held
  held, failure = registry.ledger:admit(accounts, function()
    return client.estimate:of(request, client.price, request.max_tokens
      or client.options.max_tokens or DEFAULT_MAX_TOKENS)
  end, deadline_ms, request.meta)
  if held then
    return { held = held, cost = held.cost }
  end
  if failure.until_ms then
    call.budget_until_ms = math.min(call.budget_until_ms or math.huge, failure.until_ms)
    call.is_reserved = call.is_reserved or failure.is_reserved
  end
  return nil, described(failure, client)
end

--- Gives an answer or failure its cost, and corrects the estimate by it. What reports no usage
--- counts as estimated, unless it came to nothing before the model was at work.
---@param ledger spending.Ledger
---@param client table
---@param admitted table
---@param answer table A result or a failure.
function M.settle(ledger, client, admitted, answer)
  local usage, cost = answer.usage or {}, admitted.cost
  answer.cost_usd = prices.cost_usd(client.price, usage)
  if not admitted.held then
    return
  end
  local spent = { tokens = prices.tokens(usage), usd = answer.cost_usd or 0 }
  if spent.tokens then
    client.estimate:learn(cost.bytes, usage, client.price)
  elseif answer.kind and UNPAID[answer.kind] then
    spent.tokens = 0
  else
    spent = cost.likely
  end
  ledger:settle(admitted.held, spent)
end

return M
