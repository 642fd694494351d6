--- `beamlens doctor [DOMAIN]`: checks what watching a node, or what else a domain watches, needs; a
--- line each: ok, or FAIL and what to do.

local async = require("runtime.async")
local clock = require("runtime.clock")
local common = require("runtime.commands.common")
local cookie = require("runtime.cookie")
local inspect = require("runtime.store.inspect")
local node_name = require("runtime.node_name")
local oneshot = require("runtime.oneshot")
local own_names = require("runtime.target.own_names")
local releases = require("runtime.releases")
local sandbox = require("runtime.sandbox")
local store = require("runtime.store")
local telemetry = require("runtime.telemetry")
local uv = require("luv")

local M = {}

local TIMEOUT_MS = 15000

M.options = common.with(common.NODE_OPTIONS, {
  clients = { arg = "FILE", doc = "the client registry" },
  store = common.STORE_OPTION,
})

-- Prints a line; `ok` nil or false is a FAIL. Remembers that there was one.
local function tell(self, ok, what, text)
  print(("%-5s %-8s %s"):format(ok and "ok" or "FAIL", what, text))
  self.failed = self.failed or not ok
  return ok
end

-- A container's host name is its id, and each new one stays on the watched node as an atom.
local function is_passing_host(hostname)
  return hostname:find("^%x%x%x%x%x%x%x%x%x%x%x%x$") ~= nil
    or uv.fs_stat("/.dockerenv") ~= nil or os.getenv("KUBERNETES_SERVICE_HOST") ~= nil
end

local function check_name(self, opts, node)
  local hostname = uv.os_gethostname()
  local host = own_names.host_for(node, hostname)
  local name = opts.name or own_names.list(host)[1]
  local text = name
  if not opts.name and host ~= node:match("@(.*)$") and is_passing_host(hostname) then
    text = ("%s; this host's name looks like a container's, which changes with each one and stays "
      .. "on the node as an atom: give --name beamlens@SOME.CONSTANT.HOST"):format(name)
  end
  tell(self, true, "name", text)
end

local function check_cookie(self, opts)
  local found, err = cookie.find({ file = opts["cookie-file"], env = os.getenv })()
  local from = opts["cookie-file"] or os.getenv("BEAMLENS_COOKIE") and "BEAMLENS_COOKIE"
    or "~/.erlang.cookie"
  return tell(self, found, "cookie", found and "from " .. from or err)
end

-- Whether there is more to say about the attach.
local function check_epmd(self, opts, err, code)
  if node_name.of(opts.node) ~= opts.node then
    return tell(self, true, "epmd", "is not asked: the node's port is given")
  elseif code == "EEPMD" or code == "EHOST" then
    return tell(self, false, "epmd", err)
  end
  return code == "ETIMEDOUT" or tell(self, true, "epmd", "answers")
end

local function check_snapshot(self, one, deadline)
  local data, err = one:snapshot(deadline)
  tell(self, data, "snapshot", data and "of domain " .. one.domain.name or err)
end

local function check_attach(self, opts, one, deadline)
  local ok, err, code = one:connect(deadline)
  if not check_epmd(self, opts, err, code) then
    return
  end
  if not tell(self, ok, "attach", ok and ("%s, as %s"):format(one.node,
      one.target:status().info.own_name) or err) then
    return
  end
  local info = one.target:status().info
  local is_tested = releases.is_tested(info.otp_release)
  tell(self, true, "versions", ("OTP %s%s"):format(info.otp_release or "of an unknown release",
    is_tested == false and ", which is not among the releases tested" or ""))
  tell(self, info.eval, "eval", info.eval and "the node evaluates expressions" or info.eval_err)
  check_snapshot(self, one, deadline)
end

local function check_node(self, one, opts, deadline)
  check_name(self, opts, one.node)
  if check_cookie(self, opts) then
    check_attach(self, opts, one, deadline)
  end
end

local function check_clients(self, opts)
  local registry, err = common.open_registry({ file = opts.clients, telemetry = telemetry.new(),
    clock = clock.system() })
  if not registry then
    tell(self, false, "client", err)
    return
  end
  for _, client in ipairs(registry:list()) do
    local is_primary = client.name == registry.primary
    if is_primary or client.key == "missing" then
      tell(self, client.key ~= "missing", "client", ("%s (%s%s)%s"):format(client.name,
        client.provider, client.model ~= client.provider and " " .. client.model or "",
        client.key == "missing" and ": its key is not set" or is_primary and ", the primary" or ""))
    end
  end
end

local function check_store(self, opts)
  local path, place_err = store.path(opts.store)
  if place_err then
    tell(self, false, "store", place_err)
    return
  end
  local ok, text = inspect.describe(path)
  tell(self, ok, "store", text)
end

local function check_sandbox(self)
  local box = sandbox.new({ telemetry = telemetry.new() })
  local outcome = box:exec({ code = "return 6 * 7" })
  tell(self, outcome.ok and outcome.value == 42, "sandbox",
    outcome.ok and "runs scripts in its jail" or outcome.message)
  box:close()
end

local function doctor(opts)
  if #opts > 1 then
    common.warn(("doctor takes one domain: %q"):format(opts[2]))
    return 2
  end
  opts.domain, opts.warn = opts[1] or "beam", common.warn
  local one, err = oneshot.new(opts)
  if not one then
    common.warn(err)
    return 2
  end
  local self, deadline = {}, async.deadline(opts.timeout or TIMEOUT_MS)
  if one.target then
    check_node(self, one, opts, deadline)
  elseif opts.domain ~= "none" then
    check_snapshot(self, one, deadline)
  end
  check_clients(self, opts)
  check_store(self, opts)
  check_sandbox(self)
  one:close()
  return self.failed and 1 or 0
end

---@param args string[]
---@return integer status
function M.main(args)
  return common.main(args, M.options, "doctor [DOMAIN] [OPTION...]", doctor)
end

return M
