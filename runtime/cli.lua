--- The command line: finds the command, reads its options, runs it, and turns its result into an
--- exit status: 0 done, 1 the work failed, 2 the command line or a file is wrong.

local suggest = require("runtime.suggest")

local M = {}

local EPIPE = 32

-- Commands by name: the module that runs them, and a line for the help.
local COMMANDS = {
  run = { module = "runtime.commands.run", help = "run the watchers that files define" },
  check = { module = "runtime.commands.check", help = "check watcher, domain, prompt and client "
    .. "files" },
  exec = { module = "runtime.commands.exec", help = "run Lua in the sandbox with a domain's "
    .. "callbacks" },
  snapshot = { module = "runtime.commands.snapshot", help = "take one snapshot of a domain" },
  domains = { module = "runtime.commands.domains", help = "list domains, or one with its "
    .. "callbacks" },
  clients = { module = "runtime.commands.clients", help = "list the client registry, or ping its "
    .. "models" },
  alerts = { module = "runtime.commands.alerts", help = "list the alerts of the store, or show one "
    .. "whole" },
  doctor = { module = "runtime.commands.doctor", help = "check what watching a node needs" },
  events = { module = "runtime.commands.events", help = "list telemetry events" },
  status = { module = "runtime.commands.status", help = "what the running host watches, and how "
    .. "that is" },
  pause = { module = "runtime.commands.pause", help = "no decisions of a watcher of the running "
    .. "host" },
  resume = { module = "runtime.commands.resume", help = "end a watcher's pause" },
  wake = { module = "runtime.commands.wake", help = "end a watcher's wait" },
  reload = { module = "runtime.commands.reload", help = "have the running host read its files "
    .. "again" },
  version = { module = "runtime.commands.version", help = "print versions" },
  lua = { module = "runtime.commands.lua", help = "run a Lua file in the host" },
}
local ORDER = {
  "run", "check", "exec", "snapshot", "domains", "clients", "alerts", "doctor", "events", "status",
  "pause", "resume", "wake", "reload", "version", "lua",
}

local function usage()
  local lines = { "usage: beamlens COMMAND [OPTION...]", "" }
  for _, name in ipairs(ORDER) do
    lines[#lines + 1] = ("  %-10s %s"):format(name, COMMANDS[name].help)
  end
  lines[#lines + 1] = ""
  lines[#lines + 1] = "`beamlens COMMAND --help` lists a command's options."
  return table.concat(lines, "\n")
end

-- What was printed is there only now; a reader that has closed its end has seen enough.
local function flush(status)
  local ok, err, number = io.stdout:flush()
  if ok or number == EPIPE then
    return status
  end
  io.stderr:write(("beamlens: cannot write to stdout: %s\n"):format(err))
  return status ~= 0 and status or 1
end

--- Runs the command line.
---@param argv string[] `[0]` is the program.
---@return integer status
function M.main(argv)
  local name = argv[1]
  if name == nil or name == "help" or name == "--help" or name == "-h" then
    print(usage())
    return flush(name and 0 or 2)
  end
  if name == "--version" then
    name = "version"
  end
  local command = COMMANDS[name]
  if not command then
    io.stderr:write(("beamlens: unknown command %q%s\n%s\n"):format(name,
      suggest.hint(name, ORDER), usage()))
    return 2
  end
  local args = { [0] = name, unpack(argv, 2) }
  return flush(require(command.module).main(args))
end

return M
