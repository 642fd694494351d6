--- The nodes of a watcher: reading the field `node`, and making one policy per node of it.

local node_name = require("runtime.node_name")

local M = {}

local MAX_LABEL = 255

--- Reads the field `node`: one name, or a list.
---@param value any
---@return node_name.Node[]?
---@return string? err
function M.read(value)
  local list = type(value) == "table" and value or { value }
  local read = {}
  for i, item in ipairs(list) do
    local node, err = node_name.parse(item)
    if not node then
      return nil, err
    end
    read[i] = node
  end
  if #read == 0 then
    return nil, "names no node"
  end
  return read
end

--- Reads the field `node` of a watcher whose domain watches no node: a label for its events and
--- alerts. It has no `@`, so that it is never taken for a node.
---@param value any
---@return node_name.Node[]?
---@return string? err
function M.read_label(value)
  if type(value) ~= "string" or not value:find("^[^@%c]+$") or #value > MAX_LABEL then
    return nil, ("must be a label without \"@\", of at most %d bytes: this domain watches no node")
      :format(MAX_LABEL)
  end
  return { { name = value, address = value, follows = false } }
end

-- A policy as it is for one node; `origin` is the same for all those of one watcher table, and has
-- what they have in common.
local function for_node(origin, common_mt, node)
  return setmetatable({ origin = origin, node = node.name, address = node.address,
    follows = node.follows or nil }, common_mt)
end

--- One policy per node, each with a name of its own within the file. What is listed and the first
--- node of a cluster is one: the others follow it.
---@param policy table With `nodes`, which go.
---@param out table[] Where they are added.
function M.expand(policy, out)
  local by_name, nodes, common_mt = {}, policy.nodes or {}, { __index = policy }
  policy.nodes = nil
  for _, node in ipairs(nodes) do
    local other = by_name[node.name]
    if other and (other.follows or node.follows) then
      other.follows = true
      other.address = node.address ~= node.name and node.address or other.address
    else
      local copy = for_node(policy, common_mt, node)
      by_name[node.name] = copy
      out[#out + 1] = copy
    end
  end
end

--- The policy of a followed cluster for one of its members.
---@param policy table One that `follows`.
---@param name string
---@return table member_policy Its `seed` is the node of `policy`.
function M.for_member(policy, name)
  local copy = for_node(policy.origin, getmetatable(policy),
    { name = name, address = name, follows = false })
  copy.seed = policy.node
  return copy
end

--- The nodes to watch: --node, else the file's own, else BEAMLENS_NODE.
---@param policy table As read so far.
---@param raw table As the file has it.
---@param opts { node?: string, env: fun(name: string): string? }
---@param report fun(field: string, message: string)
---@return node_name.Node[]? nodes nil after a mistake, which was reported.
function M.choose(policy, raw, opts, report)
  if not opts.node and raw.node ~= nil then
    return policy.nodes -- or a mistake, which is told
  end
  local given, from = opts.node, "--node"
  if not given then
    given, from = opts.env("BEAMLENS_NODE"), "BEAMLENS_NODE"
  end
  if not given then
    report("node", "no node: set `node` here, --node NAME or BEAMLENS_NODE")
    return nil
  end
  local read, err = M.read(given)
  if not read then
    report("node", ("%s: %s"):format(from, err))
  end
  return read
end

return M
