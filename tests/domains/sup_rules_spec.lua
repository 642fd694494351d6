local beam = require("support.beam")
local detect = require("support.detect")
local history = require("runtime.history")
local node = require("support.node")
local rules = require("domains.sup.rules").rules
local support = require("support")

local RULES = {}
for _, rule in ipairs(rules) do
  RULES[rule.type] = rule
end

local DATA = {
  process_count = 2000, process_limit = 262144, port_count = 50, memory_code_mb = 20,
}

local function row(changes)
  local made = {
    pid = "<0.100.0>", name = "shop_sup", subject = "shop_sup", registered = true,
    module = "shop_sup", parent_kind = "application", parent_alive = true, application = "shop",
    children = 100, active = 100,
  }
  for key, value in pairs(changes or {}) do
    made[key] = value
  end
  return made
end

-- Runs a rule over a made-up life of a node: data(t) changes the data, found(t) is what the pass at
-- t seconds has (rows, gone). Returns the longest time for which it stood, and what it found when.
local function live(type_name, life)
  local h = history.new({ parts = { "supervisors" } })
  local rule, every = RULES[type_name], life.every or 10
  local since, longest, found = nil, -1, {}
  for t = 0, life.seconds, every do
    local data = {}
    for _, from in ipairs({ DATA, { uptime_s = 7200 + t, mono_ms = t * 1000 },
      life.data and life.data(t) or {} }) do
      for key, value in pairs(from) do
        data[key] = value
      end
    end
    local seen = life.found(t)
    local result = { mono_ms = t * 1000 - 500, rows = {}, gone = seen.gone or {}, skipped = 0,
      total = #seen, tracked = { "children" }, top = { children = {} } }
    for _, r in ipairs(seen) do
      result.rows[r.pid] = r
    end
    h:add({ id = "x", at_ms = t * 1000, mono_ms = t * 1000, data = data, took_ms = 1,
      sweep = { mono_ms = result.mono_ms, swept_at = t * 1000, supervisors = result } })
    local list = rule.when(h, { name = "n", uptime_s = data.uptime_s }, {}) or {}
    found[t] = list[1]
    if life.each then
      life.each(t, list)
    end
    since = list[1] and (since or t) or nil
    longest = math.max(longest, since and t - since or -1)
  end
  return longest, found
end

describe("child_growth", function()
  -- Children of one supervisor at t, and what else changes.
  local function growth(count, more)
    return live("child_growth", {
      seconds = 3600, every = 30,
      found = function(t)
        return { row({ children = math.floor(count(t)) }) }
      end,
      data = function(t)
        local data = more and more(t) or {}
        data.process_count = data.process_count or 2000 + math.floor(count(t))
        return data
      end,
    })
  end

  it("stands over children that are started and never end", function()
    local longest, found = growth(function(t)
      return 100 + 5 * t
    end)
    assert.is_true(longest >= 1500, longest)
    local finding = found[3600]
    assert.are.equal("shop_sup", finding.subject)
    assert.are.equal("<0.100.0>", finding.pid)
    assert.are.equal("warning", finding.severity)
    assert.is_true(math.abs(finding.per_s - 5) < 0.1)
    assert.matches("^shop_sup <0.100.0>: 18 100 children, 9 100 30 m before, and nothing else "
      .. "grows; the limit of 262 144 processes in about 13 h", finding.summary)
    assert.are.equal("critical", select(2, growth(function(t)
      return 100 + 50 * t
    end))[3600].severity)
  end)

  -- When each of the supervisors was found, first and last; `ends` is until when each leaks.
  local function stood(ends)
    local first, last = {}, {}
    local function leaked(t, end_s)
      return 100 + 5 * math.min(t, end_s)
    end
    live("child_growth", {
      seconds = 6000, every = 30,
      found = function(t)
        local rows = {}
        for name, end_s in pairs(ends) do
          rows[#rows + 1] = row({ pid = name, name = name, subject = name,
            children = leaked(t, end_s) })
        end
        return rows
      end,
      data = function(t)
        local count = 2000
        for _, end_s in pairs(ends) do
          count = count + leaked(t, end_s)
        end
        return { process_count = count }
      end,
      each = function(t, list)
        for _, finding in ipairs(list) do
          first[finding.subject], last[finding.subject] = first[finding.subject] or t, t
        end
      end,
    })
    return first, last
  end

  it("ends some time after the last child was started", function()
    local first, last = stood({ shop_sup = 3600 })
    assert.is_true(first.shop_sup < 1900 and last.shop_sup >= 3600 and last.shop_sup < 5000)
  end)

  it("takes two that grow alike for load, and finds the one that goes on alone", function()
    local first = stood({ shop_sup = 6000, cart_sup = 3000 })
    assert.is_nil(first.cart_sup)
    assert.is_true(first.shop_sup > 3600 and first.shop_sup < 5400, first.shop_sup)
  end)

  it("needs no half hour when less than ten minutes are left", function()
    local _, found = growth(function(t)
      return 100 + 500 * t
    end)
    assert.are.equal("critical", found[420].severity)
  end)

  it("leaves healthy growth alone", function()
    local function leak(t)
      return 100 + 5 * t
    end
    local cases = {
      ["sockets grow alike"] = { leak, function(t)
        return { port_count = 50 + 5 * t }
      end },
      ["other processes grow alike"] = { leak, function(t)
        return { process_count = 2000 + 10 * t }
      end },
      ["a pool that ramps up"] = { function(t)
        return math.min(20000, 100 + 20 * t)
      end },
      ["a jump"] = { function(t)
        return t < 900 and 100 or 20000
      end },
      ["a batch every ten minutes"] = { function(t)
        return 100 + (t % 600) * 20
      end },
      ["few children"] = { function(t)
        return 50 + t / 10
      end },
      ["a slow rise that the node has room for"] = { function(t)
        return 5000 + 0.7 * t
      end },
      ["just started"] = { leak, function(t)
        return { uptime_s = math.min(890, t) }
      end },
      ["after code was loaded"] = { leak, function(t)
        return { memory_code_mb = 20 + math.floor(t / 500) }
      end },
    }
    for name, case in pairs(cases) do
      local longest = growth(case[1], case[2])
      assert.is_true(longest < 60, ("%s stood for %d s"):format(name, longest))
    end
  end)
end)

describe("restart_storm", function()
  local STORM = { per_s = 45, restarts = 46, seconds = 1.02, ids = { "worker" } }

  it("stands when two passes in a row saw restarts", function()
    local _, found = live("restart_storm", { seconds = 60, found = function(t)
      return { row({ restarts = t >= 20 and t < 50 and STORM or nil }) }
    end })
    assert.is_nil(found[20])
    assert.are.equal("shop_sup: worker", found[30].subject)
    assert.matches("^shop_sup <0.100.0> restarts worker again and again: 46 times or more in 1.0 s",
      found[30].summary)
    assert.is_not_nil(found[40])
    assert.is_nil(found[50])
  end)

  it("names the supervisor alone when it restarts several at once", function()
    local _, found = live("restart_storm", { seconds = 20, found = function()
      return { row({ restarts = { per_s = 9, restarts = 9, seconds = 1, ids = { "a", "b" } } }) }
    end })
    assert.are.equal("shop_sup", found[20].subject)
  end)

  it("leaves few restarts alone", function()
    local slow = { per_s = 1, restarts = 1, seconds = 1, ids = { "worker" } }
    assert.are.equal(-1, (live("restart_storm", { seconds = 300, found = function(t)
      return { row({ restarts = t % 20 == 0 and STORM or slow }) }
    end })))
  end)
end)

describe("child_missing", function()
  local function missing(state, seen_s, changes)
    return live("child_missing", { seconds = 120, found = function(t)
      local list = t >= 30 and t < 90 and { { id = "cache", since_ms = 29500, seen_s = seen_s,
        state = state } } or nil
      local made = row(changes)
      made.missing = list
      return { made }
    end })
  end

  it("stands over a child that does not start again", function()
    local _, found = missing("restarting", 3600)
    assert.is_nil(found[20])
    assert.are.equal("shop_sup: cache", found[30].subject)
    assert.are.equal("cache of shop_sup <0.100.0> is missing: it is to be restarted and does not "
      .. "start", found[30].summary)
    assert.is_nil(found[90])
    assert.matches("its supervisor does not answer", select(2, missing("silent", 1800))[80].summary)
  end)

  it("says nothing of what is new, or of a supervisor without a registered name", function()
    assert.are.equal(-1, (missing("restarting", 1790)))
    assert.are.equal(-1, (missing("restarting", 3600, { registered = false })))
  end)

  it("stands over a supervisor that is no more", function()
    local function gone(seen_s)
      return live("child_missing", { seconds = 60, found = function(t)
        return { gone = t >= 30 and { { name = "shop_sup", since_ms = 29500, seen_s = seen_s,
          application = "shop" } } or nil }
      end })
    end
    local _, found = gone(7200)
    assert.is_nil(found[20])
    assert.are.same({ "shop_sup", "critical" }, { found[60].subject, found[60].severity })
    assert.are.equal("supervisor shop_sup is no more; it had run for 2 h or longer, and its "
      .. "application shop still runs", found[60].summary)
    assert.are.equal(-1, (gone(1000)))
  end)
end)

describe("restart_storm on a real node", function()
  it("finds who storms among those who churn, and ends with the storm", support.async(function()
    local n = node.start({ name = "suprules1" })
    n:eval([[
      fl_sup:start(healthy_sup, [{a, worker}, {b, worker}]), fl_sup:churn(churning_sup, 20),
      fl_sup:churn_with_ids(jobs_sup, 5), fl_sup:storm(storm_sup, 0),
      fl_sup:storm(slower_sup, 50).]])
    local ctx = beam.attach(n, { parts = { "supervisors" }, min_interval_ms = 500 })
    ctx.sweep:start()
    local d = detect.start(ctx, "sup",
      { restart_storm = { hold_ms = 2000, clear_hold_ms = 1000 } }, nil, 500)
    support.wait_until(function()
      return detect.firing(d)
        == "restart_storm slower_sup: stormy, restart_storm storm_sup: stormy"
    end, 60000, "both storms")
    for _, finding in ipairs(d:findings()) do
      assert.are.equal("restart_storm", finding.type)
      assert.is_truthy(finding.subject:find("^storm_sup") or finding.subject:find("^slower_sup"))
      assert.is_true(finding.value > 1)
    end
    n:eval("ok = supervisor:terminate_child(storm_sup, stormy).")
    support.wait_until(function()
      return detect.firing(d) == "restart_storm slower_sup: stormy"
    end, 60000, "one storm to end")
    n:eval("fl_sup:stop().")
    support.wait_until(function()
      return #d:findings() == 0
    end, 60000, "the other to end")
  end, 240))
end)
