--- Talks to a running host over its control socket: finds hosts, and asks one.

local async = require("runtime.async")
local json = require("runtime.json")
local place = require("runtime.control.place")
local process = require("host.process")
local uv = require("luv")

local M = {}

local VERSION = 1
local TIMEOUT_MS = 10000

-- In a shared folder somebody else may play the host. Root asks whom it likes.
local function is_trusted(pipe)
  local own, peer = process.uid(), process.peer_uid(pipe:fileno())
  return own == 0 or peer == own or peer == 0
end

-- Connects and sends a line. Calls done(line) or done(nil, err, code) once.
local function exchange(path, text, done)
  local pipe = uv.new_pipe(false)
  local chunks = {}
  local function finish(...)
    if not pipe:is_closing() then
      pipe:close()
    end
    done(...)
  end
  local function on_read(err, chunk)
    if not chunk then
      finish(nil, err or "ECLOSED: the host closed the connection", "ECLOSED")
      return
    end
    chunks[#chunks + 1] = chunk
    if chunk:find("\n", 1, true) then
      finish(table.concat(chunks):match("^[^\n]*"))
    end
  end
  pipe:connect(path, function(err)
    if err then
      finish(nil, err, tostring(err):match("^E%u+"))
      return
    elseif not is_trusted(pipe) then
      finish(nil, "EPERM: another user answers there", "EPERM")
      return
    end
    pipe:read_start(on_read)
    pipe:write(text)
  end)
  return function()
    if not pipe:is_closing() then
      pipe:close()
    end
  end
end

--- Asks a host.
---@async
---@param path string
---@param request table With `command`.
---@param timeout_ms? number Default: 10 s.
---@return any result
---@return string? err
---@return string? code The host's own; ETIMEDOUT; ECLOSED; ECONNREFUSED, ENOENT: nobody answers
--- there; EACCES, EPERM: another user's; EVERSION, EJSON: no host of this version.
function M.ask(path, request, timeout_ms)
  request.v = VERSION
  local line, err, code = async.await(timeout_ms or TIMEOUT_MS, function(done)
    return exchange(path, json.encode(request) .. "\n", done)
  end)
  if not line then
    return nil, err, code
  end
  local answer
  answer, err, code = json.decode(line)
  if type(answer) ~= "table" then
    return nil, err or "EJSON: no answer of a host", code or "EJSON"
  elseif not answer.ok then
    return nil, tostring(answer.error), tostring(answer.code)
  end
  return answer.result
end

-- The folders that exist and that we may not look into.
local function closed_folders(folders)
  local closed = {}
  for _, folder in ipairs(folders) do
    local _, _, code = uv.fs_scandir(folder)
    if code == "EACCES" then
      closed[#closed + 1] = folder
    end
  end
  return closed
end

-- What a socket fails with that no host is behind any more.
local DEAD = { ECONNREFUSED = true, ENOENT = true, ECLOSED = true, ECONNRESET = true, EPIPE = true }

--- The hosts that there are.
---@async
---@param opts? { pid?: integer, timeout_ms?: number, env?: fun(name: string): string?,
--- folders?: string[] }
---@return { path: string, pid: integer, host?: table, err?: string }[] hosts `host` is what it
--- tells of itself, `err` why it tells nothing.
---@return { looked_in: string[], closed: string[] } where
function M.hosts(opts)
  opts = opts or {}
  local folders = opts.folders or place.folders(opts.env)
  local found = {}
  for _, folder in ipairs(folders) do
    for _, socket in ipairs(place.sockets(folder)) do
      if not opts.pid or socket.pid == opts.pid then
        local host, err, code = M.ask(socket.path, { command = "host" }, opts.timeout_ms)
        if host or not DEAD[code] then
          found[#found + 1] = { path = socket.path, pid = socket.pid, host = host, err = err }
        end
      end
    end
  end
  return found, { looked_in = folders, closed = closed_folders(folders) }
end

local function list(hosts)
  local lines = { ("%d hosts run; choose one with --pid:"):format(#hosts) }
  for _, each in ipairs(hosts) do
    lines[#lines + 1] = ("  --pid %d  %s"):format(each.pid,
      each.host and table.concat(each.host.args, " ") or each.err)
  end
  return table.concat(lines, "\n")
end

local function nobody(pid, where)
  local err = pid and ("no beamlens with pid %d answers"):format(pid) or "no beamlens is running"
  err = ("%s (looked in %s)"):format(err, table.concat(where.looked_in, ", "))
  if where.closed[1] then
    err = ("%s; %s belongs to another user: ask as that one, or as root"):format(err,
      table.concat(where.closed, ", "))
  end
  return err
end

--- The one host that is meant.
---@async
---@param opts { socket?: string, pid?: integer, timeout_ms?: number,
--- env?: fun(name: string): string?, folders?: string[] }
---@return string? path
---@return string? err
---@return string? code ENOHOST, ESILENT: it does not answer, or EAMBIGUOUS: there are several.
function M.choose(opts)
  if opts.socket then
    return opts.socket
  end
  local hosts, where = M.hosts(opts)
  if #hosts > 1 then
    return nil, list(hosts), "EAMBIGUOUS"
  elseif #hosts == 0 then
    return nil, nobody(opts.pid, where), "ENOHOST"
  elseif not hosts[1].host then
    return nil, ("the beamlens with pid %d does not answer: %s"):format(hosts[1].pid,
      (hosts[1].err:gsub("^E%u+: ", ""))), "ESILENT"
  end
  return hosts[1].path
end

return M
