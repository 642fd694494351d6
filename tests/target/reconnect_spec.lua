local async = require("runtime.async")
local keeper = require("runtime.target.keeper")
local node = require("support.node")
local support = require("support")
local target = require("runtime.target")
local targets = require("support.target")
local telemetry = require("runtime.telemetry")

local QUICK = { first = 50, max = 200 }
local HOUR_MS = 3600000

-- How often the node's log has a text.
local function count_in_log(n, text)
  local _, count = n:log():gsub(text:gsub("%p", "%%%0"), "")
  return count
end

describe("a target's connection", function()
  it("is tried again after pauses that double up to a limit", function()
    local bounds = { first = 250, max = 30000 }
    for failures, most in pairs({ 250, 500, 1000, [7] = 16000, [50] = 30000 }) do
      local seen = {}
      for _ = 1, 50 do
        local pause = keeper.backoff_ms(failures, bounds)
        assert.is_true(pause >= most * 0.75 and pause <= most)
        seen[pause] = true
      end
      local first = next(seen)
      assert.is_not_nil(next(seen, first), "there is no jitter")
    end
  end)

  it("is told lost at once when it is killed, and the restart as such", support.async(function()
    local n = node.start({ name = "again" })
    -- A heartbeat would tell it much later.
    local t, told = targets.attach(n, { backoff_ms = QUICK, heartbeat_ms = HOUR_MS,
      unresponsive_ms = HOUR_MS })
    assert.are.equal(3, t:eval("1 + 2."))
    local first = t:status().info
    n:kill("sigkill")
    local down = told:wait("down")
    assert.is_true(down.was_up)
    assert.are.equal("EDOWN", select(3, t:eval("1 + 2.")))
    n:wait_exit()
    support.wait_until(function()
      return t:status().code == "ENODE"
    end)

    n = node.start({ name = "again" })
    local info = told:wait("restarted")
    assert.are.equal(n:number("erlang:system_info(creation)."), info.creation)
    assert.are.equal(first.creation, info.previous_creation)
    assert.are_not.equal(info.creation, info.previous_creation)
    assert.are.equal(3, t:eval("1 + 2."))
    assert.are.equal(2, t.evaluator.parsed)

    assert.matches("^up down [down ]*down up restarted$", told:kinds())
    local restarted = told:of("restarted")[1]
    assert.are.equal(1, restarted.measurements.restarts)
    assert.are.equal(info.previous_creation, restarted.metadata.previous_creation)
    assert.are.equal(info.creation, told:of("up")[2].metadata.creation)
    -- Once per change of the code, however many attempts there were. Until epmd has seen the end,
    -- an attempt may find the port closed.
    local codes = {}
    for i, event in ipairs(told:of("down")) do
      assert.are.equal(i == 1, event.metadata.was_up)
      assert.are_not.equal(codes[i - 1], event.metadata.code)
      codes[i] = event.metadata.code
    end
    assert.matches("^EDOWN .*ENODE", table.concat(codes, " "))
  end))

  it("that is cut while the node lives is no restart", support.async(function()
    local n = node.start({ name = "again" })
    local t, told = targets.attach(n, { backoff_ms = QUICK })
    assert.are.equal(3, t:eval("1 + 2."))
    n:eval("erlang:disconnect_node(beamlens1@localhost).")
    told:wait("down")
    told:wait("up")
    told:wait("up")
    assert.are.equal(3, t:eval("1 + 2."))
    assert.are.equal("up down up", told:kinds())
    assert.are.equal(1, t.evaluator.parsed)
  end))

  it("tells a stopped node from a dead one", support.async(function()
    local n = node.start({ name = "again" })
    local t, told = targets.attach(n, { heartbeat_ms = 100, unresponsive_ms = 500 })
    assert.are.equal(3, t:eval("1 + 2."))
    local other = targets.attach(node.start({ name = "other" }))
    n:kill("sigstop")
    assert.are.equal(3, other:eval("1 + 2."))
    assert.are.equal("ETIMEDOUT", select(3, t:eval("1 + 2.", nil, { timeout = "100ms" })))
    support.wait_until(function()
      return t:status().status == "unresponsive"
    end)
    -- Calls still go out, each with its deadline.
    assert.are.equal("ETIMEDOUT", select(3, t:call("erlang", "node", {}, { timeout = "100ms" })))
    assert.are.equal("unresponsive", t:status().status)

    n:kill("sigcont")
    support.wait_until(function()
      return t:status().status == "up"
    end)
    assert.are.equal(3, t:eval("1 + 2."))
    -- A busy machine may have kept the node silent before it was stopped, too.
    assert.matches("^up [unresponsive ]*unresponsive responsive", told:kinds())
    assert.is_nil(told:kinds():find("down", 1, true))
    local events, heard = told:of("unresponsive"), told:wait("unresponsive").silent_ms
    assert.is_true(heard >= 500, heard)
    assert.are.equal(heard, events[1].measurements.silent_ms)
    support.wait_until(function()
      return n:eval("[P || P <- processes(), {_, {erpc, _, _}} <- "
        .. "[process_info(P, initial_call)]].") == "[]"
    end)
  end))

  it("comes to a node that was stopped, once it runs again", support.async(function()
    local n = node.start({ name = "again" })
    n:kill("sigstop")
    local t, told = targets.start(n, { backoff_ms = QUICK, connect_timeout_ms = 200 })
    local down = told:wait("down")
    assert.are.equal("ETIMEDOUT", down.code)
    assert.is_false(down.was_up)
    n:kill("sigcont")
    told:wait("up")
    assert.are.equal(3, t:eval("1 + 2."))
    assert.are.equal("", n:log())
  end))

  it("is to another incarnation also when only the uptime says so", function()
    local bus = telemetry.new()
    local t = target.new({ node = "a@b", telemetry = bus, cookie = function() end })
    local heard = {}
    t:subscribe(function(kind)
      heard[#heard + 1] = kind
    end)
    local link = { info = { creation = 7, own_name = "beamlens1@b" } }
    for _, uptime_ms in ipairs({ 5000, 6000, 400 }) do
      t:connected(link)
      t:came_up(link, { uptime_ms = uptime_ms, loaded = {} }, 1)
    end
    assert.are.same({ "up", "up", "up", "restarted" }, heard)
  end)

  it("is no more tried with a refused cookie until that is another", support.async(function()
    local n = node.start({ name = "again" })
    local cookie = "wrong-cookie"
    local t, told = targets.start(n, {
      backoff_ms = { first = 10, max = 10 },
      cookie_check_ms = 20,
      cookie = function()
        return cookie
      end,
    })
    local refused = told:wait("refused")
    assert.are.equal("ECOOKIE", refused.code)
    assert.are.equal(600000, refused.retry_ms)
    assert.is_nil(refused.err:find("wrong", 1, true))
    assert.are.equal("refused", t:status().status)
    support.wait_until(function()
      return count_in_log(n, "Connection attempt from node") == 1
    end)
    async.sleep(300) -- many checks of the cookie, no attempt
    assert.are.equal(1, count_in_log(n, "Connection attempt from node"))

    t:retry_now()
    support.wait_until(function()
      return count_in_log(n, "Connection attempt from node") == 2
    end)
    cookie = n.cookie
    told:wait("up")
    assert.are.equal("refused up", told:kinds())
    assert.are.equal(2, count_in_log(n, "Connection attempt from node"))
  end))

  it("says what is wrong with our own cookie, and asks for it again", support.async(function()
    local n = node.start({ name = "again" })
    local cookie
    local t = targets.start(n, {
      backoff_ms = QUICK,
      cookie = function()
        if cookie then
          return cookie
        end
        return nil, "EPERMISSIONS: the cookie file is open to others", "EPERMISSIONS"
      end,
    })
    local ok, err, code = t:wait_up(1000)
    assert.are.same({ nil, "EPERMISSIONS: the cookie file is open to others", "EPERMISSIONS" },
      { ok, err, code })
    cookie = n.cookie
    support.wait_until(function()
      return t:status().status == "up"
    end)
    assert.are.equal("", n:log())
  end))

  it("waits for an absent node until it comes", support.async(function()
    local epmd_port = node.start_epmd()
    local t, told = targets.start({ name = "again@localhost", cookie = "spec-cookie",
      epmd_port = epmd_port }, { backoff_ms = QUICK })
    local down = told:wait("down")
    assert.are.same({ "ENODE", false }, { down.code, down.was_up })
    local ok, _, code = t:wait_up(300)
    assert.are.same({ nil, "ENODE" }, { ok, code })
    node.start({ name = "again" })
    told:wait("up")
    assert.are.equal("down up", told:kinds())
    assert.are.equal(1, #told:of("down"))
  end))

  it("says when there is no epmd, and then that the node is absent", support.async(function()
    local n = node.start({ name = "again" })
    local t, told = targets.start({ name = n.name, cookie = n.cookie,
      epmd_port = node.free_port() }, { backoff_ms = QUICK })
    assert.are.equal("EEPMD", told:wait("down").code)
    assert.are.equal("down", t:status().status)
    assert.matches("^EEPMD: ", t:status().err)
  end))

  it("refuses a node of another name, says the real one, and stays on", support.async(function()
    local n = node.start({ name = "again", host = "vm" })
    local t, told = targets.start({ name = "again@localhost", cookie = n.cookie,
      epmd_port = n.epmd_port }, { backoff_ms = QUICK })
    local refused = told:wait("refused")
    assert.are.equal("ENAME", refused.code)
    assert.matches("again@vm", refused.err)
    assert.is_true(refused.retry_ms <= 200)
    assert.are.equal("refused", t:status().status)
    n:stop()
    node.start({ name = "again" })
    told:wait("up")
    assert.are.equal("", n:log())
  end))

  it("reaches a node with a long name by a name with a dot", support.async(function()
    local n = node.start({ name = "again", host = "127.0.0.1", long = true })
    local t = targets.attach(n)
    assert.are.equal("beamlens1@127.0.0.1", t:status().info.own_name)
    assert.are.equal("again@127.0.0.1", t:eval("node()."))
  end))

  it("sees TLS, and leaves it alone for ten minutes", support.async(function()
    local n = node.start({ name = "again", args = node.tls_args() })
    local t, told = targets.start(n, { backoff_ms = QUICK })
    local refused = told:wait("refused")
    assert.are.same({ "ETLS", 600000 }, { refused.code, refused.retry_ms })
    assert.are.equal("refused", t:status().status)
  end))

  it("is told to subscribers until they leave", support.async(function()
    local n = node.start({ name = "again" })
    local t, told = targets.start(n, { backoff_ms = QUICK })
    local heard = {}
    local unsubscribe = t:subscribe(function(kind)
      heard[#heard + 1] = kind
    end)
    told:wait("up")
    unsubscribe()
    unsubscribe()
    n:eval("erlang:disconnect_node(beamlens1@localhost).")
    told:wait("up")
    assert.are.equal("up down up", told:kinds())
    assert.are.same({ "up" }, heard)
  end))
end)
