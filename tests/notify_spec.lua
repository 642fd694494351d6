-- The service manager's protocol, on real sockets.

local async = require("runtime.async")
local control = require("support.control")
local manager = require("support.manager")
local notify = require("runtime.notify")
local process = require("host.process")
local service = require("runtime.service")
local support = require("support")
local telemetry = require("runtime.telemetry")
local uv = require("luv")

local function environment(values)
  return function(name)
    return values[name]
  end
end

local function notifier(values)
  local told = {}
  return notify.new({ env = environment(values), warn = function(text)
    told[#told + 1] = text
  end }), told
end

describe("a message to the service manager", function()
  it("goes to a socket in a folder or to an abstract one", support.async(function()
    for _, path in ipairs({ control.folder() .. "/notify",
      ("@beamlens-spec-%d"):format(uv.os_getpid()) }) do
      local m = manager.open(path)
      local n, told = notifier({ NOTIFY_SOCKET = path })
      assert.is_true(n:send({ "READY=1", "STATUS=two\nlines\27" }))
      assert.are.same({ "READY=1", "STATUS=two lines ", ["READY=1"] = true,
        ["STATUS=two lines "] = true }, m:read()[1])
      n:reloading()
      local reloading = m:read()[2]
      assert.are.equal("RELOADING=1", reloading[1])
      local at_usec = tonumber(reloading[2]:match("^MONOTONIC_USEC=(%d+)$"))
      assert.is_true(math.abs(at_usec - uv.hrtime() / 1000) < 60e6)
      assert.are.same({}, told)
    end
  end))

  it("is none where there is no manager", function()
    for _, path in ipairs({ false, "" }) do
      local n = notifier({ NOTIFY_SOCKET = path or nil, WATCHDOG_USEC = "1000000" })
      assert.is_false(n:send({ "READY=1" }))
      assert.is_nil(n.path)
      assert.is_nil(n.watchdog_ms)
    end
  end)

  it("that nobody takes is told of once", support.async(function()
    local n, told = notifier({ NOTIFY_SOCKET = control.folder() .. "/none" })
    assert.is_false(n:send({ "READY=1" }))
    assert.is_false(n:send({ "STATUS=x" }))
    assert.are.equal(1, #told)
    assert.matches("^the service manager cannot be told: ENOENT", told[1])
  end))

  it("needs an address", function()
    for _, path in ipairs({ "relative", "@", "/", "/" .. ("x"):rep(200) }) do
      local ok, _, code = process.notify(path, "x")
      assert.is_nil(ok)
      assert.are.equal("EINVAL", code, path)
    end
  end)

  it("never waits for a manager that does not read", support.async(function()
    local m = manager.open(control.folder() .. "/notify", true)
    local n, told = notifier({ NOTIFY_SOCKET = m.path })
    local sent, is_busy = 0
    repeat
      local ok
      ok, is_busy = n:send({ "STATUS=" .. ("x"):rep(1000) })
      sent = sent + (ok and 1 or 0)
    until not ok or sent == 100000
    assert.is_true(is_busy)
    assert.are.same({}, told)
    -- What must arrive does, when there is room again.
    n:insist({ "READY=1" })
    n:insist({ "RELOADING=1" })
    assert.are.equal(0, m:count("READY=1"))
    m:wait_for("READY=1")
    m:wait_for("RELOADING=1")
    assert.are.equal(sent + 2, #m:read())
  end))

  it("that could not be sent is given up at the end", support.async(function()
    local m = manager.open(control.folder() .. "/notify", true)
    local n = notifier({ NOTIFY_SOCKET = m.path })
    while n:send({ "STATUS=" .. ("x"):rep(1000) }) do end
    n:insist({ "STOPPING=1" })
    n:close()
    assert.are.equal(0, m:count("STOPPING=1"))
  end))

  it("of life is wanted only by who names this process", function()
    local function wanted(values)
      values.NOTIFY_SOCKET = "/x"
      return (notifier(values)).watchdog_ms
    end
    assert.are.equal(3000, wanted({ WATCHDOG_USEC = "3000000" }))
    assert.are.equal(3000, wanted({ WATCHDOG_USEC = "3000000",
      WATCHDOG_PID = tostring(uv.os_getpid()) }))
    assert.is_nil(wanted({ WATCHDOG_USEC = "3000000", WATCHDOG_PID = "1" }))
    assert.is_nil(wanted({ WATCHDOG_USEC = "0" }))
    assert.is_nil(wanted({ WATCHDOG_USEC = "soon" }))
    assert.is_nil(wanted({}))
  end)
end)

describe("the host as a service", function()
  local function start(values, opts)
    local m = manager.open(control.folder() .. "/notify")
    values.NOTIFY_SOCKET = m.path
    local bus = telemetry.new()
    local it_is = { manager = m, bus = bus, is_well = true,
      extent = { nodes = 2, up = 1, watchers = 3 }, firing = {} }
    it_is.service = service.start({
      notifier = (notifier(values)), telemetry = bus,
      app = { units = opts.units, extent = function()
        return it_is.extent
      end },
      alerts = { firing = function()
        return it_is.firing
      end },
      is_well = function()
        return it_is.is_well
      end,
    })
    support.on_cleanup(function()
      it_is.service:close()
    end)
    return it_is
  end

  local function start_watcher(it_is)
    it_is.bus:execute("beamlens.watcher.started", { system_time = 1, sample_ms = 1 },
      { watcher = "w", domain = "d", node = "n" })
  end

  it("is ready when each watcher has started, and says what it watches", support.async(function()
    local it_is = start({}, { units = { {}, {} } })
    start_watcher(it_is)
    assert.are.equal(0, it_is.manager:count("READY=1"))
    start_watcher(it_is)
    assert.are.equal("STATUS=3 watchers on 2 nodes, 1 up", it_is.manager:read()[1][2])
    start_watcher(it_is) -- of a node that was found later
    assert.are.equal(1, it_is.manager:count("READY=1"))
    it_is.service:stopping()
    assert.are.equal(1, it_is.manager:count("STOPPING=1"))
  end))

  it("is ready at once without a watcher", support.async(function()
    local it_is = start({}, { units = {} })
    assert.are.equal(1, it_is.manager:count("READY=1"))
  end))

  it("gives signs of life while all is well, and none while it is not", support.async(function()
    local it_is = start({ WATCHDOG_USEC = "20000" }, { units = {} })
    it_is.manager:wait_for("WATCHDOG=1", 3)
    it_is.is_well = false
    local before = it_is.manager:count("WATCHDOG=1")
    -- Six times as long as a beat takes.
    async.sleep(60)
    assert.are.equal(before, it_is.manager:count("WATCHDOG=1"))
    it_is.is_well = true
    it_is.manager:wait_for("WATCHDOG=1", before + 2)
  end))

  it("says when it reloads and when that is over, whatever came of it", support.async(function()
    local it_is = start({}, { units = {} })
    local result, err, code = it_is.service:reload(function()
      assert.are.equal(1, it_is.manager:count("RELOADING=1"))
      assert.are.equal(1, it_is.manager:count("READY=1"))
      return nil, "no", "ENO"
    end)
    assert.are.same({ nil, "no", "ENO" }, { result, err, code })
    assert.are.equal(2, it_is.manager:count("READY=1"))
  end))
end)
