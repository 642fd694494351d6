-- Debian's RabbitMQ at work: queues that are kept full, connections that come and go, and consumers
-- that do not read what is sent to them, or hardly, so that the server's writers to them are
-- suspended; it is told to have patience with them. What the queues hold makes binaries the main
-- class of its memory.

local node = require("support.node")
local program = require("record.program")
local support = require("support")
local uv = require("luv")

local SLOW, CHURN_PER_S, PUBLISH_PER_S = 20, 2, 60

local SUSPENDED = "length([P || P <- erlang:processes(), [{status, suspended}, "
  .. "{current_function, {erts_internal, port_command, 3}}] =:= "
  .. "erlang:process_info(P, [status, current_function])])."
local BINARIES_PCT = "100 * erlang:memory(binary) / erlang:memory(total)."
local CONNECTIONS = "length([P || P <- erlang:ports(), "
  .. '{name, "tcp_inet"} =:= erlang:port_info(P, name)]).'

local CONF = [[
listeners.tcp.1 = 127.0.0.1:%d
loopback_users.guest = true
heartbeat = 0
tcp_listen_options.send_timeout = 7200000
tcp_listen_options.sndbuf = 32768
tcp_listen_options.recbuf = 32768
log.console = true
log.console.level = warning
]]

-- The installed server, which Debian keeps in a folder named by its release.
local function server_folder()
  local root = "/usr/lib/rabbitmq/lib"
  local scan = uv.fs_scandir(root)
  for name in uv.fs_scandir_next, assert(scan, "rabbitmq-server is not installed: make record") do
    if name:find("^rabbitmq_server%-") then
      return root .. "/" .. name
    end
  end
  error("no server in " .. root)
end

local function environment(folder, name, epmd_port)
  return {
    "PATH=" .. os.getenv("PATH"), "HOME=" .. folder, "LANG=C.UTF-8",
    "RUNNING_UNDER_SYSTEMD=true", -- the script becomes the server, and stays no parent of it
    "ERL_EPMD_PORT=" .. epmd_port, "RABBITMQ_NODENAME=" .. name,
    "RABBITMQ_DIST_PORT=" .. node.free_port(),
    "RABBITMQ_CONFIG_FILE=" .. folder .. "/rabbitmq.conf",
    "RABBITMQ_CONF_ENV_FILE=" .. folder .. "/none",
    "RABBITMQ_ADVANCED_CONFIG_FILE=" .. folder .. "/none",
    "RABBITMQ_ENABLED_PLUGINS_FILE=" .. folder .. "/plugins",
    "RABBITMQ_GENERATED_CONFIG_DIR=" .. folder .. "/config",
    "RABBITMQ_PID_FILE=" .. folder .. "/pid",
    "RABBITMQ_MNESIA_BASE=" .. folder .. "/mnesia", "RABBITMQ_LOG_BASE=" .. folder .. "/log",
    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-setcookie spec-cookie "
      .. "-kernel inet_dist_use_interface {127,0,0,1}",
  }
end

local function start_server(server)
  local folder, port = program.folder("rabbitmq"), node.free_port()
  local name, epmd_port = "rabbit@localhost", node.start_epmd()
  support.write_file(folder .. "/rabbitmq.conf", CONF:format(port))
  support.write_file(folder .. "/plugins", "[].\n")
  program.start(server .. "/sbin/rabbitmq-server", {
    env = environment(folder, name, epmd_port), log = folder .. "/output",
    ready = " completed with ", timeout_ms = 120000,
  })
  return { name = name, cookie = "spec-cookie", epmd_port = epmd_port }, port
end

-- The node of the clients, with the client library of the server.
local function start_clients(server, port)
  local plugins = server .. "/plugins"
  -- In front of our own test modules, which have a supervisor2, too.
  local args = { "-pa" }
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(plugins)) do
    if name:find("^rabbit_common%-") then
      args[#args + 1] = plugins .. "/" .. name .. "/ebin"
    end
  end
  local clients = node.start({ name = "soak_clients", args = args,
    env = { "ERL_LIBS=" .. plugins } })
  clients.eval_timeout_ms = 60000
  clients:eval(("soak_amqp:start(#{port => %d, slow => %d, churn_per_s => %d, publish_per_s => "
    .. "%d})."):format(port, SLOW, CHURN_PER_S, PUBLISH_PER_S))
  return clients
end

return function()
  local server = server_folder()
  local broker, port = start_server(server)
  start_clients(server, port)
  return {
    nodes = { broker },
    figures = {
      { name = "writers suspended by their port", at_least = SLOW / 2, source = SUSPENDED,
        is_usual = true },
      { name = "share of binaries in %", at_least = 50, source = BINARIES_PCT },
      { name = "ports of sockets", at_least = SLOW + 10, source = CONNECTIONS },
    },
  }
end
