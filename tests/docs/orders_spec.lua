-- The example domain of docs/examples, on a node that runs such a server.

local beam = require("support.beam")
local beamlens = require("support.beamlens")
local domain = require("runtime.domain")
local node = require("support.node")
local support = require("support")

local PATH = "docs/examples/domains/orders.lua"

describe("the orders example", function()
  it("reads mailbox and queue as the node has them, also when the server is stuck",
    support.async(function()
      local n = node.start({ name = "orders1" })
      local d = assert(domain.new(assert(loadfile(PATH))(), { file = PATH }))
      local ctx = beam.attach(n)
      local data, err, code = d:snapshot(ctx)
      assert.is_nil(data)
      assert.are.equal("EORDERS", code)
      assert.matches("registered as orders", err)

      n:eval("orders:start().")
      n:eval("[gen_server:cast(orders, {add, N}) || N <- lists:seq(1, 7)].")
      assert.are.same({ mailbox = 0, queue_length = 7, answers = true }, assert(d:snapshot(ctx)))
      local ok, queue = d:invoke(ctx, "orders_queue", {})
      assert(ok, queue)
      assert.are.same({ mailbox = 0, queue_length = 7, answers = true }, queue)

      n:eval("sys:suspend(orders), [gen_server:cast(orders, {add, N}) || N <- lists:seq(1, 3)].")
      data = assert(d:snapshot(ctx))
      assert.is_false(data.answers)
      assert.is_nil(data.queue_length)
      assert.are.equal(3, data.mailbox)
    end, 40))

  it("runs from its folder", support.async(function()
    local n = node.start({ name = "orders2" })
    n:eval("orders:start().")
    local env = { "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. n.cookie }
    local b = beamlens.start({ "run", "docs/examples/watchers/orders.lua", "--node", n.name,
      "--log", "json" }, { env = env })
    b:wait_for("node.up", nil, 15000)
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit())
  end, 40))
end)
