local mute = require("runtime.rules.mute")
local timezone = require("runtime.timezone")

local function at(hour, minute)
  return (19000 * 1440 + hour * 60 + minute) * 60000
end

describe("a mute window", function()
  it("begins at from and ends before to, in UTC", function()
    local windows = { { from = "02:00", to = "03:00" } }
    assert.is_false(mute.is_muted(windows, "x", at(2, 0) - 1))
    assert.is_true(mute.is_muted(windows, "x", at(2, 0)))
    assert.is_true(mute.is_muted(windows, "x", at(3, 0) - 1))
    assert.is_false(mute.is_muted(windows, "x", at(3, 0)))
  end)

  it("may run over midnight", function()
    local windows = { { from = "23:30", to = "00:30" } }
    assert.is_true(mute.is_muted(windows, "x", at(23, 59)))
    assert.is_true(mute.is_muted(windows, "x", at(0, 29)))
    assert.is_false(mute.is_muted(windows, "x", at(0, 30)))
    assert.is_false(mute.is_muted(windows, "x", at(12, 0)))
  end)

  it("is the whole day when both ends are the same", function()
    assert.is_true(mute.is_muted({ { from = "04:00", to = "04:00" } }, "x", at(3, 59)))
    assert.is_true(mute.is_muted({ { from = "04:00", to = "04:00" } }, "x", at(4, 0)))
  end)

  it("is for the types that it names, or for all", function()
    local windows = { { from = "00:00", to = "01:00", types = { "a", "b" } } }
    assert.is_true(mute.is_muted(windows, "b", at(0, 1)))
    assert.is_false(mute.is_muted(windows, "c", at(0, 1)))
    assert.is_false(mute.is_muted({}, "c", at(0, 1)))
    assert.is_false(mute.is_muted(nil, "c", at(0, 1)))
  end)

  it("is at the hours of its zone, summer and winter", function()
    local zone = assert(timezone.load("Europe/Berlin"))
    local windows = { { from = "02:00", to = "04:00", zone = zone } }
    local winter, summer = 1768435200000, 1784073600000 -- midnights of UTC in January and July
    local function hours(midnight_ms)
      local muted = {}
      for hour = 0, 23 do
        if mute.is_muted(windows, "x", midnight_ms + hour * 3600000) then
          muted[#muted + 1] = hour
        end
      end
      return muted
    end
    assert.are.same({ 1, 2 }, hours(winter))
    assert.are.same({ 0, 1 }, hours(summer))
  end)
end)
