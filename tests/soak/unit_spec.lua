-- The shipped unit under a real systemd.

local booted = require("support.booted")
local json = require("runtime.json")

local DOMAIN = [[return {
  name = "calm", target = "none", title = "Calm", callbacks = {},
  metrics = { { name = "level", type = "integer" } },
  snapshot = function() return { level = 50 } end,
  rules = { { type = "level_high", severity = "warning", hold = "0s", clear_hold = "0s",
    investigate = "return 6 * 7", when = function(history)
      return { subject = "tank", value = history:latest().data.level, threshold = 10,
        unit = "count", summary = "high" } end } },
}]]

local WATCHER = 'return { domain = "calm", sample = "1s", wait = { min = "1s", max = "%s" } }'

-- Waits for another main process than this one.
local function await_other(m, pid, what)
  m:wait_until(function()
    return m:property("ActiveState") == "active" and m:property("MainPID") ~= pid
  end, what)
end

local function alerts(m)
  local _, text = m:shell("beamlens alerts --json --store /var/lib/beamlens/beamlens.db")
  return json.decode(text:match("^[^\n]*") or "")
end

describe("the unit under systemd", function()
  it("is ready when its watchers run, reloads, is started again, and ends well", booted.case(
    function()
      local m = booted.start()
      m:write("/etc/beamlens/domains/calm.lua", DOMAIN)
      m:write("/etc/beamlens/watchers/w.lua", WATCHER:format("2s"))
      -- Sooner than after the unit's own minute.
      m:write("/run/systemd/system/beamlens.service.d/soon.conf",
        "[Service]\nWatchdogSec=10s\nRestartSec=1s")
      local code, said = m:shell("systemctl daemon-reload && systemctl start beamlens")
      assert.are.equal(0, code, said .. m:journal())
      assert.matches("^1 watcher", m:property("StatusText"))
      assert.are.equal(0, (m:shell("beamlens status")))

      -- Its scripts run, in their jail, as a user who owns nothing but the store.
      m:wait_until(function()
        local alert = alerts(m)
        return alert and alert.executions[1] and alert.executions[1].value == 42
      end, "an alert with what was executed")
      local pid = m:property("MainPID")
      local _, status = m:shell("cat /proc/" .. pid .. "/status")
      assert.matches("CapEff:%s+0+\n", status)
      assert.is_nil(status:find("\nUid:%s+0%s"), status)

      m:write("/etc/beamlens/watchers/w.lua", 'return { domain = "clam" }')
      m:wait_until(function()
        return m:journal():find('w.lua:1: no domain "clam"', 1, true)
      end, "the mistake")
      m:write("/etc/beamlens/watchers/w.lua", WATCHER:format("3s"))
      assert.are.equal(0, (m:shell("systemctl reload beamlens")))
      m:wait_until(function()
        return m:journal():find("reloaded /etc/beamlens/watchers/w.lua", 1, true)
      end, "the reload")

      m:shell("kill -KILL " .. pid)
      await_other(m, pid, "a start after its death")
      pid = m:property("MainPID")
      m:shell("kill -STOP " .. pid)
      await_other(m, pid, "the watchdog to end a host that stands still")
      assert.is_true(tonumber(m:property("NRestarts")) >= 2)
      assert.are.equal(42, alerts(m).executions[1].value)

      assert.are.equal(0, (m:shell("systemctl stop beamlens")))
      assert.are.same({ "inactive", "success", "0" }, { m:property("ActiveState"),
        m:property("Result"), m:property("ExecMainStatus") })
    end, 900))
end)
