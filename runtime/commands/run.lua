--- `beamlens run FILE|DIR...`: runs the watchers that the files define, until stopped.

local async = require("runtime.async")
local chance = require("runtime.session.chance")
local common = require("runtime.commands.common")
local core = require("host.core")
local host = require("runtime.host")
local limits = require("runtime.guardian.limits")
local options = require("runtime.options")
local sessions = require("runtime.session")

local M = {}

local warn = common.warn

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

local function run(opts, session)
  local built, errors = host.new(opts, warn)
  if not built then
    for _, err in ipairs(errors) do
      warn(err)
    end
    return 2
  end
  return built:run(session)
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
