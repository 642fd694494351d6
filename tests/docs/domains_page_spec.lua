-- Each Lua block of docs/domains.md is a domain that works.

local beam = require("support.beam")
local domain = require("runtime.domain")
local node = require("support.node")
local support = require("support")

describe("docs/domains.md", function()
  it("shows domains that take a snapshot of a node", support.async(function()
    local file = assert(io.open("docs/domains.md"))
    local page = file:read("*a")
    file:close()
    local ctx = beam.attach(node.start({ name = "page1" }))
    local count = 0
    for block in page:gmatch("```lua\n(.-)\n```") do
      count = count + 1
      local d = assert(domain.new(assert(load(block))(), { file = "docs/domains.md" }))
      local data = assert(d:snapshot(ctx))
      for _, metric in ipairs(d.metrics) do
        assert.is_not_nil(data[metric.name])
      end
    end
    assert.are.equal(1, count)
  end, 40))
end)
