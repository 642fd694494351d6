-- What the specs of host.dist share: connections that are awaited and closed.

local async = require("runtime.async")
local dist = require("host.dist")
local support = require("support")

local M = {}

--- Connects as `beamlens1@localhost`, and closes when the case ends.
---@async
---@param opts table Of dist.connect; `own_name` may be left out. `on_down` gets what ends it later.
---@return table? conn
---@return any info Or err.
---@return string? code
function M.connect(opts)
  local conn, up
  local all = { own_name = "beamlens1@localhost", timeout_ms = support.patience_ms() }
  for key, value in pairs(opts) do
    all[key] = value
  end
  all.on_down = nil
  local info, err, code = async.await(support.patience_ms(), function(done)
    conn = dist.connect(all, function(info)
      up = true
      done(info)
    end, function(err, code, was_up)
      assert(was_up == (up or false))
      if up and opts.on_down then
        opts.on_down(err, code)
      end
      done(nil, err, code)
    end)
  end)
  support.on_cleanup(function()
    conn:close()
  end)
  if not info then
    return nil, err, code
  end
  return conn, info
end

--- Connects to a node of support.node; raises when that fails.
---@async
function M.attach(n, opts)
  local all = { node = n.name, cookie = n.cookie, epmd_port = n.epmd_port }
  for key, value in pairs(opts or {}) do
    all[key] = value
  end
  local conn, info = M.connect(all)
  return assert(conn, info), info
end

--- Calls, and waits for the answer.
---@async
---@return any value
---@return string? err
---@return string? code
function M.call(conn, mod, fun, args, opts)
  return async.await(support.patience_ms(), function(done)
    local id = conn:call(mod, fun, args or {}, opts or {}, done)
    return function()
      conn:cancel(id)
    end
  end)
end

--- The names that the epmd at a port of loopback knows.
---@async
---@return table<string, integer> Name to port.
function M.ports(epmd_port)
  local list = assert(async.await(support.patience_ms(), function(done)
    local request = dist.epmd_names("127.0.0.1", epmd_port, done)
    return function()
      request:cancel()
    end
  end))
  local ports = {}
  for _, entry in ipairs(list) do
    ports[entry.name] = entry.port
  end
  return ports
end

return M
