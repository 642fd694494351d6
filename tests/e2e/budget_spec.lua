-- Budgets, as their user sees them: the real binary, a model on loopback that reports usage, and
-- watchers that would ask it all the time.

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local beamlens = require("support.beamlens")
local support = require("support")
local tree = require("support.tree")

local DOMAIN = [[
return {
  name = "calm", target = "none", title = "Calm",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function() return { level = 1 } end,
  callbacks = {}, rules = {},
}
]]

-- What an answer costs with a model of 1 and 5 USD per million tokens.
local USAGE = { input_tokens = 2000, output_tokens = 100, cache_read_input_tokens = 0,
  cache_creation_input_tokens = 0 }
local ONE_USD = 0.0025

local function registry_text(server, limits)
  return ([[return {
    clients = { { name = "Main", provider = "anthropic", options = {
      model = "claude-haiku-4-5-20251001", base_url = "%s", api_key = "sk-spec-key" } } },
    limits = { %s },
  }]]):format(server.url, limits or "")
end

local function watchers_text(count, more)
  local list = {}
  for i = 1, count do
    list[i] = ('{ name = "w%d", domain = "calm", sample = "1s", %s '
      .. 'wait = { min = "1s", max = "2s" } }'):format(i, more or "")
  end
  return "return {\n" .. table.concat(list, ",\n") .. "\n}\n"
end

-- A budget refills at a full hour: a case that would run across it begins after it.
local function stay_in_one_window(seconds)
  local left = 3600 - os.time() % 3600
  if left < seconds then
    async.sleep(left * 1000 + 500)
  end
end

-- A model that always waits, and the files of a host that asks it.
local function setup(opts)
  stay_in_one_window(60)
  local server = anthropic_server.start({ on_request = function()
    return { tool = "wait", input = { reason = "calm", ms = 1000 }, usage = USAGE,
      delay_ms = opts.delay_ms }
  end })
  support.on_cleanup(function()
    server:stop()
  end)
  local root = tree.make({
    ["domains/calm.lua"] = DOMAIN,
    ["watchers/w.lua"] = watchers_text(opts.watchers, opts.policy),
    ["clients.lua"] = registry_text(server, opts.limits),
  })
  return server, root
end

local function start(root, args, env)
  local all = { "run", root .. "/watchers/w.lua", "--log", "json" }
  for _, argument in ipairs(args or {}) do
    all[#all + 1] = argument
  end
  return beamlens.start(all, { cwd = root, env = env })
end

-- Waits until each watcher has waited once more, whoever decided it.
local function one_more_round(b, watchers)
  local before = #b:all("beamlens.watcher.wait")
  support.wait_until(function()
    local again, count = {}, 0
    for i, event in ipairs(b:all("beamlens.watcher.wait")) do
      if i > before and not again[event.metadata.watcher] then
        again[event.metadata.watcher] = true
        count = count + 1
      end
    end
    return count == watchers
  end, 30000, "another round of all watchers")
end

local function stop(b)
  b:kill("sigterm")
  assert.are.equal(0, b:wait_exit())
  assert.are.equal("", b:stderr())
end

describe("a budget", function()
  it("of a process stops fifty watchers within one call's cost, and the rules go on",
    support.async(function()
      local server, root = setup({ watchers = 50, limits = "usd_per_day = 0.01", delay_ms = 20 })
      local b = start(root)
      local told = b:wait_for("watcher.budget_exhausted", nil, 30000)
      assert.are.equal("process", told.metadata.account)
      assert.are.equal("usd_per_day", told.metadata.budget)
      assert.are.equal(0.01, told.metadata.limit)
      assert.are.equal(0, told.measurements.until_time % 86400000)
      local asked = #server.requests
      local spent = asked * ONE_USD
      assert.is_true(spent <= 0.01 + ONE_USD, asked)
      assert.is_true(spent > 0.01 - 2 * ONE_USD, asked)
      assert.is_true(math.abs(told.metadata.used - spent) < 1e-9)
      one_more_round(b, 50)
      assert.are.equal(asked, #server.requests)
      assert.are.equal(1, #b:all("beamlens.watcher.budget_exhausted"))
      assert.are.equal(0, #b:all("beamlens.watcher.llm_error"))
      stop(b)
    end, 130))

  it("of a watcher stops that one alone", support.async(function()
    local server, root = setup({ watchers = 2 })
    support.write_file(root .. "/watchers/w.lua", [[return {
      { name = "free", domain = "calm", sample = "1s", wait = { min = "1s", max = "2s" } },
      { name = "poor", domain = "calm", sample = "1s", wait = { min = "1s", max = "2s" },
        limits = { tokens_per_hour = 9000 } },
    }]])
    local b = start(root)
    local told = b:wait_for("watcher.budget_exhausted", nil, 30000)
    assert.are.equal("poor", told.metadata.watcher)
    assert.are.equal("tokens_per_hour", told.metadata.budget)
    assert.is_true(told.metadata.used <= 9000 + 2100)
    local asked = #server.requests
    support.wait_until(function()
      return #server.requests >= asked + 2
    end, 20000, "the other watcher's requests")
    local poor = b:all("beamlens.llm.start", function(event)
      return event.metadata.watcher == "poor" and event.metadata.provider ~= "rules"
    end)
    assert.are.equal(told.metadata.used / 2100, #poor)
    stop(b)
  end, 130))
end)
