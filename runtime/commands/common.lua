--- What the commands share: reporting to people, options about one node, and running their body.

local async = require("runtime.async")
local clients = require("runtime.clients")
local core = require("host.core")
local node_name = require("runtime.node_name")
local options = require("runtime.options")
local prices = require("runtime.clients.prices")
local traces = require("runtime.loader.trace")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

local function read_own_name(text)
  if node_name.is_peer(text) then
    return text
  end
  return nil, ("%q is not a name for a node of our own: write name@host"):format(text)
end

local function read_folder(text)
  local stat, err = uv.fs_stat(text)
  if stat and stat.type == "directory" then
    return text
  end
  return nil, ("%q is no folder%s"):format(text, stat and "" or ": " .. err:match("^%u+: ([^:]*)"))
end

--- Options of commands that look at one node.
M.NODE_OPTIONS = {
  node = { arg = "NAME", doc = "the node (else BEAMLENS_NODE)" },
  ["cookie-file"] = { arg = "FILE", doc = "the Erlang cookie (else BEAMLENS_COOKIE, "
    .. "~/.erlang.cookie)" },
  name = { arg = "NAME", doc = "our own node name (else beamlens1 to beamlens16)",
    parse = read_own_name },
  dir = { arg = "DIR", doc = "look up domains and prompts here, too", parse = read_folder },
  set = { arg = "NAME=VALUE", is_list = true, doc = "a setting of the domain",
    parse = function(text)
      local name, value = text:match("^([%w_]+)=(.*)$")
      if not name then
        return nil, ("%q is not NAME=VALUE"):format(text)
      end
      return { name = name, value = value }
    end },
  timeout = { arg = "TIME", doc = "for all of it (default 15s)", parse = options.duration },
  help = { doc = "print this" },
}

--- Where what outlives a restart is.
M.STORE_OPTION = { arg = "FILE|none", doc = "what outlives a restart (else BEAMLENS_STORE, "
  .. "$STATE_DIRECTORY, ~/.local/state/beamlens)" }

--- The options of one command: those of others with its own.
---@param base table<string, options.Option>
---@param own? table<string, options.Option>
---@return table<string, options.Option>
function M.with(base, own)
  local all = {}
  for _, from in ipairs({ base, own or {} }) do
    for name, option in pairs(from) do
      all[name] = option
    end
  end
  return all
end

--- Tells people something on stderr.
---@param text string
function M.warn(text)
  io.stderr:write(("beamlens: %s\n"):format(text))
end

--- Parses the options and runs a command's body as a task.
---@param args string[]
---@param known table<string, options.Option>
---@param usage string
---@param body async fun(opts: table): integer The exit status.
---@return integer status
function M.main(args, known, usage, body)
  local opts, err = options.parse(args, known)
  if not opts then
    M.warn(err)
    return 2
  end
  if opts.help then
    print(options.help(usage, known))
    return 0
  end
  core.set_error_hook(M.warn)
  local ok, status = async.run(body, opts)
  core.set_error_hook(nil)
  if not ok then
    M.warn(tostring(status))
    return 1
  end
  return status
end

local function folder_of(path)
  return path:match("^(.*)/[^/]*$") or "."
end

-- A file of this name: in the watcher's tree, else in /etc/beamlens.
local function find_file(name, trace, watcher_file, beside)
  local paths = {}
  if beside then
    paths[1] = folder_of(beside) .. "/" .. name
  end
  if watcher_file then
    local folder = folder_of(watcher_file)
    paths[#paths + 1] = folder .. "/" .. name
    paths[#paths + 1] = folder .. "/../" .. name
  end
  paths[#paths + 1] = "/etc/beamlens/" .. name
  for _, path in ipairs(paths) do
    if trace:exists(path) then
      return path
    end
  end
end

--- Opens the client registry, with the price table that lies beside it, else in the watcher's tree.
---@param opts { file?: string, watcher_file?: string, telemetry: telemetry.Bus,
--- clock: clock.Clock, ledger?: spending.Ledger, trace?: trace.Trace } `file` is that of
--- --clients; a `watcher_file` may have one in its tree. `trace` is told what it depends on.
---@return table? registry
---@return string? err
function M.open_registry(opts)
  local trace = opts.trace or traces.new()
  local path = opts.file or find_file("clients.lua", trace, opts.watcher_file)
  local config, own_prices
  local errors = {}
  if path then
    config, errors[1] = clients.load(path, world.env, trace)
  end
  local prices_path = find_file("prices.lua", trace, opts.watcher_file, path)
  if prices_path then
    own_prices, errors[#errors + 1] = prices.load(prices_path, trace)
  end
  if errors[1] then
    return nil, table.concat(errors, "\n")
  end
  return clients.new({ config = config, telemetry = opts.telemetry, clock = opts.clock,
    env = world.env, prices = own_prices, ledger = opts.ledger })
end

return M
