local estimate = require("runtime.clients.estimate")
local prices = require("runtime.clients.prices")

local HAIKU = prices.of("claude-haiku-4-5")

local function request(bytes)
  return { system = ("s"):rep(bytes), messages = {} }
end

local function near(expected, found)
  assert.is_true(math.abs(expected - found) <= 1e-9 + expected * 0.01,
    ("%s, not %s"):format(found, expected))
end

describe("the estimate of a request", function()
  it("begins with a token per three bytes at full price, and holds back the longest answer",
    function()
      local cost = estimate.new():of(request(9000), HAIKU, 4096)
      assert.are.equal(3000 + 300, cost.likely.tokens)
      near(0.003 + 0.0015, cost.likely.usd)
      assert.are.equal(4500 + 4096, cost.most.tokens)
      near(4500 * 1.25e-6 + 4096 * 5e-6, cost.most.usd)
    end)

  it("counts all that the model reads", function()
    local own = estimate.new()
    local tools = { { name = "wait", schema = {} } }
    local bytes = own:of({ system = "abc", tools = tools, messages = {
      { role = "user", text = "four" },
      { role = "assistant", call = { id = "1", name = "wait", args = { ms = 1 } }, text = "" },
    } }, nil, 1).bytes
    assert.are.equal(3 + #'[{"name":"wait","schema":{}}]' + 4 + #'{"ms":1}', bytes)
  end)

  it("follows what the answers report: tokens, the cache's price, the length of answers", function()
    local own = estimate.new()
    local usage = { input = 100, cache_read = 1900, output = 50 }
    for _ = 1, 12 do
      own:learn(9000, usage, HAIKU)
    end
    local cost = own:of(request(9000), HAIKU, 4096)
    near(2050, cost.likely.tokens)
    near(prices.cost_usd(HAIKU, usage), cost.likely.usd)
    assert.is_true(cost.most.usd > cost.likely.usd)
  end)

  it("learns nothing from an answer without usage, and costs nothing without a price", function()
    local own = estimate.new()
    own:learn(9000, {}, HAIKU)
    own:learn(9000, { input = 7 }, HAIKU)
    local cost = own:of(request(9000), nil, 4096)
    assert.are.equal(3300, cost.likely.tokens)
    assert.are.same({ 0, 0 }, { cost.likely.usd, cost.most.usd })
  end)
end)
