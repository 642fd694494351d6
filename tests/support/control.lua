-- What specs of the control socket share: a folder for sockets, and a client that says what it
-- likes.

local async = require("runtime.async")
local support = require("support")
local uv = require("luv")

local M = {}

--- A folder of this case alone. It is in /tmp: a socket's path has room for 107 bytes only.
---@return string
function M.folder()
  local path = assert(uv.fs_mkdtemp("/tmp/beamlens-spec-XXXXXX"))
  support.on_cleanup(function()
    os.execute(("rm -rf '%s'"):format(path))
  end)
  return path
end

local Client = {}
local client_mt = { __index = Client }

--- Connects.
---@async
function M.connect(path)
  local self = setmetatable({ pipe = uv.new_pipe(false), text = "", changed = async.signal() },
    client_mt)
  support.on_cleanup(function()
    self:close()
  end)
  local err = async.await(support.patience_ms(), function(done)
    self.pipe:connect(path, function(err)
      done(err or false)
    end)
  end)
  assert(err == false, err)
  return self
end

--- Begins to read what comes.
function Client:read()
  self.pipe:read_start(function(_, chunk)
    self.text = self.text .. (chunk or "")
    self.over = self.over or not chunk
    self.changed:fire(true)
  end)
  return self
end

--- Sends bytes. It does not matter whether they are taken.
function Client:send(bytes)
  self.pipe:write(bytes)
  return self
end

--- The next line that comes.
---@async
function Client:line()
  support.wait_until(function()
    return self.text:find("\n", 1, true)
  end, 15000, "a line of the server")
  local line, rest = self.text:match("^([^\n]*)\n(.*)$")
  self.text = rest
  return line
end

--- Waits until the server has closed the connection.
---@async
function Client:wait_over()
  support.wait_until(function()
    return self.over
  end, 15000, "the server to close the connection")
end

function Client:close()
  if not self.pipe:is_closing() then
    self.pipe:close()
  end
end

return M
