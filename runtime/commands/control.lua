--- What the commands to a running host share: choosing it, asking it, and telling its answer.

local client = require("runtime.control.client")
local common = require("runtime.commands.common")
local json = require("runtime.json")
local options = require("runtime.options")

local M = {}

-- What the person who typed the command can mend by typing another.
local TYPED_WRONG = { EAMBIGUOUS = true, EUNKNOWN = true, EREQUEST = true }

--- The options of each of these commands.
M.OPTIONS = {
  pid = { arg = "N", doc = "the process id of the host, where several run", parse = options.count },
  socket = { arg = "PATH", doc = "the control socket itself" },
  timeout = { arg = "TIME", doc = "how long the host may take (default 10s)",
    parse = options.duration },
  json = { doc = "print the answer as one line of JSON" },
  help = { doc = "print this" },
}

M.WATCHER_OPTIONS = common.with(M.OPTIONS, {
  node = { arg = "NAME", doc = "the node, where watchers of several have the name" },
})

local function fail(err, code)
  common.warn((tostring(err):gsub("^E%u+: ", "")))
  return TYPED_WRONG[code] and 2 or 1
end

-- A host that was started by another version, or went away just now.
local function explain(path, err, code)
  if code == "ENOENT" or code == "ECONNREFUSED" or code == "ECLOSED" then
    return ("no beamlens answers at %s"):format(path)
  elseif code == "EACCES" then
    return ("%s belongs to another user: ask as that one, or as root"):format(path)
  end
  return err
end

local function ask(opts, request, tell)
  local path, err, code = client.choose({ socket = opts.socket, pid = opts.pid,
    timeout_ms = opts.timeout })
  if not path then
    return fail(err, code)
  end
  local result
  result, err, code = client.ask(path, request, opts.timeout)
  if result == nil then
    return fail(explain(path, err, code), code)
  end
  local text, status = tell(result)
  print(opts.json and json.encode(result) or text)
  return status or 0
end

--- Runs a command to a running host.
---@param args string[]
---@param spec { usage: string, options: table<string, options.Option>, needs_watcher?: boolean,
--- request: (fun(opts: table): table), tell: fun(result: table): string, integer? } `tell` words
--- the result, and may return another exit status than 0.
---@return integer status
function M.main(args, spec)
  return common.main(args, spec.options, spec.usage, function(opts)
    local wanted = spec.needs_watcher and 1 or 0
    if #opts ~= wanted then
      common.warn(("usage: beamlens %s"):format(spec.usage))
      return 2
    end
    return ask(opts, spec.request(opts), spec.tell)
  end)
end

--- "beam on shop@db1", or for many "20 watchers, 3 left out".
---@param result table As the host reports it.
function M.name_of(result)
  if not result.watchers then
    return ("%s on %s"):format(result.watcher, result.node)
  end
  local count = #result.watchers
  return ("%d watcher%s%s"):format(count, count == 1 and "" or "s",
    result.left_out > 0 and (", %d left out"):format(result.left_out) or "")
end

return M
