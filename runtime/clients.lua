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
--- and for the process; with `meta.is_calm` it leaves the reserve of
--- its budgets alone. Retries happen here and nowhere else.

local async = require("runtime.async")
local breaker = require("runtime.clients.breaker")
local client_config = require("runtime.clients.config")
local client_file = require("runtime.clients.file")
local clock = require("runtime.clock")
local failures = require("runtime.providers.failure")
local payment = require("runtime.clients.payment")
local plateau = require("runtime.clients.plateau")
local questions = require("runtime.clients.questions")
local retry = require("runtime.clients.retry")
local spending = require("runtime.spending")
local strategies = require("runtime.clients.strategies")
local suggest = require("runtime.suggest")
local telemetry = require("runtime.telemetry")
local unset_key = require("runtime.clients.unset_key")
local world = require("runtime.world")

local M = {}

local DEFAULT_MODEL = "claude-haiku-4-5-20251001"
local DEFAULT_TIMEOUT_MS = 120000
-- A request that any model can answer.
local PING = {
  system = "This is a test of the connection. Call the tool.",
  tools = { { name = "pong", description = "Answers the test.",
    schema = { type = "object", properties = { ok = { type = "boolean" } } } } },
  messages = { { role = "user", text = "Call the tool pong with ok = true." } },
}

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
---@field is_reserved? boolean What is left of that budget is for cycles that a finding woke.

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

--- The mistakes of a registry that stands in a watcher's file, as those of `load`, or nil:
--- `mistakes_in(config, path, env) -> err?`.
M.mistakes_in = client_file.mistakes_in

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
    if client.unset_key then
      client.handler = unset_key.wrap(client.handler, client.unset_key)
    end
    client.key_variable = client.handler.key_variable or module.key_variable
    payment.open(client, own_prices)
  end
end

--- Creates a registry.
---@param opts clients.Options
---@return clients.Registry?
---@return string? err A line for each mistake.
function M.new(opts)
  local env = opts.env or world.env
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
    -- The rules cannot fail to answer, and a strategy is as good as its members.
    if client.handler and client.provider ~= "rules" then
      client.breaker, client.plateau = breaker.new(self), plateau.new()
    end
  end
  return self
end

--- The names of all clients, sorted.
---@return string[]
function Registry:names()
  return suggest.keys(self.clients)
end

--- What each client is, for people.
---@return { name: string, provider: string, model?: string, key?: "set"|"missing",
--- key_variable?: string, members?: string[], is_unpriced?: boolean }[] list `key_variable` where
--- the key is missing.
function Registry:list()
  local list = {}
  for i, name in ipairs(self:names()) do
    local client = self.clients[name]
    local needs_key = client.key_variable ~= nil or client.options.api_key ~= nil
    local is_missing = needs_key and not client.handler:has_key()
    list[i] = {
      name = name,
      provider = client.provider,
      model = client.handler and client.handler.model,
      key = needs_key and (is_missing and "missing" or "set") or nil,
      key_variable = is_missing and client.key_variable or nil,
      members = client.members,
      is_unpriced = client.handler and #payment.unpriced(self.clients, name) > 0 or nil,
    }
  end
  return list
end

--- The texts that no recording may have: keys, and the users' own headers.
---@return string[]
function Registry:secrets()
  local list = {}
  for _, client in pairs(self.clients) do
    local handler = client.handler
    for _, secret in ipairs(handler and handler.secrets and handler:secrets() or {}) do
      list[#list + 1] = secret
    end
    for _, value in pairs(client.options.headers or {}) do
      list[#list + 1] = value
    end
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

-- Why a client is left alone for now, if so.
local function refusal(client, timeout_ms)
  local failure = client.breaker and select(2, client.breaker:enter(timeout_ms))
  if failure then
    failure.client, failure.provider = client.name, client.provider
    failure.model = client.handler.model
  end
  return failure
end

-- Tells the breaker how a request went; with neither result nor failure it was not made.
local function note(client, result, failure)
  if not client.breaker then
    return
  elseif result then
    client.breaker:succeeded()
  elseif failure then
    client.breaker:failed(failure)
  else
    client.breaker:released()
  end
end

-- Says so, once for each client, when its server cuts the prompts that it gets.
function Registry:look_for_cut(client, request, usage)
  local cut = client.plateau and client.plateau:add(request, usage)
  if cut then
    self.telemetry:execute("beamlens.llm.prompt_cut", cut, metadata_of(client, request, {
      cure = plateau.cure(client.provider, client.options.context_tokens, cut.prompt_tokens),
    }))
  end
end

-- What the model's provider makes of a request. It is told, too, when that is cut short.
function Registry:exchange(client, request, timeout_ms)
  local started_ms = self.clock.now_ms()
  return async.unwinding(function(err)
    self:emit_exception(client, request, { kind = err and "internal" or "cancelled",
      message = err or "nobody waits for the answer any more", retryable = false },
      self.clock.now_ms() - started_ms)
  end, questions.ask, client, request, timeout_ms, self.clock.wall_ms())
end

-- One request to one model. Where this decision has seen it fail for good it is not asked again,
-- however a strategy comes back to it.
function Registry:ask(client, call, deadline_ms)
  local request = call.request
  if call.given_up[client] then
    return nil, failures.copy(call.given_up[client])
  end
  local failure = refusal(client, deadline_ms - self.clock.now_ms())
  if failure then
    -- It failed before: this is not the budget's doing.
    call.has_failed = true
    return nil, failure
  end
  local admitted
  admitted, failure = payment.admit(self, client, call, deadline_ms)
  if not admitted then
    note(client)
    return nil, failure
  end
  local started_ms = self.clock.now_ms()
  local timeout_ms = math.max(1, deadline_ms - started_ms)
  call.attempts = call.attempts + 1
  self.telemetry:execute("beamlens.llm.start", { system_time = self.clock.wall_ms() },
    metadata_of(client, request))
  local result
  result, failure = self:exchange(client, request, timeout_ms)
  note(client, result, failure)
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
    call.given_up[client] = not failure.retryable and failure or nil
    self:emit_exception(client, request, failure, duration)
  end
  self:look_for_cut(client, request, answer.usage or {})
  return result, failure
end

-- How long to wait before the client is tried again; nil when it is not to be.
function Registry:pause_ms(client, retries, failure, deadline_ms)
  local wait_ms = retry.wait_ms(client.policy, retries, failure, self.random)
  local is_late = wait_ms and self.clock.now_ms() + wait_ms >= deadline_ms
  local is_open = wait_ms and client.breaker and client.breaker:blocked_ms() > wait_ms
  return not is_late and not is_open and wait_ms or nil
end

-- A client with its retry policy.
function Registry:run(client, call, deadline_ms)
  local attempt = strategies.OF[client.provider] or self.ask
  local retries = 0
  while true do
    local result, failure = attempt(self, client, call, deadline_ms)
    if result then
      return result
    end
    retries = retries + 1
    local wait_ms = self:pause_ms(client, retries, failure, deadline_ms)
    if not wait_ms then
      return nil, failure
    end
    self.sleep(wait_ms)
  end
end

--- Makes one small request with a model, without retries.
---@async
---@param name string Of a client that is no strategy.
---@param timeout_ms number
---@return clients.Result?
---@return providers.Failure? failure
function Registry:ping(name, timeout_ms)
  local started_ms = self.clock.now_ms()
  local call = { request = PING, attempts = 0, given_up = {} }
  local result, failure = self:ask(self.clients[name], call, started_ms + timeout_ms)
  if result then
    result.ms = self.clock.now_ms() - started_ms
  end
  return result, failure
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
  local call = { request = request, attempts = 0, given_up = {} }
  local started_ms = self.clock.now_ms()
  local deadline_ms = started_ms + (opts and opts.timeout_ms or DEFAULT_TIMEOUT_MS)
  local result, failure = self:run(client, call, deadline_ms)
  local answer = result or failure
  answer.attempts = call.attempts
  answer.ms = self.clock.now_ms() - started_ms
  answer.budget_until_ms = not call.has_failed and call.budget_until_ms or nil
  answer.is_reserved = answer.budget_until_ms and call.is_reserved or nil
  if not result then
    return nil, failure.message, failure.kind, failure
  end
  return result
end

return M
