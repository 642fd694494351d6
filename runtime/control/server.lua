--- The control socket of a running host: answers its owner's commands.
---
--- Both sides speak JSON, an object a line. A request is `{v = 1, command = "pause", …}`, an answer
--- `{v = 1, ok = true, result = …}` or `{v = 1, ok = false, error = …, code = …}`; a connection may
--- ask again. What is too long, too slow, too many or of another user costs its connection only.
---
---   local server = assert(control_server.open({ answer = function(request) … end }))
---   print(server.path)      -- /run/user/1000/beamlens/4711.sock
---   server:close()

local async = require("runtime.async")
local json = require("runtime.json")
local place = require("runtime.control.place")
local process = require("host.process")
local uv = require("luv")

local M = {}

M.VERSION = 1

local MAX_REQUEST = 64 * 1024
local MAX_CLIENTS = 16
-- A request has to arrive whole, and an answer to be taken, within this.
local PATIENCE_MS = 10000
local BACKLOG = 16
local OWNER_ONLY = 384 -- 0600

---@class control_server.Server
---@field path string
local Server = {}
local server_mt = { __index = Server }

-- Removes what hosts have left that are no more.
local function clean(folder)
  for _, socket in ipairs(place.sockets(folder)) do
    if place.is_dead(socket.pid) then
      uv.fs_unlink(socket.path)
    end
  end
end

-- Listens at a path. The mode is set before anybody can connect.
local function listen(path, on_connection)
  local pipe = uv.new_pipe(false)
  uv.fs_unlink(path) -- of an earlier process with our id
  local ok, err, code = pipe:bind(path)
  if ok then
    ok, err, code = uv.fs_chmod(path, OWNER_ONLY)
  end
  if ok then
    ok, err, code = pipe:listen(BACKLOG, on_connection)
  end
  if not ok then
    pipe:close()
    return nil, err, code
  end
  return pipe
end

-- Listens in the first folder that can be used. Returns the reason of the last one that cannot.
local function listen_somewhere(folders, on_connection)
  local last
  for _, folder in ipairs(folders) do
    local path = place.path(folder, uv.os_getpid())
    local ok, err = place.prepare(folder)
    if not path then
      err = ("ENAMETOOLONG: %s is too long for a socket"):format(folder)
    elseif ok then
      clean(folder)
      ok, err = listen(path, on_connection)
      if ok then
        return ok, path
      end
    end
    last = ("%s: %s"):format(folder, tostring(err))
  end
  return nil, last
end

local function encode(ok, value, err, code)
  local answer = { v = M.VERSION, ok = ok }
  if ok then
    answer.result = value
  else
    answer.error, answer.code = tostring(err):gsub("^E%u+: ", ""), code
  end
  return json.encode(answer) .. "\n"
end

-- The request of a line, or nil, an error and its code.
local function decode(line)
  local request, err = json.decode(line)
  if type(request) ~= "table" or request[1] ~= nil then
    return nil, err or "EREQUEST: a request is a JSON object", "EREQUEST"
  elseif request.v ~= M.VERSION then
    return nil, ("EVERSION: this host speaks version %d of the control protocol"):format(M.VERSION),
      "EVERSION"
  elseif type(request.command) ~= "string" then
    return nil, "EREQUEST: a request names its command", "EREQUEST"
  end
  return request
end

-- The next line, without its end. nil at the end of the connection and when patience is, with an
-- error where one is worth telling.
local function read_line(client)
  local deadline = async.deadline(client.patience_ms)
  while true do
    local line, rest
    if client.has_line then
      line, rest = table.concat(client.chunks):match("^([^\n]*)\n(.*)$")
      client.chunks, client.size, client.has_line = { rest }, #rest, rest:find("\n", 1, true)
    end
    if #(line or "") > MAX_REQUEST or (not line and client.size > MAX_REQUEST) then
      return nil, ("ETOOBIG: a request is at most %d bytes"):format(MAX_REQUEST), "ETOOBIG"
    elseif line or client.over then
      return line
    end
    local _, _, code = client.changed:wait(deadline:left_ms())
    if code == "ETIMEDOUT" then
      return nil
    end
  end
end

-- Who sends more than is answered is not read any further meanwhile.
local function read(client)
  client.is_reading = true
  client.pipe:read_start(function(_, chunk)
    if chunk then
      client.chunks[#client.chunks + 1] = chunk
      client.size = client.size + #chunk
      client.has_line = client.has_line or chunk:find("\n", 1, true)
    end
    client.over = not chunk
    if client.over or client.size > MAX_REQUEST then
      client.is_reading = false
      client.pipe:read_stop()
    end
    client.changed:fire(true)
  end)
end

-- Sends an answer. Nothing of the next request is looked at before it has been taken.
local function send(client, text)
  return async.await(client.patience_ms, function(done)
    client.pipe:write(text, function(err)
      done(not err)
    end)
  end)
end

local function answer_one(self, line)
  local request, err, code = decode(line)
  if not request then
    return encode(false, nil, err, code)
  end
  local ok, result, why, why_code = async.pcall(self.answer, request)
  if not ok then
    self.warn("the control socket: " .. tostring(result))
    return encode(false, nil, "the host failed to answer", "EINTERNAL")
  end
  return encode(result ~= nil, result, why, why_code)
end

local function serve(self, client)
  while true do
    if not client.is_reading and not client.over and client.size <= MAX_REQUEST then
      read(client)
    end
    local line, err, code = read_line(client)
    if code then
      send(client, encode(false, nil, err, code))
    end
    if not line or not send(client, answer_one(self, line)) then
      return
    end
  end
end

-- Of our own user, or of root.
local function is_allowed(pipe)
  local uid = process.peer_uid(pipe:fileno())
  return uid == process.uid() or uid == 0
end

local function accept(self)
  local pipe = uv.new_pipe(false)
  if self.closed or not self.pipe:accept(pipe) or not is_allowed(pipe) then
    pipe:close()
    return
  end
  local client = { pipe = pipe, chunks = {}, size = 0, changed = async.signal(),
    patience_ms = self.patience_ms }
  if self.count >= MAX_CLIENTS then
    pipe:try_write(encode(false, nil, ("at most %d may ask at once"):format(MAX_CLIENTS), "EBUSY"))
    pipe:close()
    return
  end
  self.count = self.count + 1
  self.clients[client] = true
  client.task = async.spawn(function()
    local ok, err = async.pcall(serve, self, client)
    if not ok then
      self.warn("the control socket: " .. tostring(err))
    end
    self:drop(client)
  end, { name = "control", detached = true })
end

--- Opens the socket.
---@param opts { answer: async fun(request: table): any, string?, string?,
--- warn: fun(text: string), env?: fun(name: string): string?, folders?: string[],
--- patience_ms?: number } `answer` returns the result, or nil, why not, and a code. `folders`:
--- where, instead of `place.own_folders`.
---@return control_server.Server?
---@return string? err
function M.open(opts)
  local self = setmetatable({ answer = opts.answer, warn = opts.warn, clients = {}, count = 0,
    patience_ms = opts.patience_ms or PATIENCE_MS }, server_mt)
  local pipe, path = listen_somewhere(opts.folders or place.own_folders(opts.env), function(err)
    if not err then
      accept(self)
    end
  end)
  if not pipe then
    return nil, path
  end
  self.pipe, self.path = pipe, path
  return self
end

function Server:drop(client)
  if self.clients[client] then
    self.clients[client] = nil
    self.count = self.count - 1
    client.pipe:close()
  end
end

--- Ends all connections, and removes the socket. May be called twice.
function Server:close()
  if self.closed then
    return
  end
  self.closed = true
  self.pipe:close()
  uv.fs_unlink(self.path)
  for client in pairs(self.clients) do
    self:drop(client)
    client.task:cancel()
  end
end

return M
