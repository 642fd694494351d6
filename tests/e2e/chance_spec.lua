-- What is left to chance differs between hosts: pauses before retries, above all. Whose turn it is
-- first in a round-robin shows it.

local anthropic_server = require("support.anthropic_server")
local beamlens = require("support.beamlens")
local support = require("support")
local tree = require("support.tree")

local MEMBERS, HOSTS = 60, 5

local function registry_of(url)
  local clients, names = {}, {}
  for i = 1, MEMBERS do
    names[i] = ("%q"):format("M" .. i)
    clients[i] = ('{ name = "M%d", provider = "anthropic", options = { model = "claude-haiku-4-5", '
      .. 'api_key = "k-0123456789", base_url = %q } },'):format(i, url)
  end
  return ([[return { primary = "Spread", clients = { %s
    { name = "Spread", provider = "round-robin", options = { strategy = { %s } } } } }]]):format(
      table.concat(clients, "\n"), table.concat(names, ", "))
end

describe("chance", function()
  it("is another one in each host", support.async(function()
    local server = anthropic_server.start({ on_request = function()
      return { tool = "wait", input = { ms = 60000, reason = "calm" } }
    end })
    support.on_cleanup(function()
      server:stop()
    end)
    local root = tree.make({
      ["clients.lua"] = registry_of(server.url),
      ["domains/tap.lua"] = [[return { name = "tap", target = "none", title = "Tap",
        description = "d", instructions = "i",
        metrics = { { name = "level_count", type = "integer", doc = "d" } },
        snapshot = function() return { level_count = 1 } end, callbacks = {} }]],
      ["tap.lua"] = 'return { domain = "tap" }',
    })
    local first, count = {}, 0
    for _ = 1, HOSTS do
      local b = beamlens.start({ "run", root .. "/tap.lua", "--log", "json" })
      local name = b:wait_for("beamlens.llm.start", nil, 20000).metadata.client
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit(10000), b:stderr())
      count = count + (first[name] and 0 or 1)
      first[name] = true
    end
    assert.is_true(count > 1)
  end, 60))
end)
