local telemetry = require("runtime.telemetry")

local EVENT = "beamlens.node.up"

describe("telemetry", function()
  it("calls handlers in order with event, measurements, metadata and config", function()
    local bus, seen = telemetry.new(), {}
    assert(bus:attach("a", EVENT, function(event, measurements, metadata, config)
      seen[#seen + 1] = { event, measurements.duration, metadata.node, config }
    end, "x"))
    assert(bus:attach("b", EVENT, function()
      seen[#seen + 1] = "b"
    end))
    bus:execute(EVENT, { duration = 1.5 }, { node = "n@h" })
    assert.are.same({ { EVENT, 1.5, "n@h", "x" }, "b" }, seen)
  end)

  it("refuses a second handler with the same id", function()
    local bus = telemetry.new()
    assert(bus:attach("a", EVENT, function() end))
    local ok, _, code = bus:attach("a", EVENT, function() end)
    assert.is_nil(ok)
    assert.are.equal("EEXIST", code)
  end)

  it("detaches and reports a handler that raises; the others go on", function()
    local failed, calls = nil, 0
    local bus = telemetry.new({
      on_handler_error = function(id, event, err)
        failed = { id, event, err }
      end,
    })
    bus:attach("bad", EVENT, function()
      error("boom", 0)
    end)
    bus:attach("good", EVENT, function()
      calls = calls + 1
    end)
    bus:execute(EVENT, {}, {})
    bus:execute(EVENT, {}, {})
    assert.are.same({ "bad", EVENT, "boom" }, failed)
    assert.are.equal(2, calls)
    assert.are.equal(1, #bus:list_handlers())
  end)

  it("attaches one handler to many events and detaches it from all", function()
    local bus, calls = telemetry.new(), 0
    bus:attach_many("a", { EVENT, "beamlens.node.down", "shop.sold" }, function()
      calls = calls + 1
    end)
    bus:execute("shop.sold", {}, {})
    bus:execute("beamlens.node.down", {}, {})
    assert.are.equal(2, #bus:list_handlers("beamlens.node."))
    assert(bus:detach("a"))
    bus:execute("shop.sold", {}, {})
    assert.are.equal(2, calls)
    assert.are.equal("ENOENT", select(3, bus:detach("a")))
  end)

  it("takes as many handlers as there are watchers", function()
    local bus, calls = telemetry.new(), 0
    for i = 1, 10000 do
      assert(bus:attach(i, EVENT, function()
        calls = calls + 1
      end))
    end
    bus:execute(EVENT, {}, {})
    assert.are.equal(10000, calls)
  end)

  it("refuses events of beamlens that are not documented", function()
    local bus = telemetry.new()
    assert.has_error(function()
      bus:execute("beamlens.nothing", {}, {})
    end, 'unknown event "beamlens.nothing"; `beamlens events` lists them')
  end)
end)
