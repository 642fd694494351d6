-- Runs `beamlens run` on a watcher file made for one case.
--
--   local b = watch.start({ nodes = { n }, watchers = { 'sample = "1s"' } })

local beamlens = require("support.beamlens")
local support = require("support")
local uv = require("luv")

local M = {}

--- Writes a watcher file: each of `watchers` is the inside of one watcher's table.
---@return string path
function M.file(watchers)
  local parts = {}
  for i, body in ipairs(watchers) do
    parts[i] = "{ " .. body .. " },"
  end
  local path = support.tmp_path(("watch-%d.lua"):format(uv.hrtime()))
  support.on_cleanup(function()
    os.remove(path)
  end)
  return support.write_file(path, ("return {\n%s\n}\n"):format(table.concat(parts, "\n")))
end

--- Starts `beamlens run` against a node.
---@param opts { node: table, watchers?: string[], env?: string[], args?: string[],
---  cookie?: string|false, target?: string|false, epmd_port?: integer }
--- `watchers` default to one of domain beam, sampled every second. `target` is the node's name as
--- given to --node, if not the node's own; false leaves that to the watchers.
function M.start(opts)
  local node = opts.node or {}
  local path = M.file(opts.watchers or { 'name = "beam", domain = "beam", sample = "1s"' })
  local env = { "ERL_EPMD_PORT=" .. (opts.epmd_port or node.epmd_port) }
  if opts.cookie ~= false then
    env[2] = "BEAMLENS_COOKIE=" .. (opts.cookie or node.cookie)
  end
  for _, pair in ipairs(opts.env or {}) do
    env[#env + 1] = pair
  end
  local args = { "run", path, "--log", "json" }
  if opts.target ~= false then
    args[#args + 1] = "--node"
    args[#args + 1] = opts.target or node.name
  end
  for _, argument in ipairs(opts.args or {}) do
    args[#args + 1] = argument
  end
  return beamlens.start(args, { env = env })
end

return M
