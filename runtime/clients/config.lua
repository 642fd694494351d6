--- Client registries: checking every field, and finding all mistakes at once.

local option_types = require("runtime.clients.option_types")
local policies_of = require("runtime.clients.policies")
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
  replay = "runtime.providers.replay",
  rules = "runtime.providers.rules",
  ["vertex-ai"] = "runtime.providers.vertex_ai",
}

local STRATEGIES = {
  fallback = { strategy = { type = "strategy", required = true } },
  ["round-robin"] = {
    strategy = { type = "strategy", required = true },
    start = { type = "whole", min = 0 },
  },
}

---@class client_config.Mistake
---@field text string
---@field client? string The client that it is in.
---@field index? integer Its place in the list of clients.
---@field policy? string The retry policy that it is in.
---@field field? string The field's name in the source.

---@class client_config.Checker
local Checker = {}
local checker_mt = { __index = Checker }

function Checker:mistake(client, field, text, ...)
  local mistake = { client = client, field = field, text = text:format(...),
    index = self.index or client and self.places[client] }
  table.insert(self.mistakes, mistake)
  return mistake
end

function Checker:known_fields(t, known, client, where, policy)
  for key in pairs(t) do
    if not known[key] then
      self:mistake(client, tostring(key), "%sunknown field %q%s", where, tostring(key),
        suggest.hint(tostring(key), suggest.keys(known))).policy = policy
    end
  end
end

-- A text "env.NAME" stands for a variable of the environment. Also returns its name where a key is
-- to be in it and is not.
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
  return found, not found and not option.optional and variable or nil
end

-- The options, and the name of a variable that should hold a key and is not set.
function Checker:options(client, known)
  local given = client.options == nil and {} or client.options
  if type(given) ~= "table" then
    self:mistake(client.name, "options", "options must be a table")
    return {}
  end
  self:known_fields(given, known, client.name, "options: ")
  local options, unset = {}, nil
  for name, option in pairs(known) do
    local value, variable = self:resolve(given[name], client.name, name, option)
    unset = unset or variable
    if given[name] == nil and option.required then
      self:mistake(client.name, "options", "options.%s is missing", name)
    elseif value == nil then
      options[name] = option.default
    else
      local read, problem = (option.read or option_types[option.type])(value, option)
      if read == nil then
        self:mistake(client.name, name, "options.%s %s", name, problem)
      elseif option.pattern and not read:find(option.pattern) then
        self:mistake(client.name, name, "options.%s must be like %s", name, option.like)
      end
      options[name] = read
    end
  end
  return options, unset
end

-- The options of a model's client, and what its provider says of them together.
function Checker:provider(client, value)
  local provider = require(M.PROVIDERS[value.provider])
  client.options, client.unset_key = self:options(value, provider.options)
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
  if value.retry_policy ~= nil and type(value.retry_policy) ~= "string" then
    self:mistake(name, "retry_policy", "retry_policy must be the name of one")
  elseif value.retry_policy ~= nil then
    client.policy = policies[value.retry_policy]
    if not client.policy then
      self:mistake(name, "retry_policy", "unknown retry policy %q%s", value.retry_policy,
        suggest.hint(value.retry_policy, suggest.keys(policies)))
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
  self:mistake(name, "provider", value.provider == nil and "provider is missing%.0s%s"
    or "unknown provider %q%s", tostring(value.provider),
    suggest.hint(tostring(value.provider), names))
  return client
end

function Checker:clients(given, policies)
  local clients = {}
  if given ~= nil and type(given) ~= "table" then
    self:mistake(nil, "clients", "clients must be a list")
  end
  given = type(given) == "table" and given or {}
  for key in pairs(given) do
    if type(key) ~= "number" or key > #given then
      self:mistake(nil, tostring(key), "clients must be a list: give %q its place in it and the "
        .. "field name", tostring(key))
    end
  end
  for i, value in ipairs(given) do
    self.index = i
    if type(value) ~= "table" or type(value.name) ~= "string" or value.name == "" then
      self:mistake(nil, "clients", "client %d needs a name", i)
    elseif clients[value.name] then
      self:mistake(value.name, "name", "there are two clients of this name")
    else
      self.places[value.name] = i
      clients[value.name] = self:client(value, policies)
    end
  end
  self.index = nil
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
  local checker = setmetatable({ mistakes = {}, places = {}, env = env }, checker_mt)
  if type(config) ~= "table" then
    checker:mistake(nil, nil, "a registry is a table, not a %s", type(config))
    return nil, checker.mistakes
  end
  checker:known_fields(config, FIELDS, nil, "")
  local clients = checker:clients(config.clients,
    policies_of.check(checker, config.retry_policies))
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
