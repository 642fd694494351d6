local clients = require("runtime.clients")
local support = require("support")

local registry = assert(clients.new({
  env = function() end,
}))

local function finding(more)
  local f = {
    type = "mailbox_growth",
    subject = "orders_worker",
    severity = "critical",
    phase = "firing",
    value = 39818,
    unit = "messages",
    per_s = 18900,
    eta_s = 360,
  }
  for name, value in pairs(more or {}) do
    f[name] = value
  end
  return f
end

local function decide(context, messages)
  context.wait = { min_ms = 10000, max_ms = 1800000 }
  return assert(registry:decide("rules", { context = context, messages = messages or {} }))
end

describe("the rules client", function()
  it("is the primary without a key, and says so", function()
    assert.are.equal("rules", registry.primary)
    assert.are.equal("no model: ANTHROPIC_API_KEY is not set; the rules decide alone",
      registry.notice)
  end)

  it("sets the state that the worst finding means", support.async(function()
    for _, case in ipairs({
      { { finding() }, "critical" },
      { { finding({ severity = "warning" }), finding({ severity = "info" }) }, "warning" },
      { { finding({ severity = "info" }) }, "observing" },
      { { finding({ phase = "pending" }) }, "observing" },
      { { finding({ phase = "clearing", severity = "warning" }) }, "warning" },
      { { finding({ phase = "pending" }), finding({ severity = "warning" }) }, "warning" },
    }) do
      local result = decide({ state = "healthy", findings = case[1] })
      assert.are.equal("set_state", result.tool)
      assert.are.equal(case[2], result.args.state)
    end
    local result = decide({ state = "critical", findings = {} })
    assert.are.equal("set_state", result.tool)
    assert.are.equal("healthy", result.args.state)
    assert.are.equal("no rule finds anything; the state was critical", result.args.reason)
  end))

  it("names type, subject, value and trend of the worst finding", support.async(function()
    local result = decide({ state = "healthy", findings = {
      finding({ phase = "pending", type = "ets_growth" }),
      finding(),
    } })
    assert.are.equal("mailbox_growth of orders_worker is firing: 39 818 messages, +18 900/s, "
      .. "limit in about 6 m; 2 findings in all", result.args.reason)
    local bare = decide({ state = "healthy", findings = { { type = "node_limit",
      severity = "warning", phase = "firing", value = 91.26, unit = "%", per_s = -0.5 } } })
    assert.are.equal("node_limit is firing: 91.3 %, -0.5/s", bare.args.reason)
    local long = decide({ state = "healthy", findings = { finding({ subject = ("x"):rep(999) }) } })
    assert.are.equal(300, #long.args.reason)
  end))

  it("waits as long as it may when the state is right", support.async(function()
    for _, context in ipairs({
      { state = "healthy", findings = {} },
      { state = "critical", findings = { finding() } },
    }) do
      local result = decide(context)
      assert.are.equal("wait", result.tool)
      assert.are.equal(1800000, result.args.ms)
    end
  end))

  it("is not healthy while an alert of a rule fires", support.async(function()
    local alert = { type = "ets_growth", subject = "cache", severity = "warning", source = "rule",
      status = "firing" }
    local result = decide({ state = "healthy", findings = {}, alerts = { alert } })
    assert.are.equal("warning", result.args.state)
    assert.are.equal("the alert ets_growth of cache still fires", result.args.reason)
    assert.are.equal("wait", decide({ state = "warning", findings = {}, alerts = { alert } }).tool)
    alert.source = "model"
    assert.are.equal("wait", decide({ state = "healthy", findings = {}, alerts = { alert } }).tool)
  end))

  it("does not ask again for a change that had no effect", support.async(function()
    local messages = {
      { role = "user", text = "…" },
      { role = "assistant", call = { id = "1", name = "set_state", args = { state = "healthy" } } },
      { role = "tool", id = "1", name = "set_state", text = "{}" },
    }
    local context = { state = "warning", findings = {} }
    assert.are.equal("wait", decide(context, messages).tool)
    messages[2].call.args.state = "observing"
    assert.are.equal("set_state", decide(context, messages).tool)
  end))

  it("costs nothing", support.async(function()
    local result = decide({ state = "healthy", findings = {} })
    assert.are.equal(0, result.cost_usd)
    assert.are.same({ input = 0, output = 0, cache_read = 0, cache_write = 0 }, result.usage)
    assert.are.equal("rules", result.client)
    assert.are.equal("rules", result.model)
  end))
end)
