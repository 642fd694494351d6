--- Names of nodes: how people write them in a watcher file or on the command line, and which of
--- those that a node tells of are taken at all.

local M = {}

local CLUSTER = "cluster:"
local MAX_BYTES = 255 -- of an atom
local MAX_PORT = 65535

---@class node_name.Node
---@field name string `name@host`: what the node calls itself.
---@field address string The name, or `name@host:port` where epmd is not asked.
---@field follows boolean Written `cluster:NAME`: its peers are watched, too.

-- Splits "name@host:port" and "name@[ipv6]:port". Returns the name, and the port's digits if any.
local function split_port(address)
  local alive, host, port = address:match("^([^@]+)@%[(.*)%]:(%d+)$")
  if alive then
    return alive .. "@" .. host, port
  end
  local name
  name, port = address:match("^([^:]+):(%d+)$")
  return name or address, port
end

--- The name in an address.
---@param address string
---@return string
function M.of(address)
  return (split_port(address))
end

local function hint(text)
  local name = text:match("^%a*:%s*([^:]*@.*)$")
  if name and not text:find("^" .. CLUSTER) then
    return ("; did you mean %q?"):format(CLUSTER .. name)
  end
  return "; write name@host, as node() prints it"
end

--- Reads what names a node: `name@host`, `name@host:port` where there is no epmd, or one of these
--- after `cluster:`.
---@param text any
---@return node_name.Node?
---@return string? err What is wrong, to stand after the name of a field.
function M.parse(text)
  if type(text) ~= "string" then
    return nil, ("must be a node's name or a list of them, not a %s"):format(type(text))
  end
  local follows = text:sub(1, #CLUSTER) == CLUSTER
  local address = follows and text:sub(#CLUSTER + 1) or text
  if #address > MAX_BYTES + 6 then
    return nil, ("has a name of %d bytes; a node's name has at most %d"):format(#address,
      MAX_BYTES)
  elseif not address:find("^[^@%s%c:]+@[^@%s%c]+$") then
    if follows then
      return nil, ("%q names no node after \"cluster:\"; write cluster:name@host"):format(text)
    end
    return nil, ("%q is not a node's name%s"):format(text, hint(text))
  end
  local name, port = split_port(address)
  if port and (tonumber(port) < 1 or tonumber(port) > MAX_PORT) then
    return nil, ("%q has no port: one is between 1 and %d"):format(text, MAX_PORT)
  end
  return { name = name, address = address, follows = follows }
end

--- Whether a name that a node told of is one to connect to: `name@host` of letters, digits and
--- `_ - .` (the host of an IPv6 address also has `:`), without a port, of at most 255 bytes.
---@param name any
---@return boolean
function M.is_peer(name)
  return type(name) == "string" and #name <= MAX_BYTES
    and name:find("^[%w_%-%.]+@[%w_%-%.:]+$") ~= nil
    and split_port(name) == name
end

return M
