-- The rules of the postgres domain on histories that are made by hand, a sample every 10 s.

local beamlens = require("runtime.beamlens")
local detection = require("support.detection")
local loader = require("runtime.loader")
local parts = require("runtime.app.parts")
local support = require("support")
local telemetry = require("runtime.telemetry")

local function rules()
  package.loaded["beamlens"] = beamlens.new({ telemetry = telemetry.new(), warn = error })
  local loaded = parts.new({ loader = loader.new({ env = function() end }) })
  return assert(loaded:load_domain({ domain = "postgres" })).rules
end

-- A sample of a pool of eight, two of them idle, with changes.
local function data(changes)
  local sample = {
    pool = "shop", answers = true, pool_size = 8, active_connections = 6, checked_out = 6,
    idle_connections = 2, query_queue_depth = 0, longest_lock_wait_ms = 0, idle_in_transaction = 0,
    longest_transaction_s = 0, hidden_connections = 0, server_connections = 20,
    server_connection_limit = 97, server_connection_utilization_pct = 20.6,
  }
  for key, value in pairs(changes or {}) do
    sample[key] = value
  end
  return sample
end

local function case(body)
  return support.async(function()
    body(detection.setup({ rules = rules() }))
  end)
end

describe("pool_exhausted", function()
  it("holds for 30 s of a long wait, is a warning while sessions are free, then critical",
    case(function(t)
      t.pass(60, data())
      assert.are.equal("", t.findings())
      for i = 1, 3 do
        t.step(10, data({ query_queue_depth = 2, longest_lock_wait_ms = 5000 + 10000 * i }))
      end
      assert.are.equal("pool_exhausted shop pending", t.findings())
      t.step(10, data({ query_queue_depth = 2, longest_lock_wait_ms = 45000 }))
      assert.are.equal("pool_exhausted shop firing", t.findings())
      local alert = t.alerts:firing()[1]
      assert.are.same({ "warning", "shop" }, { alert.severity, alert.subject })
      assert.are.equal("shop: 2 of 8 sessions wait for a lock, the longest for 45 s; 2 free",
        alert.summary)
      t.step(10, data({ query_queue_depth = 8, longest_lock_wait_ms = 55000,
        idle_connections = 0 }))
      assert.are.equal("critical", t.alerts:firing()[1].severity)
      t.pass(20, data())
      assert.are.equal("pool_exhausted shop clearing", t.findings())
      t.pass(20, data())
      assert.are.same({ "", 0 }, { t.findings(), #t.alerts:firing() })
    end))

  it("fires of short waits when no session is free", case(function(t)
    t.pass(40, data({ query_queue_depth = 1, longest_lock_wait_ms = 200, idle_connections = 0 }))
    assert.are.equal("pool_exhausted shop firing", t.findings())
  end))

  it("is quiet about a pool that works hard, slow queries and short waits", case(function(t)
    t.pass(300, data({ longest_transaction_s = 3000, active_connections = 8, checked_out = 8,
      idle_connections = 0 }))
    t.pass(300, data({ query_queue_depth = 3, longest_lock_wait_ms = 4900 }))
    -- One long wait that is over within 30 s.
    t.pass(20, data({ query_queue_depth = 1, longest_lock_wait_ms = 25000 }))
    t.pass(60, data())
    assert.are.equal(0, #t.alerts:firing())
    assert.is_nil(t.names():find("firing", 1, true))
  end))

  it("resolves when waits are short again", case(function(t)
    t.pass(60, data({ query_queue_depth = 1, longest_lock_wait_ms = 40000 }))
    assert.are.equal("pool_exhausted shop firing", t.findings())
    t.pass(20, data({ query_queue_depth = 1, longest_lock_wait_ms = 1200 }))
    assert.are.equal("pool_exhausted shop firing", t.findings())
    t.pass(60, data({ query_queue_depth = 1, longest_lock_wait_ms = 300 }))
    assert.are.equal("", t.findings())
  end))
end)

describe("connection_limit", function()
  it("fires at 90 % for a minute, and resolves below 85 %", case(function(t)
    local function used(count)
      return data({ server_connections = count,
        server_connection_utilization_pct = 100 * count / 97 })
    end
    t.pass(120, used(87)) -- 89.7 %
    assert.are.equal("", t.findings())
    t.pass(70, used(88))
    assert.are.equal("connection_limit shop@db1 firing", t.findings())
    assert.are.equal("88 of 97 connections of the server are in use, 8 of them by shop",
      t.alerts:firing()[1].summary)
    t.step(10, used(96))
    assert.are.equal("critical", t.alerts:firing()[1].severity)
    t.pass(120, used(84))
    assert.are.equal("connection_limit shop@db1 firing", t.findings())
    t.pass(80, used(80))
    assert.are.equal("", t.findings())
  end))
end)

describe("server_down", function()
  it("fires after a minute without an answer and leaves the other rules be", case(function(t)
    t.pass(60, data({ query_queue_depth = 1, longest_lock_wait_ms = 40000 }))
    local gone = { pool = "shop", answers = false, failure = "ECONNREFUSED: no" }
    t.pass(60, gone)
    assert.matches("server_down shop@db1 pending", t.findings())
    t.step(10, gone)
    assert.are.equal("server_down shop@db1 firing", t.findings())
    assert.are.equal("shop@db1 does not answer: ECONNREFUSED: no", t.alerts:firing()[1].summary)
    t.pass(20, data())
    assert.are.equal("", t.findings())
  end))
end)
