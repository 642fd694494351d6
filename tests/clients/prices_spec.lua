local beamlens = require("support.beamlens")
local clients = require("runtime.clients")
local prices = require("runtime.clients.prices")
local support = require("support")

local function load_text(text)
  local path = support.write_file(support.tmp_path("prices.lua"), text)
  local table, err = prices.load(path)
  os.remove(path)
  return table, err and err:gsub(path:gsub("%W", "%%%0"), "FILE")
end

describe("the built-in price list", function()
  it("has each model under every name that a provider gives it", function()
    for plain, names in pairs({
      ["claude-haiku-4-5"] = { "claude-haiku-4-5-20251001", "anthropic/claude-haiku-4.5",
        "claude-haiku-4-5@20251001", "global.anthropic.claude-haiku-4-5-20251001-v1:0",
        "arn:aws:bedrock:us-east-1:1:inference-profile/global.anthropic.claude-haiku-4-5-v1" },
      ["claude-3-haiku"] = { "eu.anthropic.claude-3-haiku-20240307-v1:0",
        "anthropic.claude-3-haiku-20240307-v1:0" },
      ["claude-opus-4-6"] = { "global.anthropic.claude-opus-4-6-v1", "anthropic/claude-opus-4.6" },
      ["claude-opus-4"] = { "claude-opus-4-0", "claude-opus-4-20250514" },
      ["gpt-5-mini"] = { "gpt-5-mini-2025-08-07", "openai/gpt-5-mini" },
      ["gpt-4o-mini"] = { "gpt-4o-mini-2024-07-18" },
      ["gemini-2.5-flash"] = { "models/gemini-2.5-flash", "google/gemini-2.5-flash",
        "publishers/google/models/gemini-2.5-flash" },
      ["gemini-2.0-flash"] = { "gemini-2.0-flash-001" },
      ["nova-lite"] = { "amazon.nova-lite-v1:0", "eu.amazon.nova-lite-v1:0" },
    }) do
      local price = assert(prices.of(plain), plain)
      for _, name in ipairs(names) do
        assert.are.equal(price, prices.of(name), name)
      end
    end
  end)

  it("has the dearer prices of Bedrock's regions since Claude 4.5", function()
    local plain = prices.of("claude-haiku-4-5")
    for _, place in ipairs({ "", "us.", "eu.", "apac.", "jp.", "us-gov.",
      "arn:aws-us-gov:bedrock:us-gov-west-1:1:inference-profile/us-gov." }) do
      local price = prices.of(place .. "anthropic.claude-haiku-4-5-20251001-v1:0")
      for field, usd in pairs(plain) do
        if field ~= "regional" then
          assert.is_true(math.abs(price[field] - 1.1 * usd) < 1e-9, field)
        end
      end
    end
    local long = prices.of("eu.anthropic.claude-haiku-5-5").long
    assert.is_true(math.abs(long.output - 2.75) < 1e-9)
    assert.are.equal(100000, long.over)
  end)

  it("has the default model, and no model of which it says nothing", function()
    assert.are.same({ 1, 5, 0.1, 1.25, 2 }, (function(p)
      return { p.input, p.output, p.cache_read, p.cache_write, p.cache_write_1h }
    end)(prices.of("claude-haiku-4-5-20251001")))
    for _, name in ipairs({ "my-deployment", "prod-gpt4", "application-inference-profile/a1b2c3",
      "arn:aws:bedrock:us-east-1:1:application-inference-profile/a1b2c3d4e5f6" }) do
      assert.is_nil(prices.of(name), name)
    end
  end)

  it("does not guess the price of a model that only resembles one", function()
    for _, name in ipairs({ "claude-haiku-4-5-turbo", "gpt-99", "gpt-4o-mini-audio", "qwen3",
      "deepseek/deepseek-chat:free", "" }) do
      assert.is_nil(prices.of(name), name)
    end
  end)

  it("passes the check of a user's table", function()
    assert.are.same({}, prices.check(require("runtime.clients.price_list"), "", "list"))
  end)
end)

describe("a cost", function()
  local haiku = prices.of("claude-haiku-4-5")

  it("counts input, output, and reads and writes of the cache, each at its price", function()
    assert.are.equal(1, prices.cost_usd(haiku, { input = 1e6, output = 0 }))
    assert.are.equal(5, prices.cost_usd(haiku, { input = 0, output = 1e6 }))
    assert.are.equal(0.1, prices.cost_usd(haiku, { input = 0, output = 0, cache_read = 1e6 }))
    assert.are.equal(1.25, prices.cost_usd(haiku, { input = 0, output = 0, cache_write = 1e6 }))
  end)

  it("counts what is cached for an hour at its own price", function()
    assert.are.equal(2, prices.cost_usd(haiku, { input = 0, output = 0, cache_write = 1e6,
      cache_write_1h = 1e6 }))
    assert.are.equal(1.625, prices.cost_usd(haiku, { input = 0, output = 0, cache_write = 1e6,
      cache_write_1h = 5e5 }))
    assert.are.equal(3, prices.cost_usd({ input = 1, output = 1, cache_write = 3 },
      { input = 0, output = 0, cache_write = 1e6, cache_write_1h = 1e6 }))
  end)

  it("has the prices of a long prompt for all of it", function()
    local price = { input = 1, output = 10, long = { over = 1000, input = 2, output = 20 } }
    assert.are.equal((1000 + 10) / 1e6, prices.cost_usd(price, { input = 1000, output = 1 }))
    assert.are.equal((2002 + 20) / 1e6, prices.cost_usd(price, { input = 1, output = 1,
      cache_read = 1000 }))
  end)

  it("is what the provider says, where it says it", function()
    assert.are.equal(0.5, prices.cost_usd(haiku, { input = 1, output = 1, cost_usd = 0.5 }))
    assert.are.equal(0, prices.cost_usd(nil, { cost_usd = 0 }))
  end)

  it("has reasoning in the output, once", function()
    assert.are.equal(5, prices.cost_usd(haiku, { input = 0, output = 1e6, reasoning = 9e5 }))
  end)

  it("is unknown without a price or without usage", function()
    assert.is_nil(prices.cost_usd(nil, { input = 1, output = 1 }))
    assert.is_nil(prices.cost_usd(nil, {}))
    assert.is_nil(prices.cost_usd(haiku, { output = 1 }))
    assert.is_nil(prices.tokens({}))
    assert.are.equal(10, prices.tokens({ input = 1, output = 2, cache_read = 3, cache_write = 4 }))
  end)
end)

describe("a user's price table", function()
  it("wins over the built-in list, which still holds for the others", function()
    local own = assert(load_text([[return {
  ["my-model"] = { input = 2, output = 3 },
  ["claude-haiku-4-5"] = { input = 7, output = 8, cache_read = 0 },
}]]))
    assert.are.equal(2, prices.of("my-model", own).input)
    assert.are.equal(7, prices.of("claude-haiku-4-5-20251001", own).input)
    assert.are.equal(3, prices.of("claude-sonnet-4-5", own).input)
    local registry = assert(clients.new({ prices = own, env = function() end, config = {
      clients = { { name = "A", provider = "openai-generic",
        options = { base_url = "http://127.0.0.1:1/v1", model = "my-model" } } },
    } }))
    assert.are.equal(3, registry.clients.A.price.output)
  end)

  it("has its mistakes by line", function()
    local _, err = load_text([[return {
  good = { input = 2, output = 3 },
  bare = { input = 2 },
  ["gpt-5"] = { input = 2, output = 3, cached = 1 },
  ["o3"] = { input = -1, output = 3 },
  ["text"] = "cheap",
  ["tall"] = { input = 1, output = 1, long = { input = 2, output = 2 } },
}]])
    assert.are.equal(table.concat({
      'FILE:3: model "bare": needs input and output',
      'FILE:4: model "gpt-5": unknown field "cached"; '
        .. "allowed: cache_read, cache_write, cache_write_1h, input, long, output, regional",
      'FILE:5: model "o3": input must be a number of USD per million tokens',
      'FILE:6: model "text": must be { input, output, cache_read?, cache_write? } in USD per '
        .. 'million tokens',
      'FILE:7: model "tall": long: needs over, the tokens from which it counts',
    }, "\n"), err)
    assert.are.equal("FILE:1: a price table is a table of model name and price",
      select(2, load_text("return 7")))
    assert.matches("^FILE:2: ", select(2, load_text("return {\n  x = = 1\n}")))
  end)

  it("has all mistakes of a model, each on its field's line", function()
    local _, err = load_text([[return {
  odd = {
    input = "1",
    cached = 1,
    long = {
      input = 2,
      over = -1,
    },
  },
}]])
    assert.are.equal(table.concat({
      'FILE:2: model "odd": needs input and output',
      'FILE:3: model "odd": input must be a number of USD per million tokens',
      'FILE:4: model "odd": unknown field "cached"; '
        .. "allowed: cache_read, cache_write, cache_write_1h, input, long, output, regional",
      'FILE:5: model "odd": long: needs input and output',
      'FILE:7: model "odd": long: over must be a number of USD per million tokens',
    }, "\n"), err)
    assert.are.equal("cache_read must be a number of USD per million tokens; "
      .. "needs input and output", prices.problem_of({ input = 1, cache_read = "x" }))
  end)

  it("is what a limit in USD needs: a model without a price is warned of", support.async(function()
    local tree = require("support.tree")
    local root = tree.make({
      ["watchers/w.lua"] = 'return {\n  domain = "beam",\n  node = "a@h",\n'
        .. "  limits = { usd_per_day = 1 },\n}\n",
      ["clients.lua"] = [[return { primary = "F", clients = {
        { name = "F", provider = "fallback", options = { strategy = { "A", "B", "C" } } },
        { name = "A", provider = "openai-generic",
          options = { base_url = "http://127.0.0.1:1/v1", model = "unheard-of" } },
        { name = "B", provider = "anthropic", options = { model = "claude-haiku-4-5" } },
        { name = "C", provider = "ollama", options = { model = "qwen3" } },
      } }]],
    })
    local file = root .. "/watchers/w.lua"
    local _, _, stderr = beamlens.run({ "check", file })
    assert.are.equal(("beamlens: %s:4: unheard-of is not asked: no price is known, so usd_per_day "
      .. "cannot be kept; set tokens_per_hour as well, or a price (price of the client, or "
      .. "prices.lua)\n"):format(file), stderr)
    support.write_file(file, 'return {\n  domain = "beam",\n  node = "a@h",\n'
      .. "  limits = { usd_per_day = 1, tokens_per_hour = 1000 },\n}\n")
    _, _, stderr = beamlens.run({ "check", file })
    assert.are.equal(("beamlens: %s:4: usd_per_day does not count unheard-of: no price is known, "
      .. "so only tokens_per_hour does (price of the client, or prices.lua)\n"):format(file),
      stderr)
    support.write_file(root .. "/prices.lua",
      'return { ["unheard-of"] = { input = 1, output = 2 } }')
    assert.are.equal("", select(3, beamlens.run({ "check", file })))
  end))

  it("loads as docs/money.md shows it", function()
    local page = assert(require("runtime.loader").read("docs/money.md"))
    local own = assert(load_text(assert(page:match("```lua\n(.-)\n```"))))
    assert.are.equal(0.9, prices.of("claude-haiku-4-5", own).input)
    assert.are.equal(0.2, prices.of("our-own-qwen", own).output)
  end)

  it("is checked by `beamlens check`, and by a command that uses the registry beside it",
    support.async(function()
      local folder = support.tmp_path("priced")
      require("luv").fs_mkdir(folder, 493)
      local file = support.write_file(folder .. "/prices.lua",
        "return {\n  a = { input = 1 },\n}\n")
      local clients_file = support.write_file(folder .. "/clients.lua", [[return { clients = {
        { name = "A", provider = "ollama", options = { model = "a" } } } }]])
      local watcher = support.write_file(folder .. "/w.lua", 'return { domain = "beam" }\n')
      support.on_cleanup(function()
        for _, path in ipairs({ file, clients_file, watcher }) do
          os.remove(path)
        end
        require("luv").fs_rmdir(folder)
      end)
      local mistake = file .. ':2: model "a": needs input and output'
      local status, _, stderr = beamlens.run({ "check", file })
      assert.are.equal(2, status)
      assert.are.equal(mistake .. "\n", stderr)
      status, _, stderr = beamlens.run({ "run", watcher, "--node", "a@localhost", "--clients",
        clients_file })
      assert.are.equal(2, status)
      assert.are.equal("beamlens: " .. mistake .. "\n", stderr)
      support.write_file(file, "return { a = { input = 1, output = 2 } }\n")
      assert.are.equal(0, (beamlens.run({ "check", file })))
    end))
end)
