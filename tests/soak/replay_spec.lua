-- A long recorded session of a cluster: five domains, findings with investigations, a node that
-- stands still and one that dies.

local node = require("support.node")
local reloading = require("support.reloading")
local sessions = require("support.sessions")
local support = require("support")
local watch = require("support.watch")

local DOMAINS = { "beam", "ets", "gc", "ports", "sup" }

local function watchers(seed)
  local list = {}
  for i, domain in ipairs(DOMAINS) do
    list[i] = ('name = "%s", domain = "%s", node = "cluster:%s", sample = "1s", '
      .. 'wait = { min = "1s", max = "5s" }, %s'):format(domain, domain, seed,
      domain == "beam" and 'rules = { mailbox_growth = { hold = "5s" } }' or "")
  end
  return list
end

describe("a long recorded session", function()
  it("of a cluster in trouble replays to the identical events", support.async(function()
    local a = node.start({ name = "soakrec1" })
    local b = node.start({ name = "soakrec2", cookie = a.cookie })
    a:eval(("net_adm:ping('%s')."):format(b.name))
    local path = sessions.path()
    local host = watch.start({ node = a, target = false, watchers = watchers(a.name),
      args = { "--record", path } })
    host:wait_for("node.joined", nil, 60000)
    a:eval([[begin
      Slow = spawn(fun() -> timer:sleep(3600000) end),
      register(slow_worker, Slow),
      spawn(fun() -> (fun Send() -> [slow_worker ! x || _ <- lists:seq(1, 200)],
        timer:sleep(100), Send() end)() end)
    end.]])
    host:wait_for("watcher.alert_fired", function(event)
      return event.metadata.alert.type == "mailbox_growth"
    end, 120000)
    b:kill("sigstop")
    host:wait_for("node.unresponsive", nil, 60000)
    b:kill("sigcont")
    host:wait_for("finding.cleared", nil, 60000)
    b:kill("sigkill")
    host:wait_for("node.down", nil, 60000)
    host:wait_for("finding.pending", function(event)
      return event.metadata.finding.type == "node_down"
    end, 60000)
    host:kill("sigterm")
    assert.are.equal(0, sessions.wait_exit(host, 20000), host:stderr())
    sessions.assert_replays(path, host:stdout())
  end, 400))

  it("of a host over its limit replays, whatever the host that replays it uses", support.async(
    function()
      local path = sessions.path()
      local h = reloading.start({ ["watchers/w.lua"] = reloading.watcher() },
        { options = { "--record", path, "--max-rss", "1MiB" } })
      h.b:wait_for("host.over_limit", nil, 120000)
      h.b:wait_for("watcher.paused", function(event)
        return event.metadata.by == "guardian"
      end, 60000)
      h:stop()
      sessions.assert_replays(path, h.b:stdout())
    end, 300))
end)
