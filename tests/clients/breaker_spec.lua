local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local breaker = require("runtime.clients.breaker")
local clients = require("runtime.clients")
local clock = require("runtime.clock")
local failures = require("runtime.providers.failure")
local support = require("support")
local watched = require("support.watched")

local WAIT = { tool = "wait", input = { ms = 1800000 } }
local OVERLOADED = { status = 529, error = "overloaded_error", message = "Overloaded" }
local DENIED = { status = 401, error = "authentication_error", message = "invalid x-api-key" }
local HOUR_MS = 3600000
local MAX_STEP_MS = 300000

local function env(name)
  return name == "ANTHROPIC_API_KEY" and "k-0123456789" or nil
end

local function request()
  return {
    system = "s",
    tools = { { name = "wait", description = "d", schema = { type = "object" } } },
    messages = { { role = "user", text = "u" } },
    context = { state = "healthy", findings = {}, wait = { min_ms = 1, max_ms = 60000 } },
  }
end

local function anthropic(name, url)
  return { name = name, provider = "anthropic", retry_policy = "DefaultRetry",
    options = { model = "claude-haiku-4-5", base_url = url } }
end

local function start_server(opts)
  local server = anthropic_server.start(opts)
  support.on_cleanup(function()
    server:stop()
  end)
  return server
end

describe("a breaker", function()
  local moved, guard

  local function fail(kind, more)
    guard:failed(failures.new(kind or "server", "oops", more))
  end

  local function fail_often(count)
    for _ = 1, count do
      assert(guard:enter(1000))
      fail()
    end
  end

  before_each(function()
    moved = clock.manual()
    guard = breaker.new({ clock = moved, random = function()
      return 0
    end })
  end)

  it("opens at the fifth failure in a row, and says why", function()
    fail_often(4)
    assert.are.equal(0, guard:blocked_ms())
    fail_often(1)
    assert.are.equal(10000, guard:blocked_ms())
    local ok, failure = guard:enter(1000)
    assert.is_nil(ok)
    assert.are.same({ "server", false, true, 10000 },
      { failure.kind, failure.retryable, failure.not_asked, failure.retry_after_ms })
    assert.are.equal("not asked for 10 s after 5 failures in a row; the last: oops",
      failure.message)
  end)

  it("counts failures in a row alone", function()
    fail_often(4)
    guard:succeeded()
    fail_often(4)
    fail("no_tool_call")
    fail_often(4)
    assert.are.equal(0, guard:blocked_ms())
  end)

  it("lets one probe through, and doubles its pause up to 5 min", function()
    fail_often(5)
    for _, ms in ipairs({ 20000, 40000, 80000, 160000, 300000, 300000 }) do
      moved.advance(guard:blocked_ms())
      assert(guard:enter(60000))
      assert.is_nil((guard:enter(60000)))
      fail()
      assert.are.equal(ms, guard:blocked_ms())
    end
    moved.advance(300000)
    assert(guard:enter(60000))
    guard:succeeded()
    assert.are.equal(0, guard:blocked_ms())
    fail_often(5)
    assert.are.equal(10000, guard:blocked_ms())
  end)

  it("keeps to a longer pause that the server asks for, of at most 5 min", function()
    fail_often(4)
    fail("rate_limit", { retry_after_ms = 41000 })
    assert.are.equal(41000, guard:blocked_ms())
    moved.advance(41000)
    assert(guard:enter(1000))
    fail("rate_limit", { retry_after_ms = 86400000 })
    assert.are.equal(300000, guard:blocked_ms())
  end)

  it("opens at once where the server asks for a time that no decision waits for", function()
    fail("rate_limit", { retry_after_ms = 119000 })
    assert.are.equal(0, guard:blocked_ms())
    guard:succeeded()
    fail("quota", { retry_after_ms = 86400000 })
    assert.are.equal(300000, guard:blocked_ms())
    local _, failure = guard:enter(1000)
    assert.are.equal("not asked for 5 m after a failure: oops", failure.message)
    moved.advance(300000)
    assert(guard:enter(1000))
    guard:succeeded()
    assert(guard:enter(1000))
  end)

  it("is not opened for longer by requests that were on their way", function()
    fail_often(5)
    moved.advance(1000)
    fail()
    fail()
    assert.are.equal(9000, guard:blocked_ms())
  end)

  it("probes again when the probe was given up", function()
    fail_often(5)
    moved.advance(10000)
    assert(guard:enter(30000))
    assert.are.equal(5000, guard:blocked_ms())
    moved.advance(29999)
    assert.are.equal(1, guard:blocked_ms())
    moved.advance(1)
    assert(guard:enter(30000))
    guard:released()
    assert(guard:enter(30000))
  end)

  it("opens earlier by chance, by a fifth at most", function()
    guard = breaker.new({ clock = moved, random = function()
      return 1
    end })
    fail_often(5)
    assert.are.equal(8000, guard:blocked_ms())
  end)
end)

describe("a registry with breakers", function()
  local function open(config, moved)
    return assert(clients.new({ config = config, env = env, clock = moved, random = function()
      return 0.5
    end, sleep = function(ms)
      moved.advance(ms)
    end }))
  end

  it("goes past a client that is left alone, without a wait and without a request",
    support.async(function()
      local dead, live = start_server({ on_request = function()
        return DENIED
      end }), start_server({ on_request = function()
        return WAIT
      end })
      local registry = open({ primary = "F", clients = {
        anthropic("A", dead.url), anthropic("B", live.url),
        { name = "F", provider = "fallback", options = { strategy = { "A", "B" } } },
      } }, clock.manual())
      for i = 1, 8 do
        local result = assert(registry:decide(nil, request()))
        assert.are.same({ "B", i <= 5 and 2 or 1 }, { result.client, result.attempts })
      end
      assert.are.equal(5, #dead.requests)
    end))

  it("passes over a client whose turn it is while it is left alone", support.async(function()
    local dead, live = start_server({ on_request = function()
      return DENIED
    end }), start_server({ on_request = function()
      return WAIT
    end })
    local registry = open({ primary = "R", clients = {
      anthropic("A", dead.url), anthropic("B", live.url),
      { name = "R", provider = "round-robin", options = { strategy = { "A", "B" }, start = 0 } },
    } }, clock.manual())
    for _ = 1, 5 do
      assert.are.equal("auth", select(3, registry:decide("A", request())))
    end
    for _ = 1, 4 do
      assert.are.equal("B", assert(registry:decide(nil, request())).client)
    end
    assert.are.equal(5, #dead.requests)
  end))

  it("says when the first client that is left alone may be asked", support.async(function()
    local dead = start_server({ on_request = function()
      return DENIED
    end })
    local registry = open({ primary = "F", clients = {
      anthropic("A", dead.url), anthropic("B", dead.url),
      { name = "F", provider = "fallback", options = { strategy = { "A", "Inner" } } },
      { name = "Inner", provider = "fallback", options = { strategy = { "B", "B" } } },
    } }, clock.manual())
    for _ = 1, 5 do
      registry:decide("A", request())
    end
    local detail = select(4, registry:decide(nil, request()))
    assert.are.same({ 9000 }, { detail.probe_ms })
    assert.is_nil(detail.not_asked)
  end))

  it("says when to come back when every client is left alone", support.async(function()
    local dead = start_server({ on_request = function()
      return DENIED
    end })
    local moved = clock.manual()
    local registry = open({ primary = "F", clients = {
      anthropic("A", dead.url), anthropic("B", dead.url),
      { name = "F", provider = "fallback", retry_policy = "DefaultRetry",
        options = { strategy = { "A", "B" } } },
    } }, moved)
    for _ = 1, 5 do
      local detail = select(4, registry:decide(nil, request()))
      assert.is_nil(detail.not_asked)
    end
    moved.advance(1000)
    local _, err, kind, detail = registry:decide(nil, request())
    assert.are.same({ "auth", true, 8000, 0 },
      { kind, detail.not_asked, detail.retry_after_ms, detail.attempts })
    assert.is_truthy(err:find("A: not asked for 8 s after 5 failures in a row", 1, true))
    assert.are.equal(10, #dead.requests)
  end))

  for what, reply in pairs({
    ["is overloaded"] = OVERLOADED,
    ["refuses its key"] = DENIED,
    ["takes no request"] = { status = 400, error = "invalid_request_error", message = "no" },
    ["says to come back in a second"] = { status = 429, error = "rate_limit_error",
      headers = { ["retry-after"] = "1" } },
    ["cuts its answers"] = { cut = true, tool = "wait", input = { ms = 1 } },
  }) do
    it("asks a client that " .. what .. " at most 30 times in an hour, for several watchers",
      support.async(function()
        local dead = start_server({ on_request = function()
          return reply
        end })
        local moved = clock.manual()
        local client = anthropic("A", dead.url)
        client.retry_policy = "Eager"
        local registry = open({ clients = { client }, retry_policies = {
          Eager = { max_retries = 20, strategy = { type = "constant_delay", delay_ms = 10 } },
        } }, moved)
        while moved.now_ms() < HOUR_MS do
          local tasks = {}
          for i = 1, 4 do
            tasks[i] = async.spawn(function()
              assert(not registry:decide(nil, request()))
            end)
          end
          for _, task in ipairs(tasks) do
            assert.is_true((task:join()))
          end
          moved.advance(5000)
        end
        assert.is_true(#dead.requests >= 15 and #dead.requests <= 30, #dead.requests)
      end, 60))
  end
end)

describe("a watcher whose every client is dead for an hour", function()
  -- A watcher over a registry of a server that fails by status, one that refuses the key, and one
  -- that is not there.
  local function setup(replies, last)
    local it_is = watched.new({}, { client = "Main" })
    support.on_cleanup(function()
      it_is:stop()
    end)
    local servers = {
      A = start_server({ on_request = function()
        return replies.A
      end }),
      B = start_server({ on_request = function()
        return replies.B
      end }),
    }
    local nobody = anthropic_server.start({})
    nobody:stop()
    it_is.pausing = 0
    it_is.watcher.registry = assert(clients.new({
      config = {
        primary = "Main",
        clients = {
          anthropic("A", servers.A.url), anthropic("B", servers.B.url),
          anthropic("C", nobody.url),
          { name = "Main", provider = "fallback",
            options = { strategy = { "A", "B", "C", last } } },
        },
      },
      env = env, clock = it_is.clock, telemetry = it_is.telemetry,
      sleep = function(ms)
        it_is.pausing = it_is.pausing + 1
        it_is.clock.await(ms, function() end)
        it_is.pausing = it_is.pausing - 1
      end,
    }))
    return it_is, servers
  end

  -- Moves the clock in steps, each as soon as nothing but the clock is waited for.
  local function pass(it_is, ms, is_over)
    local until_ms = it_is.clock.now_ms() + ms
    while it_is.clock.now_ms() < until_ms and not (is_over and is_over()) do
      support.wait_until(function()
        return it_is.pausing > 0
          or it_is.watcher.status == "waiting" and it_is.clock.sleepers() > 0
      end, 10000, "the watcher to wait")
      it_is.clock.advance(math.min(1000, until_ms - it_is.clock.now_ms()))
    end
  end

  local function asked(it_is, name)
    local count = 0
    for _, event in ipairs(it_is:all("llm.start")) do
      count = count + (event.metadata.client == name and 1 or 0)
    end
    return count
  end

  -- The last answer of a model, not of the rules.
  local function answered(it_is)
    for _, event in ipairs(it_is:all("llm.stop")) do
      if event.metadata.provider ~= "rules" then
        return event
      end
    end
  end

  for what, case in pairs({
    ["for an hour"] = { HOUR_MS },
    ["for an hour, with the rules as last member"] = { HOUR_MS, "rules" },
    ["for 100 s"] = { 100000 },
    ["for 20 min"] = { 1200000 },
  }) do
    it("goes on by the rules, and is back within one step of the backoff, " .. what,
      support.async(function()
        local dead_ms = case[1]
        local replies = { A = OVERLOADED, B = DENIED }
        local it_is, servers = setup(replies, case[2])
        it_is:start()
        pass(it_is, dead_ms / 2)
        it_is.detector.list = { watched.finding() }
        it_is.detector.tell(it_is.detector.list[1], "firing")
        pass(it_is, dead_ms / 2)
        assert.are.equal("warning", it_is.watcher.current.name)
        for name, server in pairs(servers) do
          assert.are.equal(asked(it_is, name), #server.requests)
        end
        for _, name in ipairs({ "A", "B", "C" }) do
          local count = asked(it_is, name)
          assert.is_true(count >= 4 and count <= 30, name .. ": " .. count)
        end
        assert.is_nil(answered(it_is))

        replies.A = WAIT
        local back_ms = it_is.clock.now_ms()
        local step_ms = it_is:last("watcher.llm_error").measurements.retry_ms
        pass(it_is, 2 * MAX_STEP_MS, function()
          return answered(it_is)
        end)
        assert.are.equal("A", answered(it_is).metadata.client)
        assert.is_true(step_ms <= MAX_STEP_MS)
        assert.is_true(it_is.clock.now_ms() - back_ms <= step_ms + 1000,
          it_is.clock.now_ms() - back_ms)
        it_is:asleep()
        assert.is_nil(it_is.watcher.model.failing_since_ms)
      end, 60))
  end
end)
