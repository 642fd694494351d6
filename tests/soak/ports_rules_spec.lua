local beam = require("support.beam")
local detect = require("support.detect")
local node = require("support.node")
local support = require("support")

local SHORT = { hold_ms = 3000, clear_hold_ms = 3000 }

-- A node that is swept every 2 s, and a detector of ports on it. `opts.first` runs on the node
-- before that.
local function start(opts, changes)
  local n = node.start(opts)
  n:eval(opts.first or "ok.")
  local ctx = beam.attach(n, { min_interval_ms = 2000, parts = { "processes", "ports" } })
  ctx.sweep:start()
  return n, detect.start(ctx, "ports", changes)
end

local function wait_firing(d, expected, timeout_ms)
  local ok = pcall(support.wait_until, function()
    return detect.firing(d) == expected
  end, timeout_ms or 90000)
  local told = {}
  for i, finding in ipairs(d:findings()) do
    told[i] = ("%s %s %s: %s"):format(finding.type, finding.subject, finding.phase,
      finding.summary)
  end
  assert(ok, ("expected %q, found:\n%s"):format(expected, table.concat(told, "\n")))
end

local function wait_none(d)
  support.wait_until(function()
    return #d:findings() == 0
  end, 60000, "the findings to end")
end

local function finding_of(d, subject)
  for _, finding in ipairs(d:findings()) do
    if finding.subject == subject then
      return finding
    end
  end
end

describe("the limits of ports on a real node", function()
  it("are told of before they are reached, when they are, and when there is room again",
    support.async(function()
      local n, d = start({ name = "portlimit1", args = { "+Q", "1024" },
        first = "fl_ports:sockets(250)." }, { port_limit = SHORT })
      n:eval("fl_ports:leak(leaky, socket, 20).")
      wait_firing(d, "port_limit ports")
      local finding = finding_of(d, "ports")
      assert.is_true(finding.per_s > 8 and finding.per_s < 25, finding.per_s)
      assert.is_true(finding.eta_s > 1 and finding.eta_s < 60, finding.eta_s)
      support.wait_until(function()
        finding = finding_of(d, "ports")
        return finding.value == 100 and finding.severity == "critical"
      end, 60000, "the limit itself")
      local alert = support.wait_until(function()
        return d.store:firing()[1]
      end, 20000, "the alert")
      local groups = alert.executions[1].value.groups
      assert.are.equal("udp_inet", groups[1].name)
      assert.is_true(groups[1].of_first_owner >= 100, groups[1].of_first_owner)
      n:eval("fl_ports:stop(leaky).")
      wait_none(d)
      assert.are.equal("port_limit ports", detect.alerts(d, "resolved"))
      assert.are.equal("", detect.alerts(d, "firing"))
    end, 240))

  it("are told of for descriptors that are no ports, even when none is left to look",
    support.async(function()
      local n, d = start({ name = "fdlimit1" }, { fd_limit = SHORT })
      n:limit_files(400)
      n:eval("fl_ports:files(200), fl_ports:leak(leaky, file, 10).")
      wait_firing(d, "fd_limit file descriptors")
      support.wait_until(function()
        local finding = finding_of(d, "file descriptors")
        return finding.value == 100 and finding.severity == "critical"
      end, 60000, "the limit itself")
      assert.are.equal("{error,emfile}", n:eval("file:open(\"/dev/null\", [read, raw])."))
      local data = d.history:latest().data
      assert.are.same({ 400, 400 }, { data.fd_count, data.fd_limit })
      assert.is_true(data.port_count < 30)
      n:eval("fl_ports:stop(leaky).")
      wait_none(d)
      assert.are.equal("fd_limit file descriptors", detect.alerts(d, "resolved"))
    end, 240))

  it("are far from a node that has opened as much at once", support.async(function()
    local n, d = start({ name = "portjump1", args = { "+Q", "1024" } },
      { port_limit = SHORT, fd_limit = SHORT })
    n:limit_files(1400)
    local before = #d.history:samples()
    n:eval("fl_ports:sockets(700), fl_ports:files(200).")
    support.wait_until(function()
      return #d.history:samples() >= before + 20
    end, 60000, "20 samples")
    assert.are.same({}, d:findings())
    assert.is_true(d.history:latest().data.fd_count > 900)
  end, 120))
end)

describe("blocked writers on a real node", function()
  it("are found one by one among the healthy, with 3 MB queued, and let go one by one",
    support.async(function()
      local n, d = start({ name = "blocked1" }, { blocked_writer = SHORT })
      n:eval("fl_ports:slow_writers(20), fl_ports:moving_writer(healthy_sender, 1000), "
        .. "fl_ports:slow_client({127, 0, 0, 1}, [], 3).")
      local id = n:bytes("fl_ports:stuck_sender(sick_sender, 3145728).")
      n:eval("fl_ports:stuck_sender(sick_mailer, 8192), fl_ports:shared(sick_pool, 3).")
      local remote = n:bytes([==[
        begin [P] = [P || P <- erlang:ports(), {connected, Q} <- [erlang:port_info(P, connected)],
          Q =:= whereis(sick_pool_reader), {ok, {_, N}} <- [inet:peername(P)],
          {queue_size, S} <- [erlang:port_info(P, queue_size)], S > 0],
        {ok, {_, Number}} = inet:peername(P), integer_to_list(Number) end.]==])
      local shared = "tcp_inet to 127.0.0.1:" .. remote
      local all = ("blocked_writer sick_mailer, blocked_writer sick_sender, blocked_writer %s")
        :format(shared)
      wait_firing(d, all)
      support.wait_until(function()
        return detect.alerts(d, "firing") == all
      end, 20000, "the alerts")
      local finding = finding_of(d, "sick_sender")
      assert.are.equal(n:eval("pid_to_list(whereis(sick_sender))."), ("%q"):format(finding.pid))
      assert.is_truthy(finding.summary:find(id, 1, true), finding.summary)
      -- The last of them may have come a pass later.
      assert.matches("^[23] processes that share tcp_inet #Port", finding_of(d, shared).summary)
      for _, alert in ipairs(d.store:firing()) do
        if alert.subject == "sick_sender" then
          local queues = alert.executions[1].value.longest_queues
          assert.are.equal(id, queues[1].id)
          assert.is_true(queues[1].queue_size >= 3145728, queues[1].queue_size)
          assert.are.equal(0, queues[1].written_since_the_sweep)
        end
      end

      n:eval("fl_ports:drain(sick_sender).")
      support.wait_until(function()
        return detect.alerts(d, "resolved") == "blocked_writer sick_sender"
      end, 60000, "the alert of one to be resolved")
      assert.are.equal(("blocked_writer sick_mailer, blocked_writer %s"):format(shared),
        detect.firing(d))
      n:eval("fl_ports:stop(sick_mailer), fl_ports:stop(sick_pool_reader).")
      wait_none(d)
      assert.are.equal(all, detect.alerts(d, "resolved"))
      assert.are.equal("", n:log())
    end, 240))

  it("are found behind a standard output that nobody reads", support.async(function()
    local n, d = start({ name = "stdout1", unread = true }, { blocked_writer = SHORT })
    n:eval("fl_ports:print(printer).")
    support.wait_until(function()
      return detect.firing(d) ~= ""
    end, 90000, "the blocked output")
    assert.are.equal("blocked_writer standard output", detect.firing(d))
    n:read_output()
    wait_none(d)
    assert.are.equal("blocked_writer standard output", detect.alerts(d, "resolved"))
  end, 240))

  it("are found behind a node that was stopped", support.async(function()
    local peer = node.start({ name = "stopped2" })
    peer:eval("register(sink, spawn(fun Sink() -> receive _ -> Sink() end end)).")
    local n, d = start({ name = "stopped1" }, { blocked_writer = SHORT })
    n:eval(("fl_ports:flood(flooder, '%s')."):format(peer.name))
    -- Two healthy passes of a connection that is busy.
    support.wait_until(function()
      return #d.history:sweeps() >= 3
    end, 30000, "three passes")
    assert.are.same({}, d:findings())
    peer:kill("sigstop")
    wait_firing(d, "blocked_writer connection to stopped2@localhost")
    assert.are.equal("{status,suspended}", n:eval("process_info(whereis(flooder), status)."))
    peer:kill("sigcont")
    wait_none(d)
    assert.are.equal("blocked_writer connection to stopped2@localhost",
      detect.alerts(d, "resolved"))
  end, 240))
end)
