-- What a request costs where no price is known: a model that no budget in USD can count, and a
-- broker that reports what it charged.

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local chat_replies = require("support.chat_replies")
local clients = require("runtime.clients")
local support = require("support")

local REQUEST = {
  system = ("s"):rep(300),
  tools = { { name = "wait", description = "d", schema = { type = "object" } } },
  messages = { { role = "user", text = "u" } },
  context = { state = "healthy", findings = {}, wait = { min_ms = 1, max_ms = 60000 } },
  meta = { watcher = "w", domain = "d", node = "n@h" },
}

-- A server whose answers report this usage, and a registry of it and the rules.
local function open(provider, usage, limits)
  local server = anthropic_server.start({ on_request = function()
    return chat_replies.call("wait", { ms = 60000 }, usage)
  end })
  support.on_cleanup(function()
    server:stop()
  end)
  local registry = assert(clients.new({
    config = {
      primary = "Main",
      clients = {
        { name = "A", provider = provider, options = { model = "unheard-of", api_key = "k-01234",
          base_url = server.url } },
        { name = "Main", provider = "fallback", options = { strategy = { "A", "rules" } } },
      },
      limits = limits,
    },
    env = function() end,
  }))
  return registry, server
end

local function usage(cost, more)
  local reported = { prompt_tokens = 1000, completion_tokens = 100, total_tokens = 1100,
    cost = cost }
  for name, value in pairs(more or {}) do
    reported[name] = value
  end
  return reported
end

describe("a model without a known price", function()
  it("is not asked where budgets count USD alone, and says what to do", support.async(function()
    local registry, server = open("openai-generic", usage(), { usd_per_day = 100 })
    local result, err, kind = registry:decide("A", REQUEST)
    assert.is_nil(result)
    assert.are.equal("invalid_request", kind)
    assert.are.equal("unheard-of is not asked: no price of it is known, so usd_per_day cannot be "
      .. "kept; set the client's price, or tokens_per_hour as well", err)
    assert.are.equal(0, #server.requests)
    result = assert(registry:decide(nil, REQUEST))
    assert.are.equal("rules", result.provider)
    assert.is_nil(result.budget_until_ms)
  end))

  it("is asked where no budget counts USD, or one counts tokens, whosever it is", support.async(
    function()
      local registry = open("openai-generic", usage())
      assert.is_nil(assert(registry:decide("A", REQUEST)).cost_usd)
      local server
      registry, server = open("openai-generic", usage(), { usd_per_day = 1,
        tokens_per_hour = 5000 })
      for _ = 1, 4 do
        assert(registry:decide("A", REQUEST))
      end
      assert.are.equal("budget", select(3, registry:decide("A", REQUEST)))
      assert.are.equal(4, #server.requests)
      registry = open("openai-generic", usage(), { usd_per_day = 1 })
      local request = { account = registry.ledger:account("watcher",
        { tokens_per_hour = 5000 }) }
      for name, value in pairs(REQUEST) do
        request[name] = value
      end
      assert(registry:decide("A", request))
    end))

  it("does not get its cost from a server that says what only a broker's word is", support.async(
    function()
      local registry = open("openai-generic", usage(0.5))
      assert.is_nil(assert(registry:decide("A", REQUEST)).cost_usd)
    end))
end)

describe("a broker that reports what it charged", function()
  it("is believed, and its budget ends by it", support.async(function()
    local registry, server = open("openrouter", usage(0.02), { usd_per_day = 0.1 })
    assert.are.same({}, registry:unpriced())
    assert.are.equal(0.02, assert(registry:decide("A", REQUEST)).cost_usd)
    while registry:decide("A", REQUEST) do
      assert.is_true(#server.requests <= 5)
    end
    assert.are.equal(5, #server.requests)
    assert.is_true(math.abs(registry.account.windows.usd_per_day.used - 0.1) < 1e-9)
  end))

  it("counts what the provider of the user's own key charges", support.async(function()
    local registry = open("openrouter", usage(0.001, { is_byok = true,
      cost_details = { upstream_inference_cost = 0.019 } }))
    assert.are.equal(0.02, assert(registry:decide("A", REQUEST)).cost_usd)
    registry = open("openrouter", usage(0.001, { is_byok = false,
      cost_details = { upstream_inference_cost = 0.001 } }))
    assert.are.equal(0.001, assert(registry:decide("A", REQUEST)).cost_usd)
  end))

  it("gets one request at a time until it is known what one costs", support.async(function()
    local registry, server = open("openrouter", usage(0.3), { usd_per_day = 1 })
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = async.spawn(function()
        return registry:decide("A", REQUEST)
      end)
    end
    for _, task in ipairs(tasks) do
      task:join()
    end
    local used = registry.account.windows.usd_per_day.used
    assert.are.equal(3, #server.requests)
    assert.is_true(math.abs(used - 0.9) < 1e-9, used)
  end))

  it("is as any other without a price when it reports none after all", support.async(function()
    local registry, server = open("openrouter", usage(), { usd_per_day = 1 })
    assert(registry:decide("A", REQUEST))
    assert.are.equal("invalid_request", select(3, registry:decide("A", REQUEST)))
    assert.are.equal(1, #server.requests)
  end))
end)
