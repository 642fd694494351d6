local ffi = require("ffi")
local history = require("runtime.history")
local json = require("runtime.json")

-- Metrics of every kind, as they change over time.
local function data_at(i)
  return {
    constant = 7, limit = "rss", count = i * 3 - 100, cents = math.floor(i * 1234.5) / 100,
    third = i / 3, large = 2 ^ 40 + i, late = i % 7 == 0 and json.null or i,
    gone = i % 5 ~= 0 and i or nil, begins = i > 100 and i or nil, flag = i % 2 == 0,
    widens = i < 90 and i or i < 95 and i + 0.25 or i / 7,
    mixed = i % 3 == 0 and "text" or i, list = { i }, negative = -i - 0.01,
    was_null = i < 70 and json.null or 1.5, edge = i % 2 == 0 and -2147483648 or 2147483647,
    huge = i == 80 and math.huge or i,
  }
end

local function filled(count)
  local h, raw = history.new(), {}
  for i = 1, count do
    raw[i] = { id = ("%08x%08x"):format(i * 7919, 2 ^ 32 - i), at_ms = 1.8e12 + i * 10000,
      mono_ms = -5e8 + i * 10000.5, data = data_at(i), took_ms = 1.5, after_gap = i == 50 or nil }
    h:add({ id = raw[i].id, at_ms = raw[i].at_ms, mono_ms = raw[i].mono_ms,
      data = data_at(i), took_ms = 1.5, after_gap = raw[i].after_gap })
  end
  return h, raw
end

-- The `third` of all samples.
local function thirds(h)
  local list = {}
  for i, sample in ipairs(h:samples()) do
    list[i] = sample.data.third
  end
  return list
end

describe("packed samples", function()
  it("are in a fork, too, and what comes later is in one of the two", function()
    for _, count in ipairs({ 0, 3, 5, 64, 68, 69, 300 }) do
      local h, raw = filled(count)
      local fork = h:fork()
      assert.same(thirds(h), thirds(fork))
      for i = count + 1, count + 100 do
        for factor, one in pairs({ h, fork }) do
          local data = data_at(i)
          data.third, data.widens = factor * i, factor == 1 and "text" or i
          one:add({ id = ("%016x"):format(i), at_ms = 1.8e12 + i, mono_ms = -5e8 + i * 10000.5,
            data = data, took_ms = 1 })
        end
      end
      for factor, one in pairs({ h, fork }) do
        local samples = one:samples()
        assert.equal(count + 100, #samples)
        for i, sample in ipairs(samples) do
          local is_new = i > count
          assert.equal(is_new and factor * i or raw[i].data.third, sample.data.third)
          assert.equal(is_new and (factor == 1 and "text" or i) or raw[i].data.widens,
            sample.data.widens)
        end
      end
    end
  end)

  it("go over to a history that does not reach back as far", function()
    local old, young = filled(200), filled(10)
    young:clear()
    old:add({ id = "a", at_ms = 2e12, mono_ms = -4.97e8, data = { third = 1 } })
    young:add({ id = "b", at_ms = 2e12, mono_ms = -4.97e8 + 5, data = { third = 2 } })
    old:take_over(young)
    assert.equal(201, old:count())
    young:take_over(old)
    assert.equal(201, young:count())
    assert.equal(1, young:latest().data.third)
    young:take_over(history.new())
    assert.equal(201, young:count())
  end)

  it("come out as they went in, key by key and whole", function()
    local h, raw = filled(300)
    local samples = h:samples()
    assert.equal(300, #samples)
    for i, sample in ipairs(samples) do
      for _, field in ipairs({ "id", "at_ms", "mono_ms", "took_ms", "after_gap" }) do
        assert.equal(raw[i][field], sample[field])
      end
      for key, value in pairs(raw[i].data) do
        if key ~= "list" then
          assert.equal(value, sample.data[key], ("%s of %d"):format(key, i))
        end
      end
      assert.is_nil(sample.data.gone and not raw[i].data.gone or sample.data.nothing)
      assert.same(raw[i].data, history.whole(sample.data))
    end
  end)

  it("keep an id that is not of 16 digits", function()
    local h = history.new()
    for i = 1, 10 do
      h:add({ id = "s" .. i, at_ms = i, mono_ms = i * 1000, data = { n = i } })
    end
    assert.equal("s1", h:samples()[1].id)
  end)

  it("answer windows, rates and values across blocks as whole ones do", function()
    local h = filled(300)
    assert.equal(31, #h:since(300.1))
    assert.near(3 / 10.0005, h:rate("count", 1200), 1e-9)
    assert.equal((300 - 120) * 3 - 100, h:value_ago("count", 1200.06))
    assert.equal(json.null, h:value_ago("late", 10.0005 * 6))
  end)

  it("survive gaps longer than what is kept", function()
    local h = history.new()
    local second = 0
    for i = 1, 400 do
      second = second + (i % 67 == 0 and 5000 or i % 41 == 0 and 3000 or 10)
      h:add({ id = "x", at_ms = second, mono_ms = second * 1000, data = { n = i } })
      assert.equal(i, h:latest().data.n)
      local samples = h:samples()
      assert.equal(i, samples[#samples].data.n)
      assert.is_true(samples[#samples].mono_ms - samples[1].mono_ms <= 4200000)
      for k = 2, #samples do
        assert.equal(samples[k - 1].data.n + 1, samples[k].data.n)
      end
    end
  end)

  it("take less than a fifth of what tables take", function()
    -- What cases before have left takes several rounds to go.
    local function in_use()
      local before, now = math.huge, collectgarbage("count")
      while before - now > 0.1 do
        collectgarbage()
        before, now = now, collectgarbage("count")
      end
      return now
    end
    local function measure(build)
      local before = in_use()
      local kept = build()
      return in_use() - before, kept
    end
    local function data(i)
      local made = { mono_ms = i * 1000, uptime_s = i }
      for k = 1, 12 do
        made["limit" .. k], made["metric" .. k] = k, (i * k % 1000) / 100
      end
      return made
    end
    local tables = measure(function()
      local list = {}
      for i = 1, 420 do
        list[i] = { id = i, data = data(i) }
      end
      return list
    end)
    local packed = measure(function()
      local h = history.new()
      for i = 1, 420 do
        h:add({ id = ("%016x"):format(i), at_ms = i, mono_ms = i * 1000, data = data(i) })
      end
      return h
    end)
    assert.is_true(packed < tables / 5, ("%.0f KiB of %.0f KiB"):format(packed, tables))
    assert.equal(256, ffi.sizeof("int32_t[64]"))
  end)
end)
