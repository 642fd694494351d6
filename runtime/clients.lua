--- The client registry: which models there are, and asking one of them for the next tool call.
---
--- A request is the same for all providers:
---
---   { system = text, tools = { {name, description, schema}… }, messages = { … }, force = nil|name,
---     max_tokens = nil, context = { findings, state, wait, alerts }, meta = { watcher, … },
---     account = nil }
---
--- with messages `{ role = "user", text }`, `{ role = "assistant", call = {id, name, args, origin},
--- text }` (`origin` as the result of that call had it) and `{ role = "tool", id, name, text,
--- is_error }`. `account` is the watcher's (runtime/spending.lua): each request is counted there
--- and for the process. Retries happen here and nowhere else.

local async = require("runtime.async")
local client_config = require("runtime.clients.config")
local client_file = require("runtime.clients.file")
local clock = require("runtime.clock")
local failures = require("runtime.providers.failure")
local payment = require("runtime.clients.payment")
local retry = require("runtime.clients.retry")
local spending = require("runtime.spending")
local suggest = require("runtime.suggest")
local telemetry = require("runtime.telemetry")

local M = {}

local DEFAULT_MODEL = "claude-haiku-4-5-20251001"
local DEFAULT_TIMEOUT_MS = 120000
-- The model did answer: another one is not asked, the watcher tells it what was wrong.
local ANSWERED = { bad_tool_call = true, no_tool_call = true }

---@class clients.Registry
---@field primary string
---@field limits { usd_per_day?: number, tokens_per_hour?: number }
---@field notice? string A line for people about what the built-in registry chose.
local Registry = {}
local registry_mt = { __index = Registry }

---@class clients.Result
---@field tool string
---@field args table
---@field id string
---@field origin? table For the conversation.
---@field text string
---@field stop string
---@field usage providers.Usage
---@field cost_usd? number
---@field client string
---@field provider string
---@field model string
---@field request_id? string
---@field attempts integer Requests that this decision took.
---@field ms number From the first request to the answer, pauses included.
---@field budget_until_ms? number Unix milliseconds: only a spent budget kept models from being
--- asked, and when it refills.

local function builtin(env)
  local key = env("ANTHROPIC_API_KEY") or env("ANTHROPIC_AUTH_TOKEN")
  if key and key:find("%S") then
    return {
      primary = "Haiku",
      clients = {
        { name = "Haiku", provider = "anthropic", retry_policy = "DefaultRetry",
          options = { model = DEFAULT_MODEL } },
      },
    }
  end
  return { primary = "rules" }, "no model: ANTHROPIC_API_KEY is not set; the rules decide alone"
end

--- Reads a registry's file and checks it: `load(path, env) -> config | nil, err`, a line
--- `FILE:LINE: text` for each mistake.
M.load = client_file.load

---@class clients.Options
---@field config? table As a registry's file returns it. Default: built in.
---@field telemetry? telemetry.Bus
---@field clock? clock.Clock
---@field prices? table<string, table> Of a user: see runtime/clients/prices.lua.
---@field ledger? spending.Ledger Default: one of its own.
---@field account? string Whose the registry's limits are. Default: "process".
---@field env? fun(name: string): string?
---@field random? fun(): number From 0 to 1.
---@field sleep? async fun(ms: number)

local function open_client(client, env, own_prices)
  local path = client_config.PROVIDERS[client.provider]
  if path then
    local module = require(path)
    client.handler = module.new(client.options, env)
    client.key_variable = client.handler.key_variable or module.key_variable
    payment.open(client, own_prices)
  end
end

--- Creates a registry.
---@param opts clients.Options
---@return clients.Registry?
---@return string? err A line for each mistake.
function M.new(opts)
  local env = opts.env or os.getenv
  local config, notice = opts.config, nil
  if config == nil then
    config, notice = builtin(env)
  end
  local checked, mistakes = client_config.check(config, env)
  if not checked then
    return nil, client_file.describe(mistakes)
  end
  local self = setmetatable({
    clients = checked.clients,
    primary = checked.primary,
    limits = checked.limits,
    own_prices = opts.prices,
    notice = notice,
    telemetry = opts.telemetry or telemetry.new(),
    clock = opts.clock or clock.system(),
    random = opts.random or math.random,
    sleep = opts.sleep or async.sleep,
  }, registry_mt)
  self.ledger = opts.ledger or spending.new({ clock = self.clock, telemetry = self.telemetry })
  self.account = self.ledger:account(opts.account or "process", self.limits)
  for _, client in pairs(self.clients) do
    open_client(client, env, opts.prices)
  end
  return self
end

--- The names of all clients, sorted.
---@return string[]
function Registry:names()
  return suggest.keys(self.clients)
end

--- What each client is, for people.
---@return { name: string, provider: string, model?: string, key?: "set"|"missing", members? }[]
function Registry:list()
  local list = {}
  for i, name in ipairs(self:names()) do
    local client = self.clients[name]
    local needs_key = client.key_variable ~= nil
    list[i] = {
      name = name,
      provider = client.provider,
      model = client.handler and client.handler.model,
      key = needs_key and (client.handler:has_key() and "set" or "missing") or nil,
      members = client.members,
    }
  end
  return list
end

--- The models that a client asks, itself or by its members, of which no price is known.
---@param name? string Default: the primary.
---@return { name: string, model: string }[]
function Registry:unpriced(name)
  return payment.unpriced(self.clients, name or self.primary)
end

local function metadata_of(client, request, more)
  local meta = request.meta or {}
  local metadata = {
    watcher = meta.watcher,
    domain = meta.domain,
    node = meta.node,
    trace_id = meta.trace_id,
    client = client.name,
    provider = client.provider,
    model = client.handler.model,
  }
  for name, value in pairs(more or {}) do
    metadata[name] = value
  end
  return metadata
end

function Registry:emit_stop(client, request, result, duration)
  local usage = result.usage
  self.telemetry:execute("beamlens.llm.stop", {
    duration = duration,
    input_tokens = usage.input,
    output_tokens = usage.output,
    cache_read_tokens = usage.cache_read,
    cache_write_tokens = usage.cache_write,
    cost_usd = result.cost_usd,
  }, metadata_of(client, request, { stop = result.stop, request_id = result.request_id }))
end

function Registry:emit_exception(client, request, failure, duration)
  self.telemetry:execute("beamlens.llm.exception", { duration = duration },
    metadata_of(client, request, {
      kind = failure.kind,
      http_status = failure.http,
      message = failure.message,
      retryable = failure.retryable,
    }))
end

--- What a token costs at most, with whichever model a client asks.
---@param name? string Default: the primary.
---@return number? usd nil when a price is not known.
function Registry:dearest_token_usd(name)
  return payment.dearest_token_usd(self.clients, name or self.primary)
end

-- One request to one model.
function Registry:ask(client, call, deadline_ms)
  local admitted, failure = payment.admit(self, client, call, deadline_ms)
  if not admitted then
    return nil, failure
  end
  call.attempts = call.attempts + 1
  local request, started_ms = call.request, self.clock.now_ms()
  self.telemetry:execute("beamlens.llm.start", { system_time = self.clock.wall_ms() },
    metadata_of(client, request))
  local result
  result, failure = client.handler:decide(request, math.max(1, deadline_ms - started_ms),
    self.clock.wall_ms())
  local duration = self.clock.now_ms() - started_ms
  local answer = result or failure
  call.attempts = call.attempts + (answer.requests or 1) - 1
  answer.client, answer.provider = client.name, client.provider
  answer.model = answer.model or client.handler.model
  payment.settle(self.ledger, client, admitted, answer)
  if result then
    self:emit_stop(client, request, result, duration)
  else
    call.has_failed = true
    self:emit_exception(client, request, failure, duration)
  end
  return result, failure
end

-- The failure of a whole list. It can be tried again when one of them can, at the earliest time
-- that one of them named.
local function combine(list)
  local texts, retryable, retry_after_ms = {}, false, nil
  for i, failure in ipairs(list) do
    texts[i] = ("%s: %s"):format(failure.client, failure.message)
    if failure.retryable then
      local ms = failure.retry_after_ms or 0
      retry_after_ms = math.min(retryable and retry_after_ms or ms, ms)
      retryable = true
    end
  end
  local combined = {}
  for name, value in pairs(list[#list]) do
    combined[name] = value
  end
  combined.message = failures.clean(table.concat(texts, "; "))
  combined.retryable = retryable
  combined.retry_after_ms = retry_after_ms ~= 0 and retry_after_ms or nil
  return combined
end

-- Asks one member after the other, each within its share of the time that is left.
function Registry:fall_back(client, call, deadline_ms)
  local list, count = {}, #client.members
  for i, name in ipairs(client.members) do
    local now_ms = self.clock.now_ms()
    local share_ms = (deadline_ms - now_ms) / (count - i + 1)
    local result, failure = self:run(self.clients[name], call, now_ms + share_ms)
    if result or ANSWERED[failure.kind] then
      return result, failure
    end
    list[i] = failure
    if self.clock.now_ms() >= deadline_ms then
      break
    end
  end
  return nil, #list > 1 and combine(list) or list[1]
end

-- Each call takes the next member. There is no failover but by the client's own retry policy.
function Registry:take_turn(client, call, deadline_ms)
  local count = #client.members
  local turn = client.turn or client.options.start or math.floor(self.random() * count)
  client.turn = turn + 1
  return self:run(self.clients[client.members[turn % count + 1]], call, deadline_ms)
end

function Registry:attempt(client, call, deadline_ms)
  if client.provider == "fallback" then
    return self:fall_back(client, call, deadline_ms)
  elseif client.provider == "round-robin" then
    return self:take_turn(client, call, deadline_ms)
  end
  return self:ask(client, call, deadline_ms)
end

-- A client with its retry policy.
function Registry:run(client, call, deadline_ms)
  local retries = 0
  while true do
    local result, failure = self:attempt(client, call, deadline_ms)
    if result then
      return result
    end
    retries = retries + 1
    local wait_ms = retry.wait_ms(client.policy, retries, failure, self.random)
    if not wait_ms or self.clock.now_ms() + wait_ms >= deadline_ms then
      return nil, failure
    end
    self.sleep(wait_ms)
  end
end

--- Asks a client for the next tool call.
---@async
---@param name? string Default: the primary.
---@param request table As above.
---@param opts? { timeout_ms?: number } For all attempts together. Default: 120000.
---@return clients.Result?
---@return string? err
---@return string? kind auth, permission, not_found, invalid_request, context_length, rate_limit,
--- quota, overloaded, server, timeout, connect, stream_cut, truncated, content_filter, refusal,
--- bad_tool_call, no_tool_call, parse or budget.
---@return providers.Failure? detail
function Registry:decide(name, request, opts)
  local client = self.clients[name or self.primary]
  if not client then
    local failure = failures.new("invalid_request", ("unknown client %q%s"):format(name,
      suggest.hint(name, self:names())))
    return nil, failure.message, failure.kind, failure
  end
  local call = { request = request, attempts = 0 }
  local started_ms = self.clock.now_ms()
  local deadline_ms = started_ms + (opts and opts.timeout_ms or DEFAULT_TIMEOUT_MS)
  local result, failure = self:run(client, call, deadline_ms)
  local answer = result or failure
  answer.attempts = call.attempts
  answer.ms = self.clock.now_ms() - started_ms
  answer.budget_until_ms = not call.has_failed and call.budget_until_ms or nil
  if not result then
    return nil, failure.message, failure.kind, failure
  end
  return result
end

return M
