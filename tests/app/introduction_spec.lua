local clients = require("runtime.clients")
local introduction = require("runtime.app.introduction")

local KEYED = { anthropic = "claude-haiku-4-5" }

local function line(limits, all, provider, model)
  local registry = assert(clients.new({ env = function() end, config = {
    clients = { { name = "Main", provider = provider or "anthropic",
      options = { model = model or KEYED.anthropic, base_url = "http://127.0.0.1:1" } } },
    limits = all,
  } }))
  local policy = { name = "beam", node = "a@h", domain = "beam", sample_ms = 10000,
    limits = limits, origin = {} }
  return introduction.lines({ { policy = policy, registry = registry } })[1]
end

describe("the first lines of run", function()
  it("say what a watcher may cost at worst, in money", function()
    local start = "watcher beam on a@h: domain beam, sampled every 10 s, client Main"
    assert.are.equal(start .. ", no budget", line({}))
    assert.are.equal(start .. ", at most 1.50 USD a day", line({ usd_per_day = 1.5 }))
    assert.are.equal(start .. ", at most 200 000 tokens an hour (24.00 USD a day at worst)",
      line({ tokens_per_hour = 200000 }))
    assert.are.equal(start .. ", at most 200 000 tokens an hour and 1.00 USD a day"
      .. ", all together at most 5.00 USD a day",
      line({ tokens_per_hour = 200000, usd_per_day = 1 }, { usd_per_day = 5 }))
  end)

  it("claim no worst case where no price is known, and no budget where nothing costs", function()
    assert.matches("at most 200 000 tokens an hour$",
      line({ tokens_per_hour = 200000 }, nil, "openai-generic", "unheard-of"))
    assert.matches("client Main$", line({}, nil, "ollama", "qwen3"))
  end)
end)
