local support = require("support")
local timezone = require("runtime.timezone")

local ZONES = {
  "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe",
  "Pacific/Chatham", "America/St_Johns", "Africa/Casablanca", "Europe/Dublin", "Asia/Tehran",
  "America/Nuuk", "Etc/GMT+5", "Africa/Lagos",
}

-- What the system's `date` says of a zone at each time.
local function of_the_system(zone, times)
  local list = {}
  for i, unix_s in ipairs(times) do
    list[i] = "@" .. unix_s
  end
  local path = support.write_file(support.tmp_path("times"), table.concat(list, "\n") .. "\n")
  local pipe = assert(io.popen(("TZ=%s date +%%z -f %s"):format(zone, path)))
  local offsets = {}
  for line in pipe:lines() do
    local sign, h, m = line:match("^([+-])(%d%d)(%d%d)$")
    offsets[#offsets + 1] = (tonumber(h) * 3600 + tonumber(m) * 60) * (sign == "-" and -1 or 1)
  end
  pipe:close()
  os.remove(path)
  return offsets
end

describe("a time zone", function()
  it("is ahead of UTC as the system says, in the past and far ahead", function()
    local times = {}
    for year = 2024, 2060, 4 do
      for step = 0, 146 do -- four years, ten days and some hours a step
        times[#times + 1] = os.time({ year = year, month = 1, day = 1 }) + step * 863999
      end
    end
    for _, name in ipairs(ZONES) do
      local zone = assert(timezone.load(name))
      local offsets = of_the_system(name, times)
      assert.are.equal(#times, #offsets)
      for i, unix_s in ipairs(times) do
        assert(offsets[i] == zone:offset_s(unix_s), ("%s at %d: %d, not %d"):format(name, unix_s,
          zone:offset_s(unix_s), offsets[i]))
      end
    end
  end)

  it("changes in the very second", function()
    local zone = assert(timezone.load("Europe/Berlin"))
    for _, change in ipairs({ { 1774746000, 3600, 7200 }, { 2531955600, 3600, 7200 },
      { 2550704400, 7200, 3600 } }) do
      assert.are.equal(change[2], zone:offset_s(change[1] - 1))
      assert.are.equal(change[3], zone:offset_s(change[1]))
    end
  end)

  it("is refused when the machine does not have it, or when it is no name", function()
    for _, name in ipairs({ "Europe/Berln", "../passwd", "/etc/passwd", "", "Europe", 5,
      "a/../../../passwd" }) do
      local zone, err = timezone.load(name)
      assert.is_nil(zone)
      assert.matches("is no time zone of this machine", err)
    end
  end)
end)
