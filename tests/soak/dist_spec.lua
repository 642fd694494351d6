local async = require("runtime.async")
local fake = require("support.fake")
local node = require("support.node")
local rig = require("support.dist")
local support = require("support")

describe("an idle connection", function()
  it("stays up by ticks", support.async(function()
    local n = node.start({ name = "idle1", args = { "-kernel", "net_ticktime", "4" } })
    local down
    local conn = rig.attach(n, { on_down = function(err)
      down = err
    end })
    async.sleep(9000)
    assert.is_nil(down)
    assert.are.equal("[beamlens1@localhost]", n:eval("nodes(hidden)."))
    assert.are.equal(n.name, rig.call(conn, "erlang", "node"))
    assert.are.equal("", n:log())
  end))

  it("sends a tick of its own after 15 s", support.async(function()
    local n = node.start({ name = "idle1" })
    local proxy = fake.proxy(rig.ports(n.epmd_port).idle1, function(bytes)
      -- The node's own ticks are kept from it.
      return bytes ~= "\0\0\0\0" and bytes or nil
    end)
    local conn = rig.attach(n, { node = n.name .. ":" .. proxy.port })
    local before = conn:stats().sent_bytes
    async.sleep(21000)
    assert.are.equal(4, conn:stats().sent_bytes - before)
  end, 40))
end)
