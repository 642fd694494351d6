-- Every recorded answer of every provider, served from loopback whole and in pieces: the project's
-- own, in tests/providers/recordings and clouds, and those of a folder beside the checkout
-- (BEAMLENS_CASES).

local cassettes = require("support.cassettes")
local support = require("support")

local FOLDERS = {
  ["of the project"] = "tests/providers/recordings",
  ["of the project's clouds"] = "tests/providers/clouds",
  ["of the world"] = (os.getenv("BEAMLENS_CASES") or "../shared/cases") .. "/cassettes",
}

local function random_sizes(row)
  math.randomseed(#row.body)
  local sizes = {}
  for i = 1, 50 do
    sizes[i] = math.random(1, 400)
  end
  return sizes
end

local WAYS = {
  { "whole", function() end },
  { "in pieces of 1 byte", function() return 1 end },
  { "in pieces of 7 bytes", function() return 7 end },
  { "in pieces of any size", random_sizes },
}

local REQUEST = {
  system = "s",
  tools = { { name = "wait", description = "d", schema = { type = "object" } } },
  messages = { { role = "user", text = "u" } },
}

local function case(row, sizes)
  return support.async(function()
    local result, _, kind, detail, requests = cassettes.ask(row, REQUEST, sizes)
    assert.are.equal(1, #requests)
    cassettes.check(row, result, kind, detail)
  end)
end

for whose, folder in pairs(FOLDERS) do
  describe(("the recorded answers %s"):format(whose), function()
    local rows = cassettes.rows(folder)
    if not rows then
      assert(not folder:find("^tests/"), folder .. " is missing")
      pending("are read as they were meant", "no cassettes in " .. folder)
      return
    end
    for _, row in ipairs(rows) do
      for _, way in ipairs(WAYS) do
        it(("are read as they were meant: %s %s"):format(row.file, way[1]),
          case(row, way[2](row)))
      end
    end
  end)
end
