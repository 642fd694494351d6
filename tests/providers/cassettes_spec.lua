-- Every recorded answer of every provider, served from loopback whole and in pieces: the project's
-- own, in tests/providers/recordings, and those of a folder beside the checkout (BEAMLENS_CASES).

local anthropic_server = require("support.anthropic_server")
local async = require("runtime.async")
local cassettes = require("support.cassettes")
local clients = require("runtime.clients")
local support = require("support")

local FOLDERS = {
  ["of the project"] = "tests/providers/recordings",
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

local function decide(row, url)
  local registry = assert(clients.new({
    config = cassettes.config(row, url),
    env = cassettes.env,
  }))
  return registry:decide(nil, {
    system = "s",
    tools = { { name = "wait", description = "d", schema = { type = "object" } } },
    messages = { { role = "user", text = "u" } },
  })
end

local function case(row, sizes)
  return support.async(function()
    local server = anthropic_server.start({ replies = { cassettes.reply(row, sizes) } })
    local ok, result, _, kind, detail = async.pcall(decide, row, server.url)
    server:stop()
    assert(ok, result)
    assert.are.equal(1, #server.requests)
    cassettes.check(row, result, kind, detail)
  end)
end

for whose, folder in pairs(FOLDERS) do
  describe(("the recorded answers %s"):format(whose), function()
    local rows = cassettes.rows(folder)
    if not rows then
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
