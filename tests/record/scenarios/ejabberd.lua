-- Debian's ejabberd under sessions that log in, chat and leave: their number rises and falls, and
-- with it processes, ports and the tables in which sessions are kept.

local node = require("support.node")
local program = require("record.program")
local support = require("support")
local uv = require("luv")

local PEAK = 2000

local CONF = [[
hosts: [localhost]
loglevel: warning
certfiles: []
listen:
  -
    port: %d
    ip: "127.0.0.1"
    module: ejabberd_c2s
    access: c2s
    shaper: none
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
access_rules:
  c2s:
    allow: all
modules:
  mod_caps: {}
  mod_carboncopy: {}
  mod_disco: {}
  mod_last: {}
  mod_offline: {}
  mod_ping: {}
  mod_private: {}
  mod_roster: {}
  mod_stream_mgmt: {}
  mod_vcard: {}
]]

local SESSIONS = "length(ejabberd_sm:dirty_get_sessions_list())."

-- Where Debian keeps the server's modules.
local function code_folder()
  local root = "/usr/lib/x86_64-linux-gnu"
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(root)) do
    if name:find("^ejabberd%-") then
      return root .. "/" .. name .. "/ebin"
    end
  end
  error("ejabberd is not installed: make record")
end

local function start_server(port)
  local folder = program.folder("ejabberd")
  support.write_file(folder .. "/ejabberd.yml", CONF:format(port))
  local n = node.start({ name = "soak_ejabberd",
    args = { "-pa", code_folder(), "-mnesia", "dir", ('"%s/mnesia"'):format(folder) },
    env = { "EJABBERD_CONFIG_PATH=" .. folder .. "/ejabberd.yml",
      "EJABBERD_LOG_PATH=" .. folder .. "/ejabberd.log", "HOME=" .. folder } })
  n.eval_timeout_ms = 60000
  n:eval("{ok, _} = application:ensure_all_started(ejabberd).")
  return n
end

return function(seconds)
  local port = node.free_port()
  local server = start_server(port)
  local clients = node.start({ name = "soak_sessions" })
  clients:eval(("soak_xmpp:start(#{port => %d, peak => %d, seconds => %d})."):format(port, PEAK,
    seconds))
  local most = 0
  return {
    nodes = { server },
    figures = {
      { name = "sessions", at_least = 0.9 * PEAK, source = SESSIONS },
      { name = "sessions that left", at_least = 0.4 * PEAK, read = function()
        local sessions = clients:number("soak_xmpp:online().")
        most = math.max(most, sessions)
        return most - sessions
      end },
      { name = "processes", at_least = PEAK, source = "erlang:system_info(process_count)." },
      { name = "ports", at_least = 0.9 * PEAK, source = "erlang:system_info(port_count)." },
    },
  }
end
