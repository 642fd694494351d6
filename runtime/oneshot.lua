--- One node and one domain, once: what `beamlens snapshot`, `exec` and `doctor` need of the parts
--- that a running host is made of.
---
---   local one = assert(oneshot.new({ domain = "beam", node = "shop@db1" }))
---   assert(one:connect(deadline))
---   one:snapshot(deadline)
---   one:close()

local async = require("runtime.async")
local beamlens = require("runtime.beamlens")
local clock = require("runtime.clock")
local cookie = require("runtime.cookie")
local executor = require("runtime.executor")
local loader = require("runtime.loader")
local node_name = require("runtime.node_name")
local parts = require("runtime.app.parts")
local sandbox = require("runtime.sandbox")
local sweep = require("runtime.sweep")
local target = require("runtime.target")
local telemetry = require("runtime.telemetry")

local M = {}

-- A domain of scripts that need none.
local NO_DOMAIN = {
  name = "none",
  sweeps = {},
  settings = {},
  watches_node = false,
  read_settings = function(_, given)
    return next(given) == nil and {} or nil, "domain none has no settings"
  end,
  callbacks = function()
    return {}
  end,
}

---@class oneshot.Oneshot
---@field domain table
---@field target? table
---@field telemetry telemetry.Bus
local Oneshot = {}
local oneshot_mt = { __index = Oneshot }

local function load_domain(self, name)
  if name == "none" then
    return NO_DOMAIN
  end
  return self.parts:load_domain({ domain = name })
end

-- The settings of --set, each in the type that the domain wants.
local function read_settings(domain, pairs_given)
  local given = {}
  for _, pair in ipairs(pairs_given) do
    local value = pair.value
    for _, setting in ipairs(domain.settings) do
      if setting.name == pair.name and setting.type == "boolean" then
        value = ({ ["true"] = true, ["false"] = false })[value]
      elseif setting.name == pair.name and setting.type ~= "string" then
        value = tonumber(value)
      end
    end
    given[pair.name] = value == nil and pair.value or value
  end
  local settings, err = domain:read_settings(given)
  return settings, err and "--set: " .. err
end

local function new_target(self, opts)
  local node, err = node_name.parse(opts.node)
  if not node then
    return nil, "the node " .. err
  elseif node.follows then
    return nil, ("%q: this command looks at one node; name it"):format(opts.node)
  end
  return target.new({
    node = node.address,
    cookie = cookie.find({ file = opts["cookie-file"], env = os.getenv }),
    own_name = opts.name,
    epmd_port = tonumber(os.getenv("ERL_EPMD_PORT")),
    clock = self.clock,
    telemetry = self.telemetry,
  })
end

--- Builds the parts; nothing connects yet.
---@param opts { domain: string, node?: string, name?: string, dir?: string,
--- set?: { name: string, value: string }[], warn?: fun(text: string) } `domain`: a domain's name,
--- or "none". The other options are those of the command line, `cookie-file` among them; `node`
--- defaults to BEAMLENS_NODE. `warn` is told what has no effect, and of results that do not fit
--- what a domain from a file says of them.
---@return oneshot.Oneshot?
---@return string? err What is wrong with the command line or a file.
function M.new(opts)
  local self = setmetatable({ clock = clock.system(), telemetry = telemetry.new(),
    warn = opts.warn or function() end }, oneshot_mt)
  package.loaded["beamlens"] = beamlens.new({ telemetry = self.telemetry, warn = function(text)
    io.stderr:write(text, "\n")
  end })
  self.parts = parts.new({ loader = loader.new({ dir = opts.dir }), telemetry = self.telemetry,
    clock = self.clock })
  local err
  self.domain, err = load_domain(self, opts.domain)
  if not self.domain then
    return nil, err
  end
  self.settings, err = read_settings(self.domain, opts.set or {})
  if not self.settings then
    return nil, err
  end
  if not self.domain.watches_node then
    self.node = opts.domain
    if opts.node then
      self.warn(("--node has no effect: domain %s watches no node"):format(opts.domain))
    end
    return self
  end
  opts.node = opts.node or os.getenv("BEAMLENS_NODE")
  if not opts.node then
    return nil, "no node: give --node NAME or set BEAMLENS_NODE"
  end
  self.target, err = new_target(self, opts)
  if not self.target then
    return nil, err
  end
  self.node = self.target.node
  self.sweep = sweep.new({ target = self.target, clock = self.clock, parts = self.domain.sweeps })
  return self
end

function Oneshot:context()
  return {
    target = self.target, sweep = self.sweep, node = self.node, clock = self.clock,
    settings = self.settings, on_misfit = self.domain.path and self.warn,
  }
end

--- Connects to the node, if the domain needs one. An absent node is not waited for.
---@async
---@param deadline async.Deadline
---@return true? ok
---@return string? err
---@return string? code
function Oneshot:connect(deadline)
  if not self.target then
    return true
  end
  self.target:start()
  local ok, err, code = self.target:wait_up(deadline:left_ms(), { first = true })
  if code == "ETIMEDOUT" and not self.target:status().err then
    err = ("ETIMEDOUT: no connection to %s within the time; give it more with --timeout"):format(
      self.node)
  end
  return ok, err, code
end

--- Takes a snapshot, with figures of the sweep where the domain has some.
---@async
---@param deadline async.Deadline
---@return table? data
---@return string? err
function Oneshot:snapshot(deadline)
  local task = async.spawn(function()
    if self.sweep and #self.domain.sweeps > 0 then
      self.sweep:once()
    end
    return self.domain:snapshot(self:context())
  end, { name = "snapshot", on_error = function() end })
  local ok, data, err = task:join(math.max(1, deadline:left_ms()))
  if ok == nil then
    task:cancel()
    return nil, ("ETIMEDOUT: no snapshot of %s within the time; give it more with --timeout")
      :format(self.domain.name)
  elseif not ok then
    return nil, tostring(data)
  end
  return data, err
end

--- Runs a script with the domain's callbacks.
---@async
---@param code string
---@param limits table A policy's `execute`.
---@return executor.Record record
---@return string output What it printed, the last 16 KiB.
function Oneshot:execute(code, limits)
  self.sandbox = self.sandbox or sandbox.new({ telemetry = self.telemetry })
  local output = ""
  self.telemetry:attach_many("oneshot", { "beamlens.watcher.execute_complete",
    "beamlens.watcher.execute_error" }, function(_, _, metadata)
    output = metadata.output
  end)
  local record = executor.new({
    sandbox = self.sandbox, domain = self.domain, ctx = self:context(), limits = limits,
    telemetry = self.telemetry, clock = self.clock,
    meta = { watcher = "exec", domain = self.domain.name, node = self.node },
  }):run(code, { source = "user" })
  self.telemetry:detach("oneshot")
  return record, output
end

--- Closes all of it.
---@async
function Oneshot:close()
  if self.target then
    self.target:stop()
  end
  self.parts:close()
  if self.sandbox then
    self.sandbox:close()
  end
  async.sleep(0)
end

return M
