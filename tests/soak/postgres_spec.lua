-- The postgres domain over longer times: the rule with its own hold, and a server that hangs.

local beamlens = require("support.beamlens")
local postgres = require("support.postgres")
local support = require("support")
local uv = require("luv")
local watch = require("support.watch")

local function start(server, sample)
  local path = watch.file({ ('name = "pg", domain = "postgres", sample = "%s", settings = '
    .. '{ application_name = "shop" }'):format(sample) })
  return beamlens.start({ "run", path, "--log", "json" }, { env = server:env() })
end

describe("the postgres domain", function()
  it("fires pool_exhausted after 30 s of its own accord, and resolves it", support.async(function()
    local server = postgres.start()
    server:sql("CREATE TABLE items (id int); INSERT INTO items VALUES (1)")
    local b = start(server, "10s")
    b:wait_for("sampler.sample", nil, 20000)
    local holder, waiter = server:session("shop"), server:session("shop")
    server:session("shop"):begin("SELECT pg_sleep(600)")
    holder:run("BEGIN; UPDATE items SET id = 2")
    waiter:begin("UPDATE items SET id = 3")
    local pending = b:wait_for("finding.pending", nil, 30000)
    local alert = b:wait_for("watcher.alert_fired", nil, 90000)
    assert.are.equal("pool_exhausted", alert.metadata.alert.type)
    local waited_ms = alert.measurements.system_time - pending.measurements.system_time
    assert.is_true(waited_ms >= 29000, waited_ms)
    holder:run("COMMIT")
    b:wait_for("watcher.alert_resolved", nil, 90000)
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit())
  end, 240))

  it("outlives a server that hangs for more than a minute, and watches on", support.async(
    function()
      local server = postgres.start()
      local b = start(server, "1s")
      b:wait_for("sampler.sample", nil, 20000)
      local own = tonumber(server:sql("SELECT pid FROM pg_stat_activity "
        .. "WHERE application_name = 'beamlens'"))
      server:signal("sigstop")
      uv.kill(own, "sigstop")
      local alert = b:wait_for("watcher.alert_fired", nil, 180000).metadata.alert
      assert.are.equal("server_down", alert.type)
      assert.matches("ETIMEDOUT", alert.summary)
      uv.kill(own, "sigcont")
      server:signal("sigcont")
      b:wait_for("watcher.alert_resolved", nil, 60000)
      local count = #b:all("beamlens.sampler.sample")
      support.wait_until(function()
        local samples = b:all("beamlens.sampler.sample")
        return #samples >= count + 3 and samples[#samples].metadata.data.answers
      end, 60000, "samples")
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
    end, 400))
end)
