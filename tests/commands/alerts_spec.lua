-- beamlens alerts, over a store that a host has written.

local alerts = require("runtime.alerts")
local beamlens = require("support.beamlens")
local clock = require("runtime.clock")
local json = require("runtime.json")
local keeper = require("runtime.store.keeper")
local schema = require("runtime.store.schema")
local state_store = require("runtime.state_store")
local store = require("runtime.store")
local support = require("support")
local tap = require("support.tap")
local telemetry = require("runtime.telemetry")
local tree = require("support.tree")

local HOUR_MS = 3600000

-- Writes alerts to a store: the first fired 10 h ago, each 4 h later. Returns the store's path, and
-- the alerts.
local function written(list)
  local path, bus = tree.make({}) .. "/s.db", telemetry.new()
  local moved, made = clock.manual(os.time() * 1000 - 10 * HOUR_MS), {}
  local all = alerts.new({ telemetry = bus, clock = moved })
  local state = state_store.new({ alerts = all, telemetry = bus, clock = moved })
  local kept = keeper.new({ path = path, parts = { state }, clock = clock.system(),
    telemetry = bus, warn = error })
  assert(kept:open())
  kept:start()
  for i, item in ipairs(list) do
    local resolve = item.resolve
    item.resolve = nil
    item.watcher, item.domain, item.node = "shop", "beam", "shop@db1"
    item.type, item.severity, item.source = "mailbox_growth", "warning", "rule"
    made[i] = all:fire(item)
    if resolve then
      made[i] = all:resolve(made[i].id, "rule")
    end
    moved.advance(4 * HOUR_MS)
  end
  kept:flush(30000)
  state:close()
  kept:close()
  return path, made
end

local function run(path, ...)
  return beamlens.run({ "alerts", "--store", path, ... })
end

local function lines(text)
  return select(2, text:gsub("[^\n]+", ""))
end

describe("beamlens alerts", function()
  it("lists what fired, newest first, and chooses by time and status", support.async(function()
    local path, made = written({ { subject = "orders", resolve = true, title = "Orders\nwait" },
      { subject = "imports", title = "Imports wait" } })
    local status, out, err = run(path)
    assert.are.equal(0, status, err)
    assert.are.equal(2, lines(out))
    assert.matches("^" .. made[2].id .. " 20%d%d%-[^\n]+Z warning  firing   shop@db1 %[shop%] "
      .. "Imports wait\n" .. made[1].id .. "[^\n]+ resolved shop@db1 %[shop%] Orders wait$", out)
    assert.matches("^" .. made[2].id .. "[^\n]+$", select(2, run(path, "--firing")))
    assert.matches("^" .. made[2].id .. "[^\n]+$", select(2, run(path, "--since", "6h5m")))
    assert.are.equal("", (select(2, run(path, "--since", "1h"))))
    assert.are.equal(2, lines(select(2, run(path, "--since", "11h"))))
  end, 40))

  it("prints whole ones as JSON, one a line", support.async(function()
    local path, made = written({ { subject = "orders", snapshots = {
      { id = "s1", captured_at = 1, data = { n = 1.5 } } } }, { subject = "imports" } })
    local _, out = run(path, "--json")
    local first, second = out:match("^([^\n]+)\n([^\n]+)$")
    assert.are.same(made[2], json.decode(first))
    assert.are.same(made[1], json.decode(second))
    assert.are.same(made[1], json.decode((select(2, run(path, made[1].id, "--json")))))
  end, 40))

  it("shows one with its evidence, by the beginning of its id", support.async(function()
    local path, made = written({ { subject = "orders", summary = "orders: mailbox \27[31m39 818",
      figures = { { name = "message_queue", value = 39818, unit = "messages", before = 3 } },
      trend = { per_s = 18.5, eta_s = 360 }, findings = { { type = "mailbox_growth" } },
      snapshots = { { id = "s1", captured_at = 1.7e12, data = { process_count = 12345 } } },
      executions = { { id = "e1", code = "return 6 * 7", value = { answer = 42 } },
        { id = "e2", code = "return x", error = { kind = "runtime", message = "no x" } } },
      next = { "beamlens snapshot beam --node shop@db1" } } })
    local status, out = run(path, made[1].id:sub(1, 6):upper())
    assert.are.equal(0, status)
    for _, part in ipairs({ made[1].id .. " warning mailbox_growth: mailbox_growth: orders",
      "of shop@db1, watcher shop (beam), found by a rule\n", "orders: mailbox  [31m39 818",
      "message_queue: 39 818 messages (was 3)", "trend: +18.5/s, limit in about 6 m",
      "Snapshot s1 of 2023-11-14T22:13:20", "process_count 12 345", "> return 6 * 7",
      '{"answer":42}', "failed: no x", "beamlens snapshot beam --node shop@db1" }) do
      assert.is_truthy(out:find(part, 1, true), part .. " in " .. out)
    end
  end, 40))

  it("says what is missing or wrong", support.async(function()
    local many = {}
    for i = 1, 17 do -- two of them begin with the same digit
      many[i] = { subject = "s" .. i }
    end
    local path, made = written(many)
    local first, digit = {}, nil
    for _, alert in ipairs(made) do
      digit = first[alert.id:sub(1, 1)] and alert.id:sub(1, 1) or digit
      first[alert.id:sub(1, 1)] = true
    end
    local root = tree.make({ ["text.db"] = ("no store\n"):rep(100) })
    local function problem(expected, status, ...)
      local found, out, err = beamlens.run({ "alerts", ... })
      assert.are.equal("", out)
      assert.is_truthy(err:find(expected, 1, true), err)
      assert.are.equal(status, found)
    end
    problem(digit .. " begins more than one id: ", 1, digit, "--store", path)
    problem("no alert 0123456789abcdef; `beamlens alerts` lists", 1, "0123456789abcdef", "--store",
      path)
    problem('"orders" is no id of an alert', 1, "orders", "--store", path)
    problem("there is no store " .. root .. "/s.db: it is made by beamlens run", 1, "--store",
      root .. "/s.db")
    problem("`none` keeps alerts in the memory of the host alone", 1, "--store", "none")
    problem("file is not a database", 1, "--store", root .. "/text.db")
    problem("alerts takes one id", 2, "a", "b", "--store", path)
    problem("give them without an id", 2, "a", "--firing", "--store", path)
    problem("--since", 2, "--since", "soon", "--store", path)
    local old = assert(store.open({ path = root .. "/old.db" }))
    assert(old:query("CREATE TABLE spending (n INTEGER)"))
    old:close()
    local status, out = run(root .. "/old.db")
    assert.are.same({ 0, "" }, { status, out })
    assert.is_true(schema.VERSION >= 2)
  end, 60))

  it("reads the store of a running host", support.async(function()
    local t = tap.setup({})
    t.level(20)
    local b = t.start()
    local fired = b:wait_for("watcher.alert_fired", nil, 30000).metadata.alert
    local text = support.wait_until(function()
      local _, out = run(t.store, "--firing")
      return out ~= "" and out
    end, 30000, "the alert in the store")
    assert.are.equal(fired.id, text:match("^%x+"))
    assert.matches("Snapshot " .. fired.snapshots[1].id, (select(2, run(t.store, fired.id))))
    tap.stop(b)
    assert.matches("^" .. fired.id, (select(2, run(t.store))))
  end, 60))
end)
