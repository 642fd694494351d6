local tracks = require("runtime.history.tracks")

-- Adds a pass each 10 s; rows(s) are those of second `s`.
local function followed(seconds, rows)
  local t, last = tracks.new(), nil
  for s = 0, seconds, 10 do
    last = { mono_ms = s * 1000, rows = rows(s), tracked = { "size", "memory_kb" } }
    t:add("tables", last)
  end
  return t, last
end

-- "second value" of each point.
local function shown(points)
  local parts = {}
  for i, point in ipairs(points) do
    parts[i] = ("%d %s"):format(point.mono_ms / 1000, tostring(point.value))
  end
  return table.concat(parts, ", ")
end

describe("tracks", function()
  it("have a point in 30 s, whether a field changes or not", function()
    local t, last = followed(100, function(s)
      return { a = { size = s, memory_kb = 5 } }
    end)
    assert.are.equal("0 0, 30 30, 60 60, 90 90, 100 100",
      shown(t:points("tables", "a", "size", -1, last)))
    assert.are.equal("0 5, 30 5, 60 5, 90 5", shown(t:points("tables", "a", "memory_kb", -1)))
    assert.are.equal("30 5, 60 5, 90 5", shown(t:points("tables", "a", "memory_kb", 40000)))
    assert.are.same({}, t:points("tables", "a", "name", -1))
    assert.are.same({}, t:points("tables", "b", "size", -1))
    assert.are.same({}, t:points("ports", "a", "size", -1))
  end)

  it("leave out when a row was not there, or had no such field", function()
    local t = followed(300, function(s)
      return {
        late = s >= 50 and { size = 1, memory_kb = s } or nil,
        gone = (s < 60 or s > 180) and { size = 2, memory_kb = s } or nil,
        odd = { size = s >= 120 and 3 or nil, memory_kb = s < 120 and 4 or nil },
      }
    end)
    assert.are.equal("60 1, 90 1, 120 1", shown({ unpack(t:points("tables", "late", "size", -1),
      1, 3) }))
    assert.are.equal("0 2, 30 2, 210 2, 240 2, 270 2, 300 2",
      shown(t:points("tables", "gone", "size", -1)))
    assert.are.equal("0 0, 30 30, 210 210, 240 240, 270 270, 300 300",
      shown(t:points("tables", "gone", "memory_kb", -1)))
    assert.are.equal("120 3, 150 3, 180 3, 210 3, 240 3, 270 3, 300 3",
      shown(t:points("tables", "odd", "size", -1)))
    assert.are.equal("0 4, 30 4, 60 4, 90 4", shown(t:points("tables", "odd", "memory_kb", -1)))
  end)

  it("reach back for forty minutes and a little more", function()
    local function value(s)
      return s < 5000 and s or 5000
    end
    local t = followed(9000, function(s)
      return { a = { size = value(s), memory_kb = 7 },
        b = s % 300 < 60 and { size = s, memory_kb = 7 } or nil }
    end)
    local points = t:points("tables", "a", "size", -1)
    local first_s = points[1].mono_ms / 1000
    assert.is_true(first_s <= 9000 - 2400 and first_s >= 9000 - 2400 - 21 * 30, first_s)
    assert.are.equal((9000 - first_s) / 30 + 1, #points)
    for i, point in ipairs(points) do
      assert.are.equal(first_s + (i - 1) * 30, point.mono_ms / 1000)
      assert.are.equal(value(point.mono_ms / 1000), point.value)
    end
    for _, point in ipairs(t:points("tables", "b", "size", -1)) do
      assert.are.equal(point.mono_ms / 1000, point.value)
      assert.is_true(point.value % 300 < 60)
    end
    assert.are.equal(#points, #t:points("tables", "a", "memory_kb", -1))
  end)

  it("begin anew when the clock does", function()
    local t = followed(100, function()
      return { a = { size = 1 } }
    end)
    t:add("tables", { mono_ms = 5000, rows = { a = { size = 2 } }, tracked = { "size" } })
    assert.are.equal("5 2", shown(t:points("tables", "a", "size", -1)))
  end)
end)
