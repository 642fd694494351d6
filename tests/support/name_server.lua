-- A name server on 127.0.0.1 for specs, in a network of their own (support/private_net.lua).
--
--   local server = name_server.start(function(name) return { "127.0.0.1" } end)
--
-- The function says what it knows of a name: a list of IPv4 addresses, a response code (2 is
-- SERVFAIL, 3 NXDOMAIN), or nil: no answer, ever. server.asked counts the questions by name.

local support = require("support")
local uv = require("luv")

local M = {}

local TYPE_A = 1

local function u16(n)
  return string.char(math.floor(n / 256) % 256, n % 256)
end

-- The name in a query, the type that is asked for, and the question as it stands there.
local function question_of(query)
  local labels, at = {}, 13
  while query:byte(at) > 0 do
    local length = query:byte(at)
    labels[#labels + 1] = query:sub(at + 1, at + length)
    at = at + 1 + length
  end
  return table.concat(labels, "."), query:byte(at + 1) * 256 + query:byte(at + 2),
    query:sub(13, at + 4)
end

local function answer_to(query, kind, question, known)
  local code = type(known) == "number" and known or 0
  local records = {}
  if code == 0 and kind == TYPE_A then
    for i, address in ipairs(known) do
      local bytes = {}
      for byte in address:gmatch("%d+") do
        bytes[#bytes + 1] = string.char(tonumber(byte))
      end
      records[i] = "\192\012" .. u16(TYPE_A) .. u16(1) .. "\0\0\0\60" .. u16(4)
        .. table.concat(bytes)
    end
  end
  return query:sub(1, 2) .. u16(0x8180 + code) .. u16(1) .. u16(#records) .. u16(0) .. u16(0)
    .. question .. table.concat(records)
end

--- Starts it; it stops with the case.
---@param knows fun(name: string): string[]|integer|nil
function M.start(knows)
  local socket = uv.new_udp()
  local server = { asked = {}, total = 0 }
  assert(socket:bind("127.0.0.1", 53))
  socket:recv_start(function(_, query, from)
    if not query then
      return
    end
    local name, kind, question = question_of(query)
    server.asked[name] = (server.asked[name] or 0) + 1
    server.total = server.total + 1
    local known = knows(name)
    if known then
      socket:try_send(answer_to(query, kind, question, known), from.ip, from.port)
    end
  end)
  support.on_cleanup(function()
    socket:close()
  end)
  return server
end

return M
