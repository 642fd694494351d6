--- `beamlens check FILE...`: loads watcher, domain, prompt, client and price files, runs nothing.
--- Every mistake is a line `FILE:LINE: message`.

local beamlens = require("runtime.beamlens")
local clients = require("runtime.clients")
local clock = require("runtime.clock")
local common = require("runtime.commands.common")
local domain = require("runtime.domain")
local domain_lines = require("runtime.domain.lines")
local loader = require("runtime.loader")
local part_kinds = require("runtime.app.part_kinds")
local parts = require("runtime.app.parts")
local policy = require("runtime.policy")
local policy_warnings = require("runtime.policy.warnings")
local prices = require("runtime.clients.prices")
local prompts = require("runtime.prompts")
local telemetry = require("runtime.telemetry")
local tools = require("runtime.tools")
local traces = require("runtime.loader.trace")

local M = {}

M.options = {
  dir = common.NODE_OPTIONS.dir,
  clients = { arg = "FILE", doc = "the client registry that watchers use" },
  help = common.NODE_OPTIONS.help,
}

-- Stands for the node of a watcher whose file takes it from the environment.
local SOME_NODE = "node@localhost"

local function environment(name)
  return os.getenv(name) or (name == "BEAMLENS_NODE" and SOME_NODE) or nil
end

local function check_domain(file, source, value)
  local checked, _, problems = domain.new(value)
  if checked then
    local name = file:match("([^/]+)%.lua$")
    if checked.name ~= name then
      common.warn(("%s:%d: the name is %q, but watchers find this domain by its file's name, %q")
        :format(file, domain_lines.of(source, "name is another"), checked.name, tostring(name)))
    end
    return {}
  end
  local mistakes = {}
  for i, text in ipairs(problems) do
    mistakes[i] = { line = domain_lines.of(source, text), text = text, at = i }
  end
  table.sort(mistakes, function(x, y)
    return x.line < y.line or (x.line == y.line and x.at < y.at)
  end)
  for i, mistake in ipairs(mistakes) do
    mistakes[i] = ("%s:%d: %s"):format(file, mistake.line, mistake.text)
  end
  return mistakes
end

-- A prompt is rendered, too, as for a watcher that has everything.
local function check_prompt(file, source, _, opts)
  local render, err = part_kinds.prompts({ path = file, chunk_name = file, source = source },
    traces.new(), loader.new({ dir = opts.dir }))
  local text
  if render then
    text, err = render(prompts.sample(tools.for_request()))
  end
  return not text and { err } or {}
end

local function check_clients(file)
  local config, err = clients.load(file, os.getenv)
  if config then
    return {}
  end
  local mistakes = {}
  for line in err:gmatch("[^\n]+") do
    mistakes[#mistakes + 1] = line
  end
  return mistakes
end

local function check_prices(file, source, value)
  return prices.check(value, source, file)
end

local function registry_of(file, opts)
  return common.open_registry({ file = opts.clients, watcher_file = file,
    telemetry = telemetry.new(), clock = clock.system() })
end

-- What a policy names: its domain, prompt and client, and the prompt with all that goes into it.
local function check_policy(item, loaded)
  local found, err = loaded:of(item)
  if not found then
    return err
  end
  for _, warning in ipairs(policy_warnings.of(item, found)) do
    common.warn(warning)
  end
end

local function check_watcher(file, source, opts)
  local files = loader.new({ dir = opts.dir })
  local list, errors = policy.parse(source, file,
    { env = environment, watches_node = parts.watches_node(files), trace = traces.new() })
  if errors then
    return errors
  end
  local registry, err = registry_of(file, opts)
  if not registry then
    return { err } -- with files and lines of its own
  end
  local loaded = parts.new({ loader = files, registry = registry,
    telemetry = telemetry.new(), clock = clock.system() })
  local mistakes = {}
  for _, item in ipairs(list) do
    local found = check_policy(item, loaded)
    if found ~= mistakes[#mistakes] then -- a table's watchers of several nodes fail alike
      mistakes[#mistakes + 1] = found
    end
  end
  loaded:close()
  return mistakes
end

local function kind_of(file, value)
  if file:find("prompts/[^/]*$") then
    return "prompt"
  elseif file:find("domains/[^/]*$") then
    return "domain"
  elseif file:find("prices%.lua$") then
    return "prices"
  elseif type(value) ~= "table" then
    return "watcher"
  elseif value.template ~= nil then
    return "prompt"
  elseif value.snapshot ~= nil or value.callbacks ~= nil then
    return "domain"
  elseif value.domain == nil and value.node == nil
    and (value.primary ~= nil or value.retry_policies ~= nil or value.clients ~= nil) then
    return "clients"
  end
  return "watcher"
end

-- A module in a domain's folder is for its thread, where other libraries may be: it is not run.
local function check_module(file, source)
  local _, err = load(source, "@" .. file, "t")
  return { err }, "module of a domain"
end

-- Checks one file. Returns its mistakes, and what it is.
local function check_file(file, opts)
  local source, err = loader.read(file)
  if not source then
    return { err }
  elseif file:find("domains/[^/]+/[^/]*%.lua$") then
    return check_module(file, source)
  end
  local globals, worker = beamlens.for_domain({ path = file, chunk_name = file, source = source })
  globals.env = function(name, default)
    return environment(name) or default
  end
  local value
  value, err = loader.run(source, file, globals, traces.new())
  worker:close()
  if err then
    return { err }
  end
  local kind = kind_of(file, value)
  if kind == "prompt" then
    return check_prompt(file, source, value, opts), kind
  elseif kind == "domain" then
    return check_domain(file, source, value), kind
  elseif kind == "clients" then
    return check_clients(file), kind
  elseif kind == "prices" then
    return check_prices(file, source, value), kind
  end
  return check_watcher(file, source, opts), kind
end

local function check(opts)
  if #opts == 0 then
    common.warn("no file given: beamlens check FILE...")
    return 2
  end
  package.loaded["beamlens"] = beamlens.new({ telemetry = telemetry.new(), warn = common.warn })
  local status = 0
  for _, file in ipairs(opts) do
    local mistakes, kind = check_file(file, opts)
    for _, mistake in ipairs(mistakes) do
      io.stderr:write(mistake, "\n")
      status = 2
    end
    if #mistakes == 0 then
      print(("%s: ok (%s)"):format(file, kind))
    end
  end
  return status
end

---@param args string[]
---@return integer status
function M.main(args)
  return common.main(args, M.options, "check FILE... [OPTION...]", check)
end

return M
