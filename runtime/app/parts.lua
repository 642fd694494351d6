--- What a policy names, loaded: its domain, its prompt and its client registry. A domain or prompt
--- is loaded once per file, all three once per watcher table, however many nodes it watches.
---
--- In a later round (`begin`) what has changed is loaded anew; what is wrong then stays as it was.

local clients = require("runtime.clients")
local part_kinds = require("runtime.app.part_kinds")
local prompts = require("runtime.prompts")
local suggest = require("runtime.suggest")
local tools = require("runtime.tools")
local trace = require("runtime.loader.trace")
local world = require("runtime.world")

local M = {}

---@class parts.Parts
---@field domain table
---@field settings table<string, any> The policy's, checked and with the domain's defaults.
---@field prompt fun(variables: table): string?, string? Renders the system prompt.
---@field registry table
---@field prices? table Those that a registry of the policy's own was made with.

---@class parts.Entry A loaded file.
---@field file string
---@field value any A domain, or the render function of a prompt.
---@field trace trace.Trace What it depends on.
---@field tried? trace.Trace What a newer version that is wrong depends on.
---@field worker? work.Worker

---@class parts.Loaded
---@field entries table<string, parts.Entry>
---@field failures { file: string, error: string }[] Of this round: newer versions that are wrong.
---@field changed string[] Of this round: the files of what was loaded anew.
local Loaded = {}
local loaded_mt = { __index = Loaded }

--- Nothing is loaded yet.
---@param opts { loader: loader.Loader, registry?: table, telemetry?: telemetry.Bus,
--- clock?: clock.Clock, ledger?: spending.Ledger } `registry` is that of policies without `clients`
--- of their own.
---@return parts.Loaded
function M.new(opts)
  local self = setmetatable({
    loader = opts.loader, telemetry = opts.telemetry, clock = opts.clock, ledger = opts.ledger,
    entries = {},
    retired = {}, -- { domain, worker } of older versions
    of_table = setmetatable({}, { __mode = "k" }), -- policy.origin -> parts
  }, loaded_mt)
  self:begin()
  self:set_registry(opts.registry)
  return self
end

--- Puts another registry in force, for what is loaded from now on.
---@param registry? table
function Loaded:set_registry(registry)
  self.registry = registry
  self.prices = registry and registry.own_prices
end

--- Begins a round: each file is looked at once in it.
function Loaded:begin()
  self.found, self.checked, self.failures, self.changed = {}, {}, {}, {}
  self.probes = trace.new()
end

-- Loads a file that is new or has changed. What is wrong leaves the older version in force.
function Loaded:renew(kind, key, found)
  local entry, own = self.entries[key], trace.new()
  if found.path then
    own:read(found.path)
  end
  local value, err, worker = part_kinds[kind](found, own, self.loader)
  if value then
    if entry then
      table.insert(self.retired, { domain = entry.value, worker = entry.worker })
    end
    for _, path in ipairs(own:differences(entry and entry.trace)) do
      table.insert(self.changed, path)
    end
    self.entries[key] = { file = found.chunk_name, value = value, trace = own, worker = worker }
    return self.entries[key]
  end
  table.insert(self.failures, { file = found.chunk_name, error = err })
  if entry then
    entry.tried = own
    return entry
  end
  self.entries[key] = { file = found.chunk_name, trace = own }
  return nil, err
end

-- A domain or a prompt for a watcher file.
function Loaded:load(kind, name, watcher_file)
  local folder = (watcher_file or ""):match("^(.*)/[^/]*$") or "."
  local place = ("%s %s %s"):format(kind, name, folder)
  local found = self.found[place]
  if not found then
    local err
    found, err = self.loader:find(kind, name, watcher_file, self.probes)
    if not found then
      return nil, err
    end
    self.found[place] = found
  end
  local key = kind .. " " .. found.chunk_name
  local entry = self.entries[key]
  local checked = self.checked[key]
  if not checked then
    checked = { entry = entry }
    if not (entry and entry.value and entry.trace:is_current()) then
      checked.entry, checked.err = self:renew(kind, key, found)
    else
      entry.tried = nil
    end
    self.checked[key] = checked
  end
  return checked.entry and checked.entry.value, checked.err
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

local function check_client(policy, registry)
  if policy.client and not registry.clients[policy.client] then
    return nil, ("no client %q%s"):format(policy.client,
      suggest.hint(policy.client, registry:names()))
  end
  return true
end

-- Loads all. Returns the parts, and what is wrong: a list of { field, error }, without a field
-- where the error says where it is.
local function load_all(self, policy, before)
  local parts, wrong = { prices = self.prices }, {}
  local function keep(name, field, value, err)
    parts[name] = value
    if not value then
      wrong[#wrong + 1] = { field, err }
    end
    return value
  end
  if keep("domain", "domain", self:load_domain(policy)) then
    local settings, err = parts.domain:read_settings(policy.settings)
    keep("settings", "settings", settings, err and "settings: " .. err)
  end
  keep("prompt", "prompt", self:load("prompts", policy.prompt, policy.file))
  if before and policy.clients and before.prices == self.prices then
    parts.registry = before.registry
  else
    -- Each of its mistakes is at a line of its own.
    keep("registry", nil, self:registry_for(policy))
  end
  if parts.registry then
    local ok, err = check_client(policy, parts.registry)
    wrong[#wrong + 1] = not ok and { "client", err } or nil
  end
  return parts, wrong
end

--- The domain of a policy.
---@param policy { domain: string, file?: string }
---@return domain.Domain?
---@return string? err
function Loaded:load_domain(policy)
  return self:load("domains", policy.domain, policy.file)
end

--- A function that tells whether a domain watches a node (not with `target = "none"`), for
--- runtime/policy.lua.
---@return fun(domain: string, file: string): boolean?, string? watches_node nil and what is wrong
--- with a domain that cannot be loaded.
function Loaded:watches_node()
  return function(name, file)
    local found, err = self:load("domains", name, file)
    if not found then
      return nil, err
    end
    return found.watches_node
  end
end

--- As the method, of parts that nobody else needs.
---@param loader loader.Loader
function M.watches_node(loader)
  return M.new({ loader = loader }):watches_node()
end

local function rendered(parts, policy)
  return parts.prompt(prompts.variables({ domain = parts.domain, policy = policy,
    tools = tools.for_request() }))
end

-- What is wrong with a policy, a line each.
local function told(policy, wrong)
  local texts = {}
  for i, mistake in ipairs(wrong) do
    local field, err = mistake[1], mistake[2]
    texts[i] = field and ("%s:%d: %s"):format(policy.file, policy.line_of(field, err), err) or err
  end
  return table.concat(texts, "\n")
end

-- The parts of a policy as its files are now: the same as `before` when nothing has changed.
function Loaded:look(policy, before)
  local parts, wrong = load_all(self, policy, before)
  if wrong[1] then
    return nil, told(policy, wrong)
  end
  local is_same = before ~= nil
  for _, name in ipairs({ "domain", "prompt", "registry" }) do
    is_same = is_same and before[name] == parts[name]
  end
  if is_same then
    return before
  end
  local text, err = rendered(parts, policy)
  return text and parts, err
end

--- What a policy names.
---@param policy table
---@return parts.Parts?
---@return string? err `FILE:LINE: message`, a line each
function Loaded:of(policy)
  local parts = self.of_table[policy.origin]
  if parts then
    return parts
  end
  local err
  parts, err = self:look(policy)
  self.of_table[policy.origin] = parts
  return parts, err
end

--- What a policy names in this round; `of` has it once it is `put`.
---@param policy table
---@return parts.Parts? parts The same as before when nothing has changed.
---@return string? err `FILE:LINE: message`
function Loaded:try(policy)
  return self:look(policy, self.of_table[policy.origin])
end

--- Puts the parts of a policy in force.
---@param policy table
---@param parts parts.Parts
function Loaded:put(policy, parts)
  self.of_table[policy.origin] = parts
end

--- Ends the threads of older domains that nobody uses any more.
---@param in_use table<table, true> The domains in force.
function Loaded:retire(in_use)
  local left = {}
  for _, old in ipairs(self.retired) do
    if in_use[old.domain] then
      left[#left + 1] = old
    elseif old.worker then
      old.worker:retire()
    end
  end
  self.retired = left
end

--- The traces of versions that are wrong.
---@return trace.Trace[]
function Loaded:tried_traces()
  local list = {}
  for _, entry in pairs(self.entries) do
    list[#list + 1] = entry.tried or not entry.value and entry.trace or nil
  end
  return list
end

--- The traces of all that was loaded or looked for.
---@return trace.Trace[]
function Loaded:traces()
  local list = { self.probes }
  for _, entry in pairs(self.entries) do
    list[#list + 1] = entry.trace
    list[#list + 1] = entry.tried
  end
  return list
end

--- Ends the threads of the domains. What waits for one is told.
function Loaded:close()
  for _, list in ipairs({ self.retired, suggest.keys(self.entries) }) do
    for _, item in ipairs(list) do
      local entry = self.entries[item] or item
      if entry.worker then
        entry.worker:close()
      end
    end
  end
end

return M
