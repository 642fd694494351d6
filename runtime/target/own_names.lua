--- The node names that we attach with: `beamlens1@HOST` to `beamlens16@HOST`.
---
--- Each name stays on the watched node as an atom for good, so the set is small and fixed and HOST
--- is constant on one machine.

local M = {}

--- How many names there are per machine.
M.COUNT = 16

local LOOPBACK = { ["localhost"] = true, ["::1"] = true }

local function is_loopback(host)
  return LOOPBACK[host] or host:find("^127%.%d+%.%d+%.%d+$") ~= nil
end

--- The host part that a node accepts from us. A node with a long name (a dot in its host part)
--- refuses names without a dot, and a node with a short name refuses names with one.
---@param node string The name of the node to attach to, without a port.
---@param hostname string What the operating system calls this machine.
---@return string
function M.host_for(node, hostname)
  local target = node:match("@(.*)$") or ""
  if is_loopback(target) then
    return target
  end
  local short = hostname:match("^[^.]+") or "localhost"
  if not target:find(".", 1, true) then
    return short
  end
  return hostname:find(".", 1, true) and hostname or short .. ".localdomain"
end

--- All our names on a host, in the order in which they are tried.
---@param host string
---@return string[]
function M.list(host)
  local names = {}
  for i = 1, M.COUNT do
    names[i] = ("beamlens%d@%s"):format(i, host)
  end
  return names
end

return M
