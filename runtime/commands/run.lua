--- `beamlens run FILE|DIR...`: runs the watchers that the files define, until stopped.

local alerts = require("runtime.alerts")
local app = require("runtime.app")
local async = require("runtime.async")
local beamlens = require("runtime.beamlens")
local chance = require("runtime.session.chance")
local clock = require("runtime.clock")
local common = require("runtime.commands.common")
local cookie = require("runtime.cookie")
local core = require("host.core")
local limits = require("runtime.guardian.limits")
local loader = require("runtime.loader")
local log = require("runtime.log")
local options = require("runtime.options")
local output = require("runtime.output")
local parts = require("runtime.app.parts")
local payloads = require("runtime.app.payloads")
local process = require("host.process")
local registry_source = require("runtime.reload.registry")
local reload = require("runtime.reload")
local sandbox = require("runtime.sandbox")
local sessions = require("runtime.session")
local sources = require("runtime.reload.sources")
local spending = require("runtime.spending")
local spending_store = require("runtime.spending_store")
local state_store = require("runtime.state_store")
local store = require("runtime.store")
local store_keeper = require("runtime.store.keeper")
local telemetry = require("runtime.telemetry")
local units = require("runtime.units")
local upkeep = require("runtime.upkeep")
local uv = require("luv")
local world = require("runtime.world")

local M = {}

local warn = common.warn

-- With the writing of what is left, the end takes 2 s at most.
local STOP_WITHIN_MS = 1000
local FLUSH_MS = 700
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
  store = common.STORE_OPTION,
  dir = common.NODE_OPTIONS.dir,
  ["for"] = { arg = "TIME", doc = "stop after this time, such as 30s", parse = options.duration },
  ["show-payload"] = { doc = "print what would be sent to the model, send nothing, and end" },
  record = { arg = "FILE", doc = "record all that comes in, for --replay" },
  replay = { arg = "FILE", doc = "run again what was recorded, without node, model or network" },
  iterations = { arg = "N", doc = "stop each watcher after N decisions", parse = options.count },
  help = { doc = "print this" },
}

-- The watchers of all files that the arguments name; or a list of what is wrong.
local function read_watchers(sources_of_host, arguments)
  if #arguments == 0 then
    return nil, { "no watcher file given: beamlens run FILE|DIR..." }
  end
  local policies, errors = {}, {}
  for _, path in ipairs(arguments) do
    if not uv.fs_stat(path) then
      errors[#errors + 1] = ("%s: no such file or folder"):format(path)
    end
  end
  if #errors > 0 then
    return nil, errors
  end
  local drafts = sources_of_host:round(function(_, err)
    errors[#errors + 1] = err
  end)
  for _, draft in ipairs(drafts) do
    sources_of_host:put(draft)
    for _, item in ipairs(draft.policies) do
      policies[#policies + 1] = item
    end
  end
  if #errors == 0 and #drafts == 0 then
    errors[1] = ("no watcher file in %s"):format(table.concat(arguments, ", "))
  end
  return #errors == 0 and policies or nil, errors, drafts[1] and drafts[1].path
end

-- Builds the host from the command line. Returns it with its log and output, or a list of errors.
local function build(opts)
  local host = { clock = clock.system(), stopping = async.signal() }
  host.telemetry = telemetry.new({
    on_handler_error = function(id, event, err)
      host.telemetry:execute("beamlens.handler.failed", { system_time = host.clock.wall_ms() },
        { handler = id, event = event, error = err })
    end,
  })
  package.loaded["beamlens"] = beamlens.new({ telemetry = host.telemetry, warn = warn })

  host.ledger = spending.new({ clock = host.clock, telemetry = host.telemetry,
    on_change = function(...)
      host.spending:note(...)
    end })
  host.spending = spending_store.new({ ledger = host.ledger, clock = host.clock })
  local loaded = parts.new({ loader = loader.new({ dir = opts.dir }), telemetry = host.telemetry,
    clock = host.clock, ledger = host.ledger })
  host.sources = sources.new({ arguments = { unpack(opts) }, loaded = loaded, clock = host.clock,
    node = opts.node, client = opts.client, env = world.env })
  local policies, errors, first_file = read_watchers(host.sources, opts)
  if not policies then
    return nil, errors
  end
  host.registries = registry_source.new({ file = opts.clients, watcher_file = first_file,
    telemetry = host.telemetry, clock = host.clock, ledger = host.ledger })
  local opened = host.registries:look()
  if not opened.value then
    return nil, opened.errors
  end
  local registry = opened.value
  if opts["show-payload"] then
    registry = payloads.wrap(registry, function(...)
      host:show(...)
    end)
  end
  loaded:set_registry(registry)
  host.sandbox = sandbox.new({ telemetry = host.telemetry })
  host.alerts = alerts.new({ telemetry = host.telemetry, clock = host.clock })
  host.state = state_store.new({ alerts = host.alerts, telemetry = host.telemetry,
    clock = host.clock })
  local application, app_errors = app.new({
    policies = policies,
    parts = loaded,
    sandbox = host.sandbox,
    alerts = host.alerts,
    state = host.state,
    telemetry = host.telemetry,
    clock = host.clock,
    ledger = host.ledger,
    cookie = function(file)
      return cookie.find({ file = opts["cookie-file"] or file, env = os.getenv })
    end,
    own_name = opts.name,
    epmd_port = tonumber(world.env("ERL_EPMD_PORT")),
  })
  if not application then
    host.sandbox:close()
    return nil, app_errors
  end
  host.app, host.registry, host.loaded = application, registry, loaded
  return host
end

-- Becomes the owner of the store and takes over what it holds. False when another process is the
-- owner; whatever else is wrong with the store, the host watches on from memory.
local function open_store(host, given)
  local path, place_err = store.path(given, world.env)
  if not path then
    if place_err then
      warn(place_err .. "; nothing outlives a restart")
    end
    return true
  end
  host.keeper = store_keeper.new({ path = path, parts = { host.spending, host.state },
    clock = host.clock, telemetry = host.telemetry, warn = warn })
  local opened, _, _, pid = host.keeper:open()
  if not opened then
    warn(("the store %s belongs to a running beamlens%s: stop that one, or give this one a store "
      .. "of its own with --store FILE (or none)"):format(path, pid ~= 0 and ", pid " .. pid or ""))
  end
  return opened
end

local function close_store(host)
  host.state:close()
  if host.keeper then
    host.keeper:flush(FLUSH_MS)
    host.keeper:close()
  end
end

-- SIGINT and SIGTERM stop the host; a second one ends it at once.
local function handle_signals(host)
  local signals, seen = {}, false
  local function handle(name, fn)
    signals[#signals + 1] = world.open("signal", function(on_event)
      local signal = uv.new_signal()
      signal:start(name, on_event)
      return signal
    end, fn, name)
  end
  for _, name in ipairs({ "sigint", "sigterm" }) do
    handle(name, function()
      if seen then
        process.exit(130)
      end
      seen = true
      host:stop(name)
    end)
  end
  handle("sighup", function()
    if host.upkeep then
      host.upkeep:reload_soon("SIGHUP")
    end
  end)
  return function()
    for _, signal in ipairs(signals) do
      signal:close()
    end
  end
end

-- From now on the files are reloaded when they change.
local function start_reloading(host)
  local reloader = reload.new({ app = host.app, loaded = host.loaded, sources = host.sources,
    registry = host.registries, telemetry = host.telemetry, clock = host.clock, warn = warn })
  reloader:start()
end

-- Opens stdout. That it was closed belongs to a recording; a replay has a stdout of its own, and
-- nobody to tell.
local function open_output(host, session)
  world.open("stdout", function(on_event)
    host.output = output.new(1, on_event)
    return host.output
  end, function()
    host:stop("stdout closed")
  end)
  host.output = host.output or output.new(1, function() end)
  if session then
    session:set_output(host.output)
  end
end

-- What must be in no recording.
local function hide_secrets(host, session)
  for _, unit in ipairs(session and host.app.units or {}) do
    session:hide(unit.registry:secrets())
  end
end

local function run(opts, session)
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
  open_output(host, session)
  hide_secrets(host, session)
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
  if host.keeper then
    host.keeper:start()
  end
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
    start_reloading(host)
  end

  -- The one way to a reload, whoever wants it. Returns what was done, or nil, why not, and a code.
  function host.reload(_, why)
    return host.app:reload(why)
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
  host.state:settle(host.app)
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
    if host.app.reloader then
      host.app.reloader:stop()
    end
    host.app:stop(reason)
  end, { on_error = warn })
  stopping:join(STOP_WITHIN_MS)
  if host.upkeep then
    host.upkeep:close()
  end
  close_store(host)
  release_signals()
  if session then
    session:finish(reason)
  end
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
  chance.scatter()
  local session, session_err = sessions.new(opts, { args = args, known = M.options }, warn)
  if session_err then
    warn(session_err)
    return 2
  elseif session then
    session:start()
  end
  collectgarbage("setpause", GC_PAUSE_PCT)
  collectgarbage("setstepmul", GC_STEP_PCT)
  local ok, status = async.run(run, opts, session)
  core.set_error_hook(nil)
  if not ok then
    if not (session and session:is_over()) then
      warn(tostring(status))
    end
    status = 1
  end
  return session and session:stop(status) or status
end

return M
