--- What a policy names, loaded: its domain, its prompt and its client registry. A domain is loaded
--- once per file, all three once per watcher table, however many nodes it watches.

local beamlens = require("runtime.beamlens")
local clients = require("runtime.clients")
local domain = require("runtime.domain")
local loader_module = require("runtime.loader")
local prompts = require("runtime.prompts")
local suggest = require("runtime.suggest")
local world = require("runtime.world")

local M = {}

---@class parts.Parts
---@field domain table
---@field settings table<string, any> The policy's, checked and with the domain's defaults.
---@field prompt fun(variables: table): string?, string? Renders the system prompt.
---@field registry table

---@class parts.Loaded
local Loaded = {}
local loaded_mt = { __index = Loaded }

--- Nothing is loaded yet.
---@param opts { loader: loader.Loader, registry?: table, telemetry?: telemetry.Bus,
--- clock?: clock.Clock, ledger?: spending.Ledger } `registry` is that of policies without `clients`
--- of their own.
---@return parts.Loaded
function M.new(opts)
  return setmetatable({
    loader = opts.loader, registry = opts.registry, telemetry = opts.telemetry,
    clock = opts.clock, ledger = opts.ledger,
    prices = opts.registry and opts.registry.own_prices,
    domains = {}, -- by file
    workers = {}, -- their threads for blocking calls
    of_table = setmetatable({}, { __mode = "k" }), -- policy.origin -> parts
  }, loaded_mt)
end

function Loaded:load_domain(policy)
  local found, err = self.loader:find("domains", policy.domain, policy.file)
  if not found then
    return nil, err
  end
  if not self.domains[found.chunk_name] then
    local globals, worker = beamlens.for_domain(found)
    self.workers[#self.workers + 1] = worker
    local value, load_err = loader_module.run(found.source, found.chunk_name, globals)
    if load_err then
      return nil, load_err
    end
    local loaded, domain_err = domain.new(value, { file = found.chunk_name })
    if not loaded then
      return nil, domain_err
    end
    loaded.path = found.path
    self.domains[found.chunk_name] = loaded
  end
  return self.domains[found.chunk_name]
end

-- Loads a prompt. Returns its render function.
function Loaded:load_prompt(policy)
  local found, err = self.loader:find("prompts", policy.prompt, policy.file)
  if not found then
    return nil, err
  end
  local value, load_err = loader_module.run(found.source, found.chunk_name)
  if load_err then
    return nil, load_err
  end
  local prompt, prompt_err = prompts.new(value, { file = found.chunk_name })
  if not prompt then
    return nil, prompt_err
  end
  return function(variables)
    return prompt:render(variables)
  end
end

-- The registry of a policy: its own `clients`, else the host's.
function Loaded:registry_for(policy)
  if not policy.clients then
    return self.registry
  end
  local err = clients.mistakes_in(policy.clients, policy.file, world.env)
  if err then
    return nil, err
  end
  return clients.new({ config = policy.clients, telemetry = self.telemetry,
    clock = self.clock, env = world.env, ledger = self.ledger, prices = self.prices,
    account = ("registry of %s"):format(policy.name) })
end

local function load_all(self, policy)
  local parts, err = {}
  parts.domain, err = self:load_domain(policy)
  if not parts.domain then
    return nil, "domain", err
  end
  parts.settings, err = parts.domain:read_settings(policy.settings)
  if not parts.settings then
    return nil, "settings", "settings: " .. err
  end
  parts.prompt, err = self:load_prompt(policy)
  if not parts.prompt then
    return nil, "prompt", err
  end
  parts.registry, err = self:registry_for(policy)
  if not parts.registry then
    -- Each of its mistakes is at a line of its own.
    return nil, nil, err
  end
  if policy.client and not parts.registry.clients[policy.client] then
    return nil, "client", ("no client %q%s"):format(policy.client,
      suggest.hint(policy.client, parts.registry:names()))
  end
  return parts
end

--- A function that tells whether a domain watches a node (not with `target = "none"`), for
--- runtime/policy.lua.
---@param loader loader.Loader
---@return fun(domain: string, file: string): boolean?, string? watches_node nil and what is wrong
--- with a domain that cannot be loaded.
function M.watches_node(loader)
  local loaded = M.new({ loader = loader })
  return function(name, file)
    local found, err = loaded:load_domain({ domain = name, file = file })
    if not found then
      return nil, err
    end
    return found.watches_node
  end
end

--- What a policy names.
---@param policy table
---@return parts.Parts?
---@return string? err `FILE:LINE: message`
function Loaded:of(policy)
  local parts = self.of_table[policy.origin]
  if parts then
    return parts
  end
  local field, err
  parts, field, err = load_all(self, policy)
  if not parts and not field then
    return nil, err
  elseif not parts then
    local source = loader_module.read(policy.file) or ""
    return nil, ("%s:%d: %s"):format(policy.file, loader_module.line_of(source, field), err)
  end
  self.of_table[policy.origin] = parts
  return parts
end

--- Ends the threads of the domains. What waits for one is told.
function Loaded:close()
  for _, worker in ipairs(self.workers) do
    worker:close()
  end
end

return M
