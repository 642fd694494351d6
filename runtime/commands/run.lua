--- `beamlens run FILE|DIR...`: runs the watchers that the files define, until stopped.

local alerts = require("runtime.alerts")
local app = require("runtime.app")
local async = require("runtime.async")
local beamlens = require("runtime.beamlens")
local clock = require("runtime.clock")
local common = require("runtime.commands.common")
local cookie = require("runtime.cookie")
local core = require("host.core")
local process = require("host.process")
local limits = require("runtime.guardian.limits")
local loader = require("runtime.loader")
local log = require("runtime.log")
local options = require("runtime.options")
local output = require("runtime.output")
local parts = require("runtime.app.parts")
local payloads = require("runtime.app.payloads")
local policy = require("runtime.policy")
local sandbox = require("runtime.sandbox")
local spending = require("runtime.spending")
local spending_store = require("runtime.spending_store")
local store = require("runtime.store")
local telemetry = require("runtime.telemetry")
local units = require("runtime.units")
local upkeep = require("runtime.upkeep")
local uv = require("luv")

local M = {}

local warn = common.warn

-- With the writing of what is left, the end takes 2 s at most.
local STOP_WITHIN_MS = 1000
local FLUSH_MS = 500
-- How long --show-payload waits for a node.
local SHOW_WITHIN_MS = 30000
-- The collector begins anew when the heap has grown by a tenth, not when it has doubled, and goes
-- through it quickly: much of what is kept (histories) lives long, and there is time enough.
local GC_PAUSE_PCT, GC_STEP_PCT = 110, 400

M.options = {
  node = { arg = "NAME", doc = "watch this node instead of the files' own" },
  ["cookie-file"] = { arg = "FILE", doc = "the Erlang cookie (else BEAMLENS_COOKIE, "
    .. "~/.erlang.cookie)" },
  name = common.NODE_OPTIONS.name,
  clients = { arg = "FILE", doc = "the client registry" },
  client = { arg = "NAME", doc = "use this client for every watcher" },
  log = { arg = "text|json", doc = "how to print events (json when stdout is no terminal)",
    parse = options.one_of({ "text", "json" }) },
  ["max-rss"] = { arg = "SIZE|none", doc = "the host's own limit of memory (else BEAMLENS_MAX_RSS, "
    .. "512MiB)", parse = limits.bytes },
  ["max-cpu"] = { arg = "PCT|none", doc = "its limit of CPU time, in percent of one core (else "
    .. "BEAMLENS_MAX_CPU, 80)", parse = limits.percent },
  store = { arg = "FILE|none", doc = "what outlives a restart (else BEAMLENS_STORE, "
    .. "$STATE_DIRECTORY, ~/.local/state/beamlens)" },
  dir = common.NODE_OPTIONS.dir,
  ["for"] = { arg = "TIME", doc = "stop after this time, such as 30s", parse = options.duration },
  ["show-payload"] = { doc = "print what would be sent to the model, send nothing, and end" },
  iterations = { arg = "N", doc = "stop each watcher after N decisions", parse = options.count },
  help = { doc = "print this" },
}

-- The .lua files that the arguments name; a folder stands for those in it.
local function watcher_files(arguments)
  local files = {}
  for _, path in ipairs(arguments) do
    local stat = uv.fs_stat(path)
    if not stat then
      return nil, ("%s: no such file or folder"):format(path)
    elseif stat.type == "directory" then
      local names, scan = {}, uv.fs_scandir(path)
      for name in uv.fs_scandir_next, scan do
        if name:find("%.lua$") then
          names[#names + 1] = path:gsub("/+$", "") .. "/" .. name
        end
      end
      table.sort(names)
      for _, name in ipairs(names) do
        files[#files + 1] = name
      end
    else
      files[#files + 1] = path
    end
  end
  if #files == 0 then
    return nil, "no watcher file given: beamlens run FILE|DIR..."
  end
  return files
end

local function load_policies(files, opts, files_of_users)
  local policies, errors = {}, {}
  local watches_node = parts.watches_node(files_of_users)
  for _, file in ipairs(files) do
    local list, file_errors = policy.load(file,
      { node = opts.node, env = os.getenv, watches_node = watches_node })
    for _, item in ipairs(list or {}) do
      item.client = opts.client or item.client
      policies[#policies + 1] = item
    end
    for _, err in ipairs(file_errors or {}) do
      errors[#errors + 1] = err
    end
  end
  return policies, errors
end

-- Builds the host from the command line. Returns it with its log and output, or a list of errors.
local function build(opts)
  local files, files_err = watcher_files(opts)
  if not files then
    return nil, { files_err }
  end
  local host = { clock = clock.system(), stopping = async.signal() }
  host.telemetry = telemetry.new({
    on_handler_error = function(id, event, err)
      host.telemetry:execute("beamlens.handler.failed", { system_time = host.clock.wall_ms() },
        { handler = id, event = event, error = err })
    end,
  })
  package.loaded["beamlens"] = beamlens.new({ telemetry = host.telemetry, warn = warn })

  local files_of_users = loader.new({ dir = opts.dir })
  local policies, errors = load_policies(files, opts, files_of_users)
  if #errors > 0 then
    return nil, errors
  end
  host.ledger = spending.new({ clock = host.clock, telemetry = host.telemetry,
    on_change = function(...)
      if host.keeper then
        host.keeper:note(...)
      end
    end })
  local registry, registry_err = common.open_registry({ file = opts.clients,
    watcher_file = files[1], telemetry = host.telemetry, clock = host.clock,
    ledger = host.ledger })
  if not registry then
    return nil, { registry_err }
  end
  if opts["show-payload"] then
    registry = payloads.wrap(registry, function(...)
      host:show(...)
    end)
  end
  host.sandbox = sandbox.new({ telemetry = host.telemetry })
  host.alerts = alerts.new({ telemetry = host.telemetry, clock = host.clock })
  local application, app_errors = app.new({
    policies = policies,
    registry = registry,
    loader = files_of_users,
    sandbox = host.sandbox,
    alerts = host.alerts,
    telemetry = host.telemetry,
    clock = host.clock,
    ledger = host.ledger,
    cookie = function(file)
      return cookie.find({ file = opts["cookie-file"] or file, env = os.getenv })
    end,
    own_name = opts.name,
    epmd_port = tonumber(os.getenv("ERL_EPMD_PORT")),
  })
  if not application then
    host.sandbox:close()
    return nil, app_errors
  end
  host.app, host.registry = application, registry
  return host
end

-- Becomes the owner of the store and takes over what was spent before. False when another process
-- is the owner; whatever else is wrong with the store, the host watches without it.
local function open_store(host, given)
  local path, place_err = store.path(given)
  if not path then
    if place_err then
      warn(place_err .. "; spending is kept in memory alone")
    end
    return true
  end
  local opened, err, code, pid = store.open({ path = path })
  if opened then
    host.store = opened
    host.keeper = spending_store.new({ store = opened, clock = host.clock, warn = warn })
    host.keeper:restore(host.ledger)
    return true
  elseif code == "ELOCKED" then
    warn(("the store %s belongs to a running beamlens%s: stop that one, or give this one a store "
      .. "of its own with --store FILE (or none)"):format(path, pid ~= 0 and ", pid " .. pid or ""))
    return false
  end
  warn(("the store %s: %s; spending is kept in memory alone"):format(path, err))
  return true
end

local function close_store(host)
  if host.store then
    host.keeper:flush(FLUSH_MS)
    host.store:close()
  end
end

-- SIGINT and SIGTERM stop the host; a second one ends it at once.
local function handle_signals(host)
  local signals, seen = {}, false
  for _, name in ipairs({ "sigint", "sigterm" }) do
    local signal = uv.new_signal()
    signal:start(name, function()
      if seen then
        process.exit(130)
      end
      seen = true
      host:stop(name)
    end)
    signals[#signals + 1] = signal
  end
  local hangup = uv.new_signal()
  hangup:start("sighup", function()
    if host.upkeep then
      host.upkeep:reload_soon("SIGHUP")
    end
  end)
  signals[#signals + 1] = hangup
  return function()
    for _, signal in ipairs(signals) do
      signal:close()
    end
  end
end

local function attach_handlers(host, policies)
  local seen = {}
  for _, item in ipairs(policies) do
    for _, handler in ipairs(item.handlers) do
      local id = ("%s:%s"):format(item.file, handler[1])
      if not seen[id] then
        seen[id] = true
        host.telemetry:attach(id, handler[2], handler[3])
      end
    end
  end
end

local function run(opts)
  local host, errors = build(opts)
  if not host then
    for _, err in ipairs(errors) do
      warn(err)
    end
    return 2
  end

  if not opts["show-payload"] and not open_store(host, opts.store) then
    host.sandbox:close()
    return 2
  end

  local status, reason
  function host.stop(_, why, exit_status)
    if not reason then
      reason, status = why, exit_status or 0
      host.stopping:fire()
    end
  end
  host.output = output.new(1, function()
    host:stop("stdout closed")
  end)
  local only_shows = opts["show-payload"]
  host.log = not only_shows and log.new({ output = host.output, telemetry = host.telemetry,
    clock = host.clock,
    format = opts.log or (host.output.is_terminal and "text" or "json"),
    key_metrics = function(name)
      return host.app:key_metrics(name)
    end,
    extent = function()
      return host.app:extent()
    end })
  core.set_error_hook(warn)
  local release_signals = handle_signals(host)
  for _, line in ipairs(host.log and host.app:introduction() or {}) do
    host.log:write(nil, line)
  end
  if host.registry.notice then
    warn(host.registry.notice)
  end
  for _, warning in ipairs(host.app:warnings()) do
    warn(warning)
  end
  if only_shows then
    payloads.start(host, warn)
  else
    attach_handlers(host, host.app:policies())
  end

  -- The one way to a reload, whoever wants it. Returns what was done, or nil, why not, and a code.
  function host.reload()
    return nil, "files are not reloaded while running yet; restart to apply changes", "ENOSYS"
  end
  host.upkeep = not only_shows and upkeep.start(host, opts, warn) or nil

  host.app:start({
    on_refused = function(err)
      warn(err)
      host:stop("refused", 1)
    end,
    iterations = opts.iterations,
    on_finished = function()
      host:stop("iterations")
    end,
  })
  if not reason then
    host.stopping:wait(opts["for"] or (only_shows and SHOW_WITHIN_MS))
    reason = reason or "time is over"
    if only_shows and not host.shown then
      warn("there was nothing to show: no watcher came to its first decision")
      status = 1
    end
  end

  if host.upkeep then
    host.upkeep:stopping()
  end
  local stopping = async.spawn(function()
    host.app:stop(reason)
  end, { on_error = warn })
  stopping:join(STOP_WITHIN_MS)
  if host.upkeep then
    host.upkeep:close()
  end
  close_store(host)
  release_signals()
  host.output:close(500)
  if host.output.dropped > 0 then
    warn(("%s events were dropped: stdout's reader was too slow"):format(
      units.format_count(host.output.dropped)))
  end
  return status or 0
end

---@param args string[]
---@return integer status
function M.main(args)
  local opts, err = options.parse(args, M.options)
  if not opts then
    warn(err)
    return 2
  end
  if opts.help then
    print(options.help("run FILE|DIR... [OPTION...]", M.options))
    return 0
  end
  collectgarbage("setpause", GC_PAUSE_PCT)
  collectgarbage("setstepmul", GC_STEP_PCT)
  local ok, status = async.run(run, opts)
  core.set_error_hook(nil)
  if not ok then
    warn(tostring(status))
    return 1
  end
  return status
end

return M
