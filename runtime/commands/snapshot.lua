--- `beamlens snapshot DOMAIN`: takes one snapshot and prints it as JSON.

local async = require("runtime.async")
local common = require("runtime.commands.common")
local json = require("runtime.json")
local oneshot = require("runtime.oneshot")

local M = {}

local TIMEOUT_MS = 15000

M.options = common.NODE_OPTIONS

local function snapshot(opts)
  if #opts ~= 1 then
    common.warn("name one domain: beamlens snapshot DOMAIN; `beamlens domains` lists them")
    return 2
  end
  if opts[1] == "none" then
    common.warn("none has no figures; `beamlens domains` lists what has")
    return 2
  end
  opts.domain, opts.warn = opts[1], common.warn
  local one, err = oneshot.new(opts)
  if not one then
    common.warn(err)
    return 2
  end
  local deadline = async.deadline(opts.timeout or TIMEOUT_MS)
  local data
  local ok, connect_err = one:connect(deadline)
  if ok then
    data, err = one:snapshot(deadline)
  end
  one:close()
  if not data then
    common.warn(connect_err or err)
    return 1
  end
  print(json.encode(data))
  return 0
end

---@param args string[]
---@return integer status
function M.main(args)
  return common.main(args, M.options, "snapshot DOMAIN [OPTION...]", snapshot)
end

return M
