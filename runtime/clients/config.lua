--- Client registries: checking every field, and finding all mistakes at once.

local retry = require("runtime.clients.retry")
local suggest = require("runtime.suggest")

local M = {}

--- Providers, and the modules that hold their wire formats.
M.PROVIDERS = {
  anthropic = "runtime.providers.anthropic",
  ["aws-bedrock"] = "runtime.providers.aws_bedrock",
  ["google-ai"] = "runtime.providers.google_ai",
  openai = "runtime.providers.openai",
  ["openai-generic"] = "runtime.providers.openai_generic",
  ["azure-openai"] = "runtime.providers.azure_openai",
  openrouter = "runtime.providers.openrouter",
  ollama = "runtime.providers.ollama",
  rules = "runtime.providers.rules",
  ["vertex-ai"] = "runtime.providers.vertex_ai",
}

local STRATEGIES = {
  fallback = { strategy = { type = "strategy", required = true } },
  ["round-robin"] = {
    strategy = { type = "strategy", required = true },
    start = { type = "number", min = 0 },
  },
}

---@class client_config.Mistake
---@field text string
---@field client? string The client that it is in.
---@field field? string The field's name in the source.

---@class client_config.Checker
local Checker = {}
local checker_mt = { __index = Checker }

function Checker:mistake(client, field, text, ...)
  table.insert(self.mistakes, { client = client, field = field, text = text:format(...) })
end

function Checker:known_fields(t, known, client, where)
  for key in pairs(t) do
    if not known[key] then
      self:mistake(client, tostring(key), "%sunknown field %q%s", where, tostring(key),
        suggest.hint(tostring(key), suggest.keys(known)))
    end
  end
end

local READ = {}

function READ.string(value, option)
  if type(value) ~= "string" or value == "" then
    return nil, "must be text"
  end
  for _, allowed in ipairs(option.one_of or {}) do
    if value == allowed then
      return value
    end
  end
  if option.one_of then
    return nil, ("must be one of %s"):format(table.concat(option.one_of, ", "))
  end
  return value
end

function READ.number(value, option)
  if type(value) ~= "number" or value ~= value or value < option.min then
    return nil, ("must be a number, at least %s"):format(option.min)
  end
  return value
end

function READ.boolean(value)
  if type(value) ~= "boolean" then
    return nil, "must be true or false"
  end
  return value
end

function READ.table(value)
  if type(value) ~= "table" then
    return nil, "must be a table"
  end
  return value
end

-- The value of a header may be a key: it is in no message.
function READ.headers(value)
  for name, text in pairs(type(value) == "table" and value or { value }) do
    if type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
      return nil, "must be a table of header name and text"
    end
    if type(text) ~= "string" or text:find("[%c]") then
      return nil, ("%s must be one line of text"):format(name)
    end
  end
  return value
end

function READ.price(value)
  local known = { input = true, output = true, cache_read = true, cache_write = true }
  for name, usd in pairs(type(value) == "table" and value or { value }) do
    if not known[name] or type(usd) ~= "number" or usd < 0 then
      return nil, "must be { input, output, cache_read?, cache_write? } in USD per million tokens"
    end
  end
  if not value.input or not value.output then
    return nil, "needs input and output"
  end
  return value
end

function READ.strategy(value)
  for _, name in ipairs(type(value) == "table" and value or {}) do
    if type(name) ~= "string" then
      return nil, "must be a list of clients' names"
    end
  end
  if type(value) ~= "table" or #value == 0 then
    return nil, "must be a list of clients' names"
  end
  return value
end

-- A text "env.NAME" stands for a variable of the environment.
function Checker:resolve(value, client, name, option)
  local variable = type(value) == "string" and value:match("^env%.([%w_]+)$")
  if not variable then
    return value
  end
  local found = self.env(variable)
  if not found and not option.secret then
    self:mistake(client, name, "options.%s: the environment variable %s is not set", name,
      variable)
  end
  return found
end

function Checker:options(client, known)
  local given = client.options == nil and {} or client.options
  if type(given) ~= "table" then
    self:mistake(client.name, "options", "options must be a table")
    return {}
  end
  self:known_fields(given, known, client.name, "options: ")
  local options = {}
  for name, option in pairs(known) do
    local value = self:resolve(given[name], client.name, name, option)
    if given[name] == nil and option.required then
      self:mistake(client.name, "options", "options.%s is missing", name)
    elseif value == nil then
      options[name] = option.default
    else
      local read, problem = (option.read or READ[option.type])(value, option)
      if read == nil then
        self:mistake(client.name, name, "options.%s %s", name, problem)
      elseif option.pattern and not read:find(option.pattern) then
        self:mistake(client.name, name, "options.%s must be like %s", name, option.like)
      end
      options[name] = read
    end
  end
  return options
end

function Checker:policy(name, value)
  if type(value) ~= "table" then
    self:mistake(nil, name, "retry policy %q must be a table", name)
    return nil
  end
  local where = ("retry policy %q: "):format(name)
  self:known_fields(value, { max_retries = true, strategy = true }, nil, where)
  local max = value.max_retries
  if type(max) ~= "number" or max < 0 or max > 20 or max % 1 ~= 0 then
    self:mistake(nil, "max_retries", "%smax_retries must be a whole number from 0 to 20", where)
  end
  local given = value.strategy or { type = "constant_delay" }
  if type(given) ~= "table" then
    self:mistake(nil, "strategy", "%sstrategy must be a table", where)
    return nil
  end
  local defaults = { type = "constant_delay", delay_ms = 200, multiplier = 1.5,
    max_delay_ms = 10000 }
  self:known_fields(given, defaults, nil, where)
  local strategy = {}
  for key, default in pairs(defaults) do
    strategy[key] = given[key] == nil and default or given[key]
    if type(strategy[key]) ~= type(default) or (key ~= "type" and strategy[key] < 0) then
      self:mistake(nil, key, "%s%s must be a %s", where, key, type(default))
    end
  end
  if strategy.type ~= "constant_delay" and strategy.type ~= "exponential_backoff" then
    self:mistake(nil, "type", "%sunknown type %q%s", where, tostring(strategy.type),
      suggest.hint(tostring(strategy.type), { "constant_delay", "exponential_backoff" }))
  end
  return { max_retries = max, strategy = strategy }
end

function Checker:policies(given)
  local policies = { DefaultRetry = retry.DEFAULT }
  if given ~= nil and type(given) ~= "table" then
    self:mistake(nil, "retry_policies", "retry_policies must be a table by name")
    return policies
  end
  for name, value in pairs(given or {}) do
    policies[name] = self:policy(tostring(name), value)
  end
  return policies
end

-- The options of a model's client, and what its provider says of them together.
function Checker:provider(client, value)
  local provider = require(M.PROVIDERS[value.provider])
  client.options = self:options(value, provider.options)
  for _, mistake in ipairs(provider.mistakes and provider.mistakes(client.options, self.env) or {})
  do
    self:mistake(client.name, mistake.field, "%s", mistake.text)
  end
end

local CLIENT_FIELDS = { name = true, provider = true, retry_policy = true, options = true }

function Checker:client(value, policies)
  local name = value.name
  self:known_fields(value, CLIENT_FIELDS, name, "")
  local client = { name = name, provider = value.provider }
  if value.retry_policy ~= nil then
    client.policy = policies[value.retry_policy]
    if not client.policy then
      self:mistake(name, "retry_policy", "unknown retry policy %q%s", tostring(value.retry_policy),
        suggest.hint(tostring(value.retry_policy), suggest.keys(policies)))
    end
  end
  if STRATEGIES[value.provider] then
    client.options = self:options(value, STRATEGIES[value.provider])
    client.members = client.options.strategy
    return client
  elseif M.PROVIDERS[value.provider] then
    self:provider(client, value)
    return client
  end
  local names = suggest.keys(M.PROVIDERS)
  for strategy in pairs(STRATEGIES) do
    names[#names + 1] = strategy
  end
  self:mistake(name, "provider", "unknown provider %q%s", tostring(value.provider),
    suggest.hint(tostring(value.provider), names))
  return client
end

function Checker:clients(given, policies)
  local clients = {}
  if given ~= nil and type(given) ~= "table" then
    self:mistake(nil, "clients", "clients must be a list")
  end
  for i, value in ipairs(type(given) == "table" and given or {}) do
    if type(value) ~= "table" or type(value.name) ~= "string" or value.name == "" then
      self:mistake(nil, "clients", "client %d needs a name", i)
    elseif clients[value.name] then
      self:mistake(value.name, "name", "there are two clients of this name")
    else
      clients[value.name] = self:client(value, policies)
    end
  end
  local rules = clients.rules
  if rules and rules.provider ~= "rules" then
    self:mistake("rules", "name", "the name is taken by the client without a model")
  end
  clients.rules = { name = "rules", provider = "rules", options = {} }
  return clients
end

-- Every member must exist, and no strategy may contain itself.
function Checker:members(clients)
  local names = suggest.keys(clients)
  local function contains(name, wanted, seen)
    for _, member in ipairs(not seen[name] and clients[name] and clients[name].members or {}) do
      seen[name] = true
      if member == wanted or contains(member, wanted, seen) then
        return true
      end
    end
    return false
  end
  for _, name in ipairs(names) do
    for _, member in ipairs(clients[name].members or {}) do
      if not clients[member] then
        self:mistake(name, "strategy", "options.strategy: unknown client %q%s", member,
          suggest.hint(member, names))
      end
    end
    if contains(name, name, {}) then
      self:mistake(name, "strategy", "options.strategy leads back to the client itself")
    end
  end
end

function Checker:primary(config, clients)
  local primary = config.primary
  if primary == nil then
    local first = type(config.clients) == "table" and config.clients[1]
    local only = type(first) == "table" and #config.clients == 1 and first.name
    if only then
      return only
    end
    self:mistake(nil, "clients", "primary is missing: name the client that watchers use")
  elseif not clients[primary] then
    self:mistake(nil, "primary", "primary: unknown client %q%s", tostring(primary),
      suggest.hint(tostring(primary), suggest.keys(clients)))
  end
  return primary
end

local LIMITS = { usd_per_day = "USD", tokens_per_hour = "tokens" }

function Checker:limits(given)
  local limits = given == nil and {} or given
  if type(limits) ~= "table" then
    self:mistake(nil, "limits", "limits must be a table")
    return {}
  end
  self:known_fields(limits, LIMITS, nil, "limits: ")
  local checked = {}
  for name, unit in pairs(LIMITS) do
    local value = limits[name]
    if value ~= nil and (type(value) ~= "number" or value ~= value or value < 0) then
      self:mistake(nil, name, "limits.%s must be a number of %s", name, unit)
    end
    checked[name] = value
  end
  return checked
end

local FIELDS = { primary = true, clients = true, retry_policies = true, limits = true }

--- Checks a registry.
---@param config table As in a registry's file.
---@param env fun(name: string): string?
---@return { primary: string, clients: table<string, table>, limits: table }?
---@return client_config.Mistake[]? mistakes All of them.
function M.check(config, env)
  local checker = setmetatable({ mistakes = {}, env = env }, checker_mt)
  if type(config) ~= "table" then
    checker:mistake(nil, nil, "a registry is a table, not a %s", type(config))
    return nil, checker.mistakes
  end
  checker:known_fields(config, FIELDS, nil, "")
  local clients = checker:clients(config.clients, checker:policies(config.retry_policies))
  checker:members(clients)
  local checked = {
    clients = clients,
    primary = checker:primary(config, clients),
    limits = checker:limits(config.limits),
  }
  if #checker.mistakes > 0 then
    return nil, checker.mistakes
  end
  return checked
end

return M
