local clock = require("runtime.clock")
local pace = require("runtime.watcher.pace")
local spending = require("runtime.spending")
local support = require("support")
local telemetry = require("runtime.telemetry")

local NOON_MS = 86400000 * 20000 + 12 * 3600000
local HOUR_MS = 3600000

local function setup(limits, process_limits, watchers)
  local it_is = { clock = clock.manual(NOON_MS) }
  it_is.ledger = spending.new({ clock = it_is.clock, telemetry = telemetry.new() })
  it_is.account = it_is.ledger:account("w", limits)
  it_is.shared = it_is.ledger:account("process", process_limits or {})
  it_is.pace = pace.new({ account = it_is.account, shared = it_is.shared,
    watchers = function()
      return watchers or 1
    end })
  function it_is.spend(usd, tokens)
    local cost = { usd = usd, tokens = tokens }
    local held = assert(it_is.ledger:admit({ it_is.shared, it_is.account },
      function()
        return { likely = cost, most = cost }
      end, 1e9, {}))
    it_is.ledger:settle(held, cost)
  end
  return it_is
end

local function near(expected, found)
  assert.is_true(math.abs(expected - found) < 1, ("%s, not %s"):format(found, expected))
end

describe("the pace of a watcher", function()
  it("is the model's own without a limit, or while nothing costs", support.async(function()
    local it_is = setup({})
    it_is.spend(1, 1000)
    assert.are.equal(10000, it_is.pace:stretch(10000, 1800000))
    it_is = setup({ usd_per_day = 1 })
    assert.are.equal(10000, it_is.pace:stretch(10000, 1800000))
  end))

  it("lets 60 % of a limit last its window", support.async(function()
    local it_is = setup({ tokens_per_hour = 10000 })
    it_is.spend(0, 1000)
    near(HOUR_MS / 5, it_is.pace:stretch(10000, HOUR_MS))
    it_is.clock.advance(HOUR_MS / 2)
    it_is.spend(0, 1000)
    near(HOUR_MS / 2 / 4, it_is.pace:stretch(10000, HOUR_MS))
    assert.are.equal(1500000, it_is.pace:stretch(1500000, HOUR_MS))
  end))

  it("waits for the next window when the share of calm watching is used", support.async(function()
    local it_is = setup({ tokens_per_hour = 10000 })
    it_is.clock.advance(HOUR_MS / 2)
    it_is.spend(0, 6500)
    near(HOUR_MS / 2, it_is.pace:stretch(10000, HOUR_MS))
  end))

  it("shares the budget of the process with the other watchers", support.async(function()
    local it_is = setup({}, { tokens_per_hour = 100000 }, 5)
    it_is.spend(0, 1000)
    near(HOUR_MS * 5000 / 59000, it_is.pace:stretch(10000, HOUR_MS))
  end))

  it("stays within the longest wait", support.async(function()
    local it_is = setup({ usd_per_day = 0.1 })
    it_is.spend(0.05, 1000)
    assert.are.equal(1800000, it_is.pace:stretch(10000, 1800000))
  end))
end)
