local history = require("runtime.history")

local function sample(second, data, extra)
  data = data or {}
  local made = {
    id = ("%016d"):format(second),
    at_ms = 1e12 + second * 1000,
    mono_ms = second * 1000 - 5e8,
    data = data,
  }
  for key, value in pairs(extra or {}) do
    made[key] = value
  end
  return made
end

local function filled(seconds, step, value)
  local h = history.new()
  for second = 0, seconds, step do
    h:add(sample(second, { uptime_s = 1000 + second, n = value(second) }))
  end
  return h
end

local function pass(second, processes)
  local mono_ms = second * 1000 - 5e8
  return { mono_ms = mono_ms, processes = {
    mono_ms = mono_ms, rows = processes or {}, tracked = { "memory_kb" },
  } }
end

describe("a history", function()
  it("gives the samples of a window of the node's own time", function()
    local h = filled(600, 10, function(s) return s end)
    assert.equal(61, #h:samples())
    assert.equal(600, h:latest().data.n)
    local window = h:since(60)
    assert.equal(7, #window)
    assert.equal(540, window[1].data.n)
    assert.equal(600, window[7].data.n)
    assert.is_true(h:covers(600))
    assert.is_false(h:covers(601))
  end)

  it("is empty before the first sample and says so without failing", function()
    local h = history.new()
    assert.is_nil(h:latest())
    assert.same({}, h:since(60))
    assert.same({}, h:sweeps(60))
    assert.same({}, h:process("<0.1.0>"))
    assert.is_false(h:covers(0))
    assert.is_nil(h:rate("n", 60))
    assert.is_nil(h:value_ago("n", 60))
  end)

  it("reckons rates by the node's clock, whatever the host's clocks say", function()
    local h = history.new()
    for i = 0, 6 do
      h:add(sample(i * 10, { n = i * 50 }, { at_ms = 1e12 - i * 1e6 }))
    end
    assert.equal(5, h:rate("n", 60))
  end)

  it("gives no rate of a window that the numbers do not span by half", function()
    local h = filled(20, 10, function(s) return s end)
    assert.equal(1, h:rate("n", 40))
    assert.is_nil(h:rate("n", 60))
    assert.is_nil(h:rate("unknown", 20))
  end)

  it("leaves values out of a rate that are no numbers", function()
    local h = history.new()
    h:add(sample(0, { n = "null" }))
    h:add(sample(10, { n = 10 }))
    h:add(sample(20, { n = 30 }))
    h:add(sample(30, { n = false }))
    assert.equal(2, h:rate("n", 20))
  end)

  it("finds the value nearest to a time ago, and none where there is none", function()
    local h = filled(600, 10, function(s) return s end)
    assert.equal(300, h:value_ago("n", 300))
    assert.equal(540, h:value_ago("n", 58))
    assert.equal(0, h:value_ago("n", 600))
    assert.is_nil(h:value_ago("n", 3600))
  end)

  it("keeps 70 min of data and 6 min of sweeps", function()
    local h = history.new()
    for second = 0, 5000, 10 do
      h:add(sample(second, { n = second }, { sweep = pass(second) }))
    end
    assert.equal(5000 - 4200, h:samples()[1].data.n)
    local with = 0
    for _, kept in ipairs(h:samples()) do
      with = with + (kept.sweep and 1 or 0)
    end
    assert.equal(37, with)
    assert.equal(37, #h:sweeps())
    assert.equal(7, #h:sweeps(60))
  end)

  it("stays bounded when samples come faster than any policy allows", function()
    local h = history.new()
    for i = 1, 12000 do
      h:add(sample(i / 10, { n = i }))
    end
    assert.equal(5000, #h:samples())
    assert.is_true(#h.list <= 6001)
    assert.equal(7001, h:samples()[1].data.n)
  end)

  it("begins anew when the node's clock goes back", function()
    local h = filled(100, 10, function(s) return s end)
    local added, restarted = h:add(sample(5, { uptime_s = 2000 }))
    assert.is_true(added)
    assert.is_true(restarted)
    assert.equal(1, #h:samples())
  end)

  it("begins anew when the uptime falls, not when it is only rounded down", function()
    local h = filled(100, 10, function(s) return s end)
    local _, restarted = h:add(sample(101, { uptime_s = 1099 }))
    assert.is_false(restarted)
    assert.equal(12, #h:samples())
    _, restarted = h:add(sample(110, { uptime_s = 3 }))
    assert.is_true(restarted)
    assert.equal(1, #h:samples())
    assert.equal(110, h:latest().mono_ms / 1000 + 5e5)
  end)

  it("refuses a sample that counts by the host's clock among those of the node's", function()
    local h = filled(100, 10, function(s) return s end)
    local added, err, code = h:add(sample(9e6, {}, { host_clock = true }))
    assert.is_nil(added)
    assert.is_truthy(err:find("mono_ms", 1, true))
    assert.equal("ECLOCK", code)
    assert.equal(11, #h:samples())
  end)

  it("follows one process through distinct sweep passes", function()
    local h = history.new()
    local first = pass(0, { ["<0.9.0>"] = { message_queue = 1 } })
    local second = pass(30, { ["<0.9.0>"] = { message_queue = 5 }, ["<0.8.0>"] = {} })
    h:add(sample(1, {}, { sweep = first }))
    h:add(sample(11, {}, { sweep = first }))
    h:add(sample(31, {}, { sweep = second }))
    local seen = h:process("<0.9.0>")
    assert.equal(2, #seen)
    assert.equal(30000, seen[2].mono_ms - seen[1].mono_ms)
    assert.equal(5, seen[2].row.message_queue)
    assert.equal(1, #h:process("<0.8.0>"))
    assert.same({}, h:process("<0.7.0>"))
  end)

  it("does not take a sweep of the node's last life for one of this", function()
    local h = history.new()
    local old = pass(9000, { ["<0.9.0>"] = {} })
    h:add(sample(9001, { uptime_s = 9001 }, { sweep = old }))
    h:add(sample(5, { uptime_s = 5 }, { sweep = old }))
    assert.same({}, h:process("<0.9.0>"))
    assert.is_nil(h:latest().sweep)
    h:add(sample(15, { uptime_s = 15 }, { sweep = pass(14, { ["<0.9.0>"] = {} }) }))
    assert.equal(1, #h:process("<0.9.0>"))
  end)

  it("follows a row of the sweep for long, and forgets one that is seen no more", function()
    local h = history.new({ parts = { "processes" } })
    for second = 0, 3600, 10 do
      h:add(sample(second, {}, { sweep = pass(second, {
        ["<0.9.0>"] = { memory_kb = second },
        ["<0.8.0>"] = second <= 1000 and { memory_kb = 7 } or nil,
      }) }))
    end
    local points = h:track("processes", "<0.9.0>", "memory_kb", 1800)
    assert.equal(61, #points)
    assert.same({ mono_ms = 1800e3 - 5e8, value = 1800 }, points[1])
    assert.same({ mono_ms = 3600e3 - 5e8, value = 3600 }, points[61])
    assert.is_true(h:track("processes", "<0.9.0>", "memory_kb")[1].value >= 3600 - 40 * 60 * 4 / 3)
    assert.same({}, h:track("processes", "<0.8.0>", "memory_kb"))
    assert.same({}, h:track("processes", "<0.9.0>", "reductions"))
    h:add(sample(3610, {}, { sweep = pass(3610, { ["<0.9.0>"] = { memory_kb = 1 } }) }))
    points = h:track("processes", "<0.9.0>", "memory_kb", 100)
    assert.equal(1, points[#points].value)
    h:clear()
    assert.same({}, h:track("processes", "<0.9.0>", "memory_kb"))
  end)
end)
