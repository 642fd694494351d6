local async = require("runtime.async")
local clock = require("runtime.clock")
local spending = require("runtime.spending")
local support = require("support")
local telemetry = require("runtime.telemetry")

local HOUR_MS, DAY_MS = 3600000, 86400000
local NOON_MS = DAY_MS * 20000 + 12 * HOUR_MS
local META = { watcher = "w", domain = "d", node = "n@h" }
local CALM = { watcher = "w", domain = "d", node = "n@h", is_calm = true }

local function open()
  local it_is = { clock = clock.manual(NOON_MS), told = {} }
  local bus = telemetry.new()
  it_is.reserved = {}
  for event, list in pairs({ budget_exhausted = it_is.told, budget_reserved = it_is.reserved }) do
    assert(bus:attach("spec " .. event, "beamlens.watcher." .. event,
      function(_, measurements, metadata)
        table.insert(list, { measurements.until_time, metadata.account, metadata.budget,
          metadata.limit, metadata.used })
      end))
  end
  it_is.ledger = spending.new({ clock = it_is.clock, telemetry = bus })
  return it_is
end

local function cost(usd, tokens, most)
  return function()
    return { likely = { usd = usd, tokens = tokens },
      most = { usd = (most or 2) * usd, tokens = (most or 2) * tokens } }
  end
end

-- One request from beginning to end. True when it was made.
local function spend(it_is, accounts, estimated, spent, meta)
  local held, failure = it_is.ledger:admit(accounts, estimated, it_is.clock.now_ms() + 1000,
    meta or META)
  if held then
    it_is.ledger:settle(held, spent or held.cost.likely)
  end
  return held ~= nil, failure
end

describe("a ledger", function()
  it("lets requests be made while the likely cost fits, and tells the end once in a window",
    support.async(function()
      local it_is = open()
      local process = it_is.ledger:account("process", { usd_per_day = 1 })
      local made = 0
      while spend(it_is, { process }, cost(0.3, 1000)) do
        made = made + 1
      end
      assert.are.equal(3, made)
      local again, failure = spend(it_is, { process }, cost(0.3, 1000))
      assert.is_false(again)
      assert.are.equal("budget", failure.kind)
      assert.is_false(failure.retryable)
      local midnight = 86400000 * 20001
      assert.are.equal(midnight, failure.until_ms)
      assert.are.equal("the budget of 1.00 USD a day is spent until 00:00 UTC (process)",
        failure.message)
      assert.are.equal(1, #it_is.told)
      assert.are.same({ midnight, "process", "usd_per_day", 1, process.windows.usd_per_day.used },
        it_is.told[1])
      it_is.clock.advance(12 * 3600000)
      assert.is_true(spend(it_is, { process }, cost(0.3, 1000)))
      assert.are.equal(1, #it_is.told)
    end))

  it("keeps 40 % of a limit for what a finding woke, and says so once in a window",
    support.async(function()
      local it_is = open()
      local account = it_is.ledger:account("process", { usd_per_day = 1 })
      local made = 0
      while spend(it_is, { account }, cost(0.25, 1), nil, CALM) do
        made = made + 1
      end
      assert.are.equal(2, made)
      local _, failure = spend(it_is, { account }, cost(0.25, 1), nil, CALM)
      assert.are.equal("budget", failure.kind)
      assert.is_true(failure.is_reserved)
      assert.are.equal(86400000 * 20001, failure.until_ms)
      assert.are.equal("calm watching has used its share of the budget of 1.00 USD a day until "
        .. "00:00 UTC (process)", failure.message)
      assert.are.same({ { 86400000 * 20001, "process", "usd_per_day", 1, 0.5 } }, it_is.reserved)
      assert.are.same({}, it_is.told)

      assert.is_true(spend(it_is, { account }, cost(0.25, 1)))
      assert.is_true(spend(it_is, { account }, cost(0.25, 1)))
      local held_back, spent_up = spend(it_is, { account }, cost(0.25, 1))
      assert.is_false(held_back)
      assert.is_nil(spent_up.is_reserved)
      assert.are.equal(1, #it_is.told)
      -- What is spent altogether is no reserve any more.
      _, failure = spend(it_is, { account }, cost(0.25, 1), nil, CALM)
      assert.is_nil(failure.is_reserved)
      assert.are.equal(1, #it_is.reserved)

      it_is.clock.advance(12 * 3600000)
      assert.is_true(spend(it_is, { account }, cost(0.25, 1), nil, CALM))
      assert.is_false(spend(it_is, { account }, cost(0.5, 1), nil, CALM))
      assert.are.equal(2, #it_is.reserved)
    end))

  it("keeps the reserve of each account, and names one that is spent rather than one reserved",
    support.async(function()
      local it_is = open()
      local process = it_is.ledger:account("process", { usd_per_day = 1 })
      local own = it_is.ledger:account("own", { tokens_per_hour = 1000 })
      assert.is_true(spend(it_is, { process, own }, cost(0.1, 500), nil, CALM))
      local _, failure = spend(it_is, { process, own }, cost(0.1, 500), nil, CALM)
      assert.is_true(failure.is_reserved)
      assert.are.equal("own", it_is.reserved[1][2])
      assert.is_true(spend(it_is, { process }, cost(0.45, 1)))
      _, failure = spend(it_is, { process, own }, cost(0.1, 600), nil, CALM)
      assert.is_nil(failure.is_reserved)
      assert.are.equal("own", it_is.told[1][2])
    end))

  it("keeps the reserve against many calm requests at once", support.async(function()
    local it_is = open()
    local account = it_is.ledger:account("process", { usd_per_day = 1 })
    local tasks, made = {}, 0
    for i = 1, 50 do
      tasks[i] = async.spawn(function()
        local held = it_is.ledger:admit({ account }, cost(0.05, 1, 8), 60000, CALM)
        if held then
          made = made + 1
          async.sleep(0)
          it_is.ledger:settle(held, { usd = 0.2, tokens = 1 })
        end
      end)
    end
    for _, task in ipairs(tasks) do
      task:join()
    end
    assert.are.equal(3, made)
    assert.is_true(account.windows.usd_per_day.used <= 0.6 + 1e-9)
    assert.are.equal(1, #it_is.reserved)
    assert.is_true(spend(it_is, { account }, cost(0.3, 1)))
  end))

  it("counts tokens by the hour", support.async(function()
    local it_is = open()
    local account = it_is.ledger:account("watcher w n@h", { tokens_per_hour = 2500 })
    assert.is_true(spend(it_is, { account }, cost(0, 1000)))
    assert.is_true(spend(it_is, { account }, cost(0, 1000)))
    local made, failure = spend(it_is, { account }, cost(0, 1000))
    assert.is_false(made)
    assert.are.equal(NOON_MS + 3600000, failure.until_ms)
    assert.are.equal("the budget of 2 500 tokens an hour is spent until 13:00 UTC (watcher w n@h)",
      failure.message)
    it_is.clock.advance(3600000)
    assert.is_true(spend(it_is, { account }, cost(0, 1000)))
  end))

  it("corrects the estimate by what a request has cost", support.async(function()
    local it_is = open()
    local account = it_is.ledger:account("process", { usd_per_day = 1 })
    for _ = 1, 90 do
      assert.is_true(spend(it_is, { account }, cost(0.1, 1), { usd = 0.01, tokens = 1 }))
    end
    assert.is_true(math.abs(account.windows.usd_per_day.used - 0.9) < 1e-9)
    assert.is_true(spend(it_is, { account }, cost(0.05, 1), { usd = 7, tokens = 1 }))
    assert.is_false(spend(it_is, { account }, cost(0.05, 1)))
  end))

  it("counts a request in each of its accounts, and one that is spent stops it", support.async(
    function()
      local it_is = open()
      local process = it_is.ledger:account("process", { usd_per_day = 1 })
      local one = it_is.ledger:account("one", { usd_per_day = 0.5 })
      local two = it_is.ledger:account("two", {})
      assert.is_true(spend(it_is, { process, one }, cost(0.4, 1)))
      assert.is_false(spend(it_is, { process, one }, cost(0.4, 1)))
      assert.is_true(spend(it_is, { process, two }, cost(0.4, 1)))
      assert.is_false(spend(it_is, { process, two }, cost(0.4, 1)))
      assert.are.equal("one", it_is.told[1][2])
      assert.are.equal("process", it_is.told[2][2])
    end))

  it("does not stop what costs nothing when the money is spent", support.async(function()
    local it_is = open()
    local account = it_is.ledger:account("process", { usd_per_day = 0 })
    assert.is_false(spend(it_is, { account }, cost(0.1, 1)))
    assert.is_true(spend(it_is, { account }, cost(0, 1)))
  end))

  it("makes many that ask at once wait for each other near the limit", support.async(function()
    local it_is = open()
    local account = it_is.ledger:account("process", { usd_per_day = 1 })
    local under_way, most, made, tasks = 0, 0, 0, {}
    for i = 1, 50 do
      tasks[i] = async.spawn(function()
        local held = it_is.ledger:admit({ account }, cost(0.05, 1, 20), 60000, META)
        if held then
          made, under_way = made + 1, under_way + 1
          most = math.max(most, under_way)
          async.sleep(0)
          under_way = under_way - 1
          it_is.ledger:settle(held, { usd = 0.2, tokens = 1 })
        end
      end)
    end
    for _, task in ipairs(tasks) do
      task:join()
    end
    assert.are.equal(1, most)
    assert.are.equal(5, made)
    assert.are.equal(1, #it_is.told)
  end))

  it("does not wait past a deadline for the others", support.async(function()
    local it_is = open()
    local account = it_is.ledger:account("process", { usd_per_day = 1 })
    assert(it_is.ledger:admit({ account }, cost(0.1, 1, 20), 60000, META))
    local held, failure = it_is.ledger:admit({ account }, cost(0.1, 1, 20), 0, META)
    assert.is_nil(held)
    assert.are.equal("budget", failure.kind)
    assert.is_nil(failure.until_ms)
  end))

  it("counts a request that nobody settled as it was estimated", support.async(function()
    local it_is = open()
    local account = it_is.ledger:account("process", { usd_per_day = 1 })
    local lost = assert(it_is.ledger:admit({ account }, cost(0.6, 1), 1000, META))
    it_is.clock.advance(10000)
    assert.is_true(spend(it_is, { account }, cost(0.1, 1)))
    assert.is_true(math.abs(account.windows.usd_per_day.used - 0.7) < 1e-9)
    it_is.ledger:settle(lost, { usd = 5, tokens = 1 })
    assert.is_true(math.abs(account.windows.usd_per_day.used - 0.7) < 1e-9)
  end))

  it("keeps what is spent when the clock is set back", support.async(function()
    local it_is = open()
    local account = it_is.ledger:account("process", { usd_per_day = 1 })
    assert.is_true(spend(it_is, { account }, cost(0.9, 1)))
    it_is.clock.advance(-86400000)
    assert.is_false(spend(it_is, { account }, cost(0.9, 1)))
  end))

  it("is never spent twice for a day by a clock that jumps, however often", support.async(
    function()
      local it_is = open()
      local account = it_is.ledger:account("process", { usd_per_day = 1 })
      local made = 0
      local function spend_all()
        while spend(it_is, { account }, cost(0.5, 1)) do
          made = made + 1
        end
      end
      for day = 0, 19 do
        it_is.clock.set_wall(NOON_MS + day % 2 * DAY_MS)
        spend_all()
      end
      -- Today's and tomorrow's.
      assert.are.equal(4, made)
      it_is.clock.set_wall(NOON_MS)
      for _ = 1, 48 do
        it_is.clock.advance(HOUR_MS)
        spend_all()
      end
      -- When tomorrow is over; what was spent of it stays so.
      assert.are.equal(6, made)
    end))

  it("refills after a day although the clock was far ahead before", support.async(function()
    local it_is = open()
    it_is.clock.set_wall(NOON_MS + 70 * 365 * DAY_MS)
    local account = it_is.ledger:account("process", { usd_per_day = 1 })
    assert.is_true(spend(it_is, { account }, cost(1, 1)))
    it_is.clock.set_wall(NOON_MS)
    local made, failure = spend(it_is, { account }, cost(1, 1))
    assert.is_false(made)
    assert.are.equal(NOON_MS + DAY_MS, failure.until_ms)
    assert.are.equal(DAY_MS, account:limits()[1].left_ms)
    it_is.clock.advance(DAY_MS - 1)
    assert.is_false(spend(it_is, { account }, cost(1, 1)))
    it_is.clock.advance(1)
    assert.is_true(spend(it_is, { account }, cost(1, 1)))
    assert.is_false(spend(it_is, { account }, cost(1, 1)))
  end))

  it("is not refilled by a restart between two jumps", support.async(function()
    local it_is = open()
    it_is.clock.set_wall(NOON_MS + DAY_MS)
    assert.is_true(spend(it_is, { it_is.ledger:account("process", { usd_per_day = 1 }) },
      cost(1, 1)))
    local before = it_is.ledger.accounts.process.windows.usd_per_day

    local again = open()
    again.ledger:restore({ { account = "process", budget = "usd_per_day",
      start_ms = before.start_ms, used = before.used, is_told = false } })
    local account = again.ledger:account("process", { usd_per_day = 1 })
    assert.is_false(spend(again, { account }, cost(1, 1)))
    again.clock.set_wall(NOON_MS + DAY_MS)
    assert.is_false(spend(again, { account }, cost(1, 1)))
    again.clock.set_wall(NOON_MS + 2 * DAY_MS)
    assert.is_true(spend(again, { account }, cost(1, 1)))
  end))

  it("goes on from what was spent before, unless that window is over", support.async(function()
    local it_is = open()
    local day, hour = 86400000 * 20000, NOON_MS
    it_is.ledger:restore({
      { account = "process", budget = "usd_per_day", start_ms = day, used = 0.8, is_told = true,
        is_calm_told = true },
      { account = "process", budget = "tokens_per_hour", start_ms = hour - 3600000, used = 7,
        is_told = false, is_calm_told = false },
      { account = "process", budget = "usd_per_century", start_ms = day, used = 1 },
    })
    local process = it_is.ledger:account("process", { usd_per_day = 1, tokens_per_hour = 5 })
    assert.is_false(spend(it_is, { process }, cost(0.3, 1)))
    assert.are.equal(0, #it_is.told)
    assert.is_false(spend(it_is, { process }, cost(0.1, 1), nil, CALM))
    assert.are.equal(0, #it_is.reserved)
    assert.is_true(spend(it_is, { process }, cost(0.1, 1)))
  end))

  it("says what is left in words", support.async(function()
    local it_is = open()
    assert.is_nil(it_is.ledger:account("none", {}):left_text())
    local account = it_is.ledger:account("w", { usd_per_day = 1, tokens_per_hour = 200000 })
    assert.is_true(spend(it_is, { account }, cost(0.25, 80000)))
    assert.are.equal("120 000 of 200 000 tokens until 13:00 UTC, 80 000 of it only for cycles that "
      .. "a finding wakes; 0.75 of 1.00 USD until 00:00 UTC, 0.40 of it only for cycles that a "
      .. "finding wakes", account:left_text())
    assert.is_true(spend(it_is, { account }, cost(0.5, 1)))
    assert.is_truthy(account:left_text():find("0.25 of 1.00 USD until 00:00 UTC, 0.25 of it only",
      1, true))
  end))
end)
