local lives = require("support.lives")

local RULES = dofile("domains/ets.lua").rules

local function row(id, memory_kb, changes)
  local made = { id = id, name = id, subject = id, named = true, owner = "<0.90.0>",
    owner_name = "shop_sup", type = "set", protection = "public", size = memory_kb * 4,
    memory_kb = memory_kb, compressed = false }
  for key, value in pairs(changes or {}) do
    made[key] = value
  end
  return made
end

-- A node whose table `orders` has memory_kb(t), and whose other figures stand still.
local function life(seconds, memory_kb, opts)
  opts = opts or {}
  return {
    seconds = seconds,
    sweep_every = opts.sweep_every,
    data = function(t)
      local data = {
        table_count = 60, total_memory_mb = memory_kb(t) / 1024, memory_rss_mb = 400,
        memory_limit_mb = 8192, memory_code_mb = 20, process_count = 500, port_count = 40,
        memory_total_mb = 300,
      }
      for key, value in pairs(opts.data and opts.data(t) or {}) do
        data[key] = value
      end
      return data
    end,
    pass = function(t)
      local orders = row("orders", math.floor(memory_kb(t)), opts.row)
      local groups, total = opts.groups and opts.groups(t) or {}, 0
      for _, group in ipairs(groups) do
        total = total + group.count
      end
      return { tables = {
        rows = { orders = orders, still = row("still", 90000) }, total = total, skipped = 0,
        top = { memory = { "orders", "still" }, size = { "orders", "still" } }, groups = groups,
        tracked = { "memory_kb", "size" },
      } }
    end,
  }
end

local function run(type_name, made)
  return lives.live(lives.rule(RULES, type_name), made, { "tables" })
end

local function per_hour(mb_per_hour)
  return function(t)
    return 30 * 1024 + mb_per_hour * 1024 * t / 3600
  end
end

describe("ets_growth", function()
  it("finds a table that grows to the memory limit, with its rate and the time left", function()
    local found = run("ets_growth", life(2400, per_hour(1000)))
    assert.equal(0, #found[1700])
    local finding = found[2400][1]
    assert.equal(1, #found[2400])
    assert.equal("orders", finding.subject)
    assert.equal("warning", finding.severity)
    assert.is_true(math.abs(finding.per_s - 1000 * 1024 / 3600) < 5, finding.per_s)
    assert.is_true(math.abs(finding.eta_s - (8192 - 400) / 1000 * 3600) < 600, finding.eta_s)
    assert.matches("^orders %(.* objects, owner shop_sup <0.90.0>%): .* 30 m before; memory limit "
      .. "in about 8 h$", finding.summary)
    assert.equal("memory_kb", finding.figures[1].name)
  end)

  it("is critical within the hour, and needs five minutes only when ten are left", function()
    assert.equal("critical", run("ets_growth", life(2400, per_hour(9000)))[2400][1].severity)
    local fast = run("ets_growth", life(600, per_hour(60000)))
    assert.is_true(#fast[400] == 1)
    assert.equal("critical", fast[400][1].severity)
    assert.equal(0, lives.count(run("ets_growth", life(600, per_hour(9000)))))
  end)

  it("sees it by the sparse passes of a large node, too", function()
    assert.equal("orders",
      run("ets_growth", life(2700, per_hour(1000), { sweep_every = 60 }))[2700][1].subject)
  end)

  it("names an unnamed table after its owner", function()
    local found = run("ets_growth", life(2400, per_hour(1000),
      { row = { subject = "cache of shop_sup", named = false } }))
    assert.equal("cache of shop_sup", found[2400][1].subject)
  end)

  it("lets the healthy be: a jump, a warm-up, a plateau, a sawtooth, a slow one", function()
    local healthy = {
      jump = function(t) return t < 1000 and 30000 or 800000 end,
      warm_up = function(t) return 30000 + 900000 * (1 - math.exp(-t / 400)) end,
      plateau = function() return 4000000 end,
      sawtooth = function(t) return 30000 + (t % 900) * 1000 end,
      slow = per_hour(100), -- more than three days to go
      small = function(t) return 100 + t end,
    }
    for name, memory_kb in pairs(healthy) do
      assert.equal(0, lives.count(run("ets_growth", life(4200, memory_kb))), name)
    end
  end)

  it("is silent while load grows alike, in a node's first minutes, and after a deploy", function()
    assert.equal(0, lives.count(run("ets_growth", life(2400, per_hour(1000), {
      data = function(t) return { port_count = 40 + t / 4, process_count = 500 + t } end }))))
    assert.equal(0, lives.count(run("ets_growth", life(800, per_hour(60000), {
      data = function(t) return { uptime_s = t } end }))))
    assert.equal(0, lives.count(run("ets_growth", life(2200, per_hour(1000), {
      data = function(t) return { memory_code_mb = t < 1650 and 20 or 25 } end }))))
  end)

  it("ends when the table does not grow any more", function()
    local found = run("ets_growth", life(4200, function(t)
      return per_hour(1000)(math.min(t, 2400))
    end))
    assert.equal(1, #found[2400])
    assert.equal(0, #found[3600])
  end)
end)

describe("ets_table_count", function()
  local function counted(seconds, count)
    return run("ets_table_count", life(seconds, function() return 100 end, {
      data = function(t) return { table_count = math.floor(count(t)) } end,
      groups = function(t)
        return { { name = "session_cache", count = math.floor(count(t)) - 50 },
          { name = "code", count = 50 } }
      end,
    }))
  end

  it("knows two names that become more, and when one of them ends", function()
    local function carts(t)
      return math.min(t, 2700)
    end
    local found = run("ets_table_count", life(4500, function() return 100 end, {
      data = function(t) return { table_count = 50 + carts(t) + t } end,
      groups = function(t)
        return { { name = "session_cache", count = t }, { name = "cart", count = carts(t) },
          { name = "code", count = 50 } }
      end,
    }))
    local function subjects(list)
      local names = {}
      for i, finding in ipairs(list) do
        names[i] = finding.subject
      end
      table.sort(names)
      return table.concat(names, ", ")
    end
    assert.equal("cart, session_cache", subjects(found[2700]))
    assert.equal("session_cache", subjects(found[3300]))
    assert.equal("session_cache", subjects(found[4500]))
  end)

  it("ends some time after the last one was made, or at once when they are gone", function()
    local found = counted(4200, function(t) return 100 + math.min(t, 2400) end)
    assert.equal(1, #found[2400])
    assert.equal(0, #found[3600])
    found = counted(2600, function(t) return t < 2400 and 100 + t or 100 end)
    assert.equal(1, #found[2390])
    assert.equal(0, #found[2410])
  end)

  it("finds tables that become more and more, and names whose", function()
    local found = counted(2400, function(t) return 100 + t end)
    assert.equal(0, #found[1700])
    local finding = found[2400][1]
    assert.equal("session_cache", finding.subject)
    assert.is_true(math.abs(finding.per_s - 1) < 0.01)
    assert.matches("^2 500 tables, 700 30 m before; 2 450 of them are called session_cache$",
      finding.summary)
  end)

  it("lets a jump and a plateau above the former limit be", function()
    assert.equal(0, lives.count(counted(4200, function(t) return t < 1000 and 100 or 2000 end)))
    assert.equal(0, lives.count(counted(4200, function() return 20000 end)))
  end)
end)
