-- Servers on loopback that stand where a node should be: one that says what a spec tells it to, and
-- one that passes everything on to a real node, except for what a spec changes on the way.

local node = require("support.node")
local support = require("support")
local uv = require("luv")

local M = {}

local function listen(on_client)
  local server = uv.new_tcp()
  local sockets = {}
  assert(server:bind("127.0.0.1", 0))
  assert(server:listen(16, function()
    local socket = uv.new_tcp()
    server:accept(socket)
    sockets[#sockets + 1] = socket
    if on_client then
      on_client(socket, sockets)
    end
  end))
  local self = { port = server:getsockname().port }
  function self.close()
    if not server:is_closing() then
      server:close()
    end
    for _, socket in ipairs(sockets) do
      if not socket:is_closing() then
        socket:close()
      end
    end
  end
  support.on_cleanup(self.close)
  return self
end

--- A server that accepts and never answers.
function M.silent()
  return listen()
end

--- A server that sends the next of `replies` (text; false: closes) for each chunk that comes.
function M.scripted(replies)
  return listen(function(socket)
    local step = 0
    socket:read_start(function(_, chunk)
      step = step + 1
      local reply = replies[step]
      if not chunk or reply == false then
        socket:close()
      elseif reply then
        socket:write(reply)
      end
    end)
  end)
end

--- Passes on between a connection and the node at `port`. `on_down(bytes, socket, count)` returns
--- what is sent on for the bytes that came from the node (the count-th time), or nil.
function M.proxy(port, on_down)
  return listen(function(client, sockets)
    local target = uv.new_tcp()
    sockets[#sockets + 1] = target
    local count = 0
    local function close()
      for _, socket in ipairs({ client, target }) do
        if not socket:is_closing() then
          socket:close()
        end
      end
    end
    target:connect("127.0.0.1", port, function(err)
      if err or client:is_closing() then
        return close()
      end
      client:read_start(function(_, chunk)
        if not chunk then
          close()
        elseif not target:is_closing() then
          target:write(chunk)
        end
      end)
      target:read_start(function(_, chunk)
        if not chunk then
          return close()
        end
        count = count + 1
        local bytes = chunk
        if on_down then
          bytes = on_down(chunk, client, count)
        end
        if bytes and not client:is_closing() then
          client:write(bytes)
        end
      end)
    end)
  end)
end

--- A packet of the handshake: its length in two bytes before it.
function M.packet(text)
  return string.char(math.floor(#text / 256), #text % 256) .. text
end

--- A frame of a connection that stands: its length in four bytes before it.
function M.frame(text)
  local n = #text
  return string.char(math.floor(n / 2 ^ 24) % 256, math.floor(n / 2 ^ 16) % 256,
    math.floor(n / 256) % 256, n % 256) .. text
end

M.free_port = node.free_port

return M
