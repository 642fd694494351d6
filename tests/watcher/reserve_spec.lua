-- What of a budget is kept for cycles that a finding woke: a watcher over a real registry and
-- ledger, with a clock that the spec moves and a server on loopback that reports usage.

local anthropic_server = require("support.anthropic_server")
local clients = require("runtime.clients")
local pace = require("runtime.watcher.pace")
local spending = require("runtime.spending")
local support = require("support")
local watched = require("support.watched")

local HOUR_MS = 3600000
-- With a model of 1 and 5 USD per million tokens.
local USAGE = { input_tokens = 8000, output_tokens = 400, cache_read_input_tokens = 0,
  cache_creation_input_tokens = 0 }
local ONE_USD = 0.01

-- A model that always waits for ten seconds, and a watcher that asks it.
local function setup(limits, is_paced)
  local it_is = watched.new({})
  it_is.server = anthropic_server.start({ on_request = function()
    return { tool = "wait", input = { reason = "calm", ms = 20000 }, usage = USAGE }
  end })
  support.on_cleanup(function()
    it_is:stop()
    it_is.server:stop()
  end)
  local ledger = spending.new({ clock = it_is.clock, telemetry = it_is.telemetry })
  it_is.watcher.registry = assert(clients.new({
    config = { clients = { { name = "Main", provider = "anthropic", options = {
      model = "claude-haiku-4-5", base_url = it_is.server.url, api_key = "k-0123456789" } } } },
    clock = it_is.clock, telemetry = it_is.telemetry, ledger = ledger,
  }))
  it_is.account = ledger:account("watcher beam", limits)
  it_is.watcher.account = it_is.account
  it_is.watcher.pace = is_paced and pace.new({ account = it_is.account,
    shared = ledger:account("process"), watchers = function()
      return 1
    end }) or nil
  return it_is
end

-- Waits until nothing but the clock is waited for.
local function asleep(it_is)
  support.wait_until(function()
    return it_is.watcher.status == "waiting" and it_is.clock.sleepers() > 0
  end, 20000, "the watcher to sleep")
end

-- Lets the time pass, wait by wait.
local function pass(it_is, ms)
  local until_ms = it_is.clock.now_ms() + ms
  while it_is.clock.now_ms() < until_ms do
    asleep(it_is)
    local left_ms = until_ms - it_is.clock.now_ms()
    it_is.clock.advance(math.min(left_ms, it_is:last("watcher.wait").measurements.ms))
  end
  asleep(it_is)
end

local function used(it_is)
  return it_is.account.windows.usd_per_day.used
end

describe("the reserve of a budget", function()
  it("is left alone by calm cycles, and a finding wakes a cycle that may use it", support.async(
    function()
      local it_is = setup({ usd_per_day = 10 * ONE_USD })
      it_is:start()
      pass(it_is, HOUR_MS)
      local asked = #it_is.server.requests
      assert.is_true(used(it_is) <= 6 * ONE_USD + 1e-9)
      assert.is_true(used(it_is) > 4 * ONE_USD)
      assert.are.equal(1, #it_is:all("watcher.budget_reserved"))
      assert.are.equal(0, #it_is:all("watcher.llm_error"))
      local _, detail = it_is.watcher:state()
      assert.is_truthy(detail.text:find("; rules (budget kept for findings until 00:00)", 1, true),
        detail.text)

      local finding = watched.finding({ phase = "pending" })
      it_is.detector.list = { finding }
      it_is.detector.tell(finding, "pending")
      support.wait_until(function()
        return #it_is.server.requests == asked + 1
      end, 20000, "the model to be asked about the finding")
      assert.is_truthy(it_is.server.requests[asked + 1].text:find("0.04 of it only", 1, true))
      pass(it_is, HOUR_MS)
      assert.are.equal(asked + 1, #it_is.server.requests)
      assert.are.equal(1, #it_is:all("watcher.budget_reserved"))

      for _ = 1, 6 do
        it_is.detector.tell(finding, "worsened")
        pass(it_is, 60000)
      end
      assert.is_true(used(it_is) <= 10 * ONE_USD + 1e-9)
      assert.is_true(used(it_is) > 8 * ONE_USD)
      assert.are.equal(1, #it_is:all("watcher.budget_exhausted"))
      _, detail = it_is.watcher:state()
      assert.is_truthy(detail.text:find("; rules (budget until 00:00)", 1, true), detail.text)

      asked = #it_is.server.requests
      pass(it_is, 2 * HOUR_MS)
      assert.is_true(#it_is.server.requests > asked)
      assert.are.equal(1, #it_is:all("watcher.budget_exhausted"))
    end, 60))

  it("may be used by a cycle in which a finding came", support.async(function()
    local it_is = setup({ usd_per_day = 10 * ONE_USD })
    it_is.account.windows.usd_per_day.used = 5 * ONE_USD
    it_is.server.on_request = function(_, index)
      if index == 1 then
        local finding = watched.finding({ phase = "pending" })
        it_is.detector.list = { finding }
        it_is.detector.tell(finding, "pending")
        return { tool = "take_snapshot", input = {}, usage = USAGE }
      end
      return { tool = "wait", input = { ms = 600000 }, usage = USAGE }
    end
    it_is.watcher.registry.clients.Main.estimate.tokens_per_byte = 0.1
    it_is:start()
    support.wait_until(function()
      return #it_is.server.requests == 2
    end, 20000, "the second call of the cycle")
    assert.are.equal(0, #it_is:all("watcher.budget_reserved"))
  end))

  it("is still there after 20 h of a model that would ask all the time", support.async(function()
    local it_is = setup({ usd_per_day = 100 * ONE_USD }, true)
    it_is.clock.advance(24 * HOUR_MS - it_is.clock.wall_ms() % (24 * HOUR_MS))
    it_is:start()
    pass(it_is, 20 * HOUR_MS)
    local asked = #it_is.server.requests
    assert.is_true(asked >= 30, asked)
    local finding = watched.finding()
    it_is.detector.list = { finding }
    it_is.detector.tell(finding, "firing")
    support.wait_until(function()
      return #it_is.server.requests == asked + 1
    end, 20000, "the model to be asked about the finding")
    pass(it_is, 4 * HOUR_MS - 60000)
    assert.is_true(#it_is.server.requests <= 100, #it_is.server.requests)
    assert.are.equal(0, #it_is:all("watcher.budget_exhausted"))
  end, 60))
end)
