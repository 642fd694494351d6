-- Budgets, as their user sees them: the real binary, a model on loopback that reports usage, and
-- watchers that would ask it all the time.

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local beamlens = require("support.beamlens")
local support = require("support")
local tree = require("support.tree")

-- Each sample worsens what a rule finds, so that a finding woke each cycle; but only while the file
-- `surge` is there.
local DOMAIN = [[
local begun = os.time()
return {
  name = "level", target = "none", title = "Level",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function() return { level = 1 } end,
  callbacks = {},
  rules = { { type = "surge", severity = "info", hold = "0s", when = function()
    local file = io.open("%s/surge")
    if file then
      file:close()
      return { value = 2 ^ (1 + os.time() - begun) }
    end
  end } },
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
    list[i] = ('{ name = "w%d", domain = "level", sample = "1s", %s '
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

-- A model that always waits, and the files of a host that asks it, woken by findings or `is_calm`.
local function setup(opts)
  stay_in_one_window(120)
  local server = anthropic_server.start({ on_request = function()
    return { tool = "wait", input = { reason = "calm", ms = 1000 }, usage = USAGE,
      delay_ms = opts.delay_ms }
  end })
  support.on_cleanup(function()
    server:stop()
  end)
  local root = tree.make({
    ["domains/level.lua"] = "",
    ["watchers/w.lua"] = watchers_text(opts.watchers, opts.policy),
    ["clients.lua"] = registry_text(server, opts.limits),
  })
  support.write_file(root .. "/domains/level.lua", DOMAIN:format(root))
  if opts.is_calm then
    return server, root
  end
  support.write_file(root .. "/surge", "")
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
      local server, root = setup({ watchers = 50, limits = "usd_per_day = 0.01", delay_ms = 1000 })
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

  it("keeps 40 % for what findings wake, across restarts, and is then spent to its end",
    support.async(function()
      local server, root = setup({ watchers = 4, limits = "usd_per_day = 0.02", is_calm = true })
      local args = { "--store", root .. "/state/beamlens.db" }
      local b = start(root, args)
      local told = b:wait_for("watcher.budget_reserved", nil, 30000)
      assert.are.equal("process", told.metadata.account)
      assert.are.equal(0.02, told.metadata.limit)
      one_more_round(b, 4)
      local asked = #server.requests
      assert.is_true(asked * ONE_USD <= 0.6 * 0.02 + ONE_USD, asked)
      assert.are.equal(1, #b:all("beamlens.watcher.budget_reserved"))
      stop(b)

      b = start(root, args)
      one_more_round(b, 4)
      assert.are.equal(asked, #server.requests)
      assert.are.equal(0, #b:all("beamlens.watcher.budget_reserved"))
      support.write_file(root .. "/surge", "")
      support.wait_until(function()
        return #server.requests > asked
      end, 30000, "a request that a finding woke")
      b:kill("sigkill")
      b:wait_exit()
      os.remove(root .. "/surge")

      b = start(root, args)
      one_more_round(b, 4)
      assert.are.equal(0, #b:all("beamlens.llm.start", function(event)
        return event.metadata.provider ~= "rules"
      end))
      support.write_file(root .. "/surge", "")
      b:wait_for("watcher.budget_exhausted", nil, 30000)
      one_more_round(b, 4)
      assert.is_true(#server.requests * ONE_USD <= 0.02 + ONE_USD, #server.requests)
      assert.is_true(#server.requests >= asked + 1)
      assert.are.equal(0, #b:all("beamlens.watcher.budget_reserved"))
      assert.are.equal(0, #b:all("beamlens.watcher.llm_error"))
      stop(b)
    end, 180))

  it("of a watcher stops that one alone", support.async(function()
    local server, root = setup({ watchers = 2 })
    support.write_file(root .. "/watchers/w.lua", [[return {
      { name = "free", domain = "level", sample = "1s", wait = { min = "1s", max = "2s" } },
      { name = "poor", domain = "level", sample = "1s", wait = { min = "1s", max = "2s" },
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

  it("is not refilled by a restart, nor by a crash", support.async(function()
    local server, root = setup({ watchers = 4, limits = "usd_per_day = 0.02" })
    local args = { "--store", root .. "/state/beamlens.db" }
    local b = start(root, args)
    support.wait_until(function()
      return #server.requests >= 3
    end, 20000, "three requests")
    stop(b)
    local before = #server.requests
    assert.is_true(before < 8, before)

    b = start(root, args)
    support.wait_until(function()
      return #server.requests >= before + 1 and #b:all("beamlens.llm.stop") >= 1
    end, 20000, "a request after the restart")
    b:kill("sigkill")
    b:wait_exit()

    b = start(root, args)
    b:wait_for("watcher.budget_exhausted", nil, 30000)
    one_more_round(b, 4)
    local asked = #server.requests
    assert.is_true(asked * ONE_USD <= 0.02 + ONE_USD, asked)
    stop(b)

    b = start(root, args)
    one_more_round(b, 4)
    assert.are.equal(asked, #server.requests)
    assert.are.equal(0, #b:all("beamlens.watcher.budget_exhausted"))
    stop(b)
  end, 180))

  it("holds across a restart with fifty watchers at once", support.async(function()
    local server, root = setup({ watchers = 50, limits = "usd_per_day = 0.01", delay_ms = 1000 })
    local args = { "--store", root .. "/state/beamlens.db" }
    for _ = 1, 2 do
      local b = start(root, args)
      one_more_round(b, 50)
      one_more_round(b, 50)
      stop(b)
      assert.is_true(#server.requests * ONE_USD <= 0.01 + ONE_USD, #server.requests)
    end
    assert.is_true(#server.requests * ONE_USD > 0.01 - 2 * ONE_USD, #server.requests)
  end, 180))
end)

describe("the store of a running host", function()
  it("has one owner: a second host exits 2 and names the first", support.async(function()
    local _, root = setup({ watchers = 1 })
    local path = root .. "/state/beamlens.db"
    local b = start(root, { "--store", path })
    b:wait_for("watcher.started")
    local status, _, stderr = beamlens.run({ "run", root .. "/watchers/w.lua", "--store", path })
    assert.are.equal(2, status)
    assert.is_truthy(stderr:find(("beamlens: the store %s belongs to a running beamlens, pid %d: ")
      :format(path, b.pid), 1, true), stderr)
    stop(b)
  end))

  it("is found in the environment, and none is made with none", support.async(function()
    local _, root = setup({ watchers = 1 })
    for variable, path in pairs({ XDG_STATE_HOME = "/x/beamlens", STATE_DIRECTORY = "/s",
      HOME = "/h/.local/state/beamlens" }) do
      local folder = path:match("^/%a")
      local b = start(root, {}, { "BEAMLENS_STORE=", ("%s=%s%s"):format(variable, root, folder) })
      b:wait_for("watcher.started")
      assert.is_table(require("luv").fs_stat(root .. path .. "/beamlens.db"))
      stop(b)
    end
    local b = start(root, { "--store", "none" }, { "BEAMLENS_STORE=", "HOME=" .. root .. "/n" })
    b:wait_for("watcher.started")
    assert.is_nil((require("luv").fs_stat(root .. "/n")))
    stop(b)
  end, 60))

  it("may be broken, held by another program or impossible: said once, and watching goes on",
    support.async(function()
      local server, root = setup({ watchers = 4, limits = "usd_per_day = 0.01" })
      support.write_file(root .. "/broken.db", ("this is no database\n"):rep(100))
      support.write_file(root .. "/file", "")
      local held = require("runtime.store").open({ path = root .. "/held.db" })
      support.on_cleanup(function()
        held:close()
      end)
      assert(held:query("PRAGMA locking_mode = EXCLUSIVE; CREATE TABLE spending (n INTEGER)"))
      -- The lock of the owner is not what is tried here.
      os.rename(root .. "/held.db.lock", root .. "/other.lock")
      for path, what in pairs({ ["/broken.db"] = "file is not a database; it is set aside as "
        .. root .. "/broken.db.corrupt-", ["/held.db"] = "database is locked",
        ["/file/s.db"] = "not a directory" }) do
        local before = #server.requests
        local b = start(root, { "--store", root .. path })
        b:wait_for("watcher.budget_exhausted", nil, 30000)
        assert.is_true((#server.requests - before) * ONE_USD <= 0.01 + ONE_USD)
        assert.are.equal(1, #b:all("beamlens.store.failed"))
        b:kill("sigterm")
        assert.are.equal(0, b:wait_exit())
        local told = b:stderr()
        assert.is_truthy(told:find("the store " .. root .. path, 1, true), told)
        assert.is_truthy(told:find(what, 1, true), told)
      end
    end, 120))
end)
