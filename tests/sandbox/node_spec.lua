-- Scripts that call a real node: what waits there ends with the script.

local async = require("runtime.async")
local beam = require("support.beam")
local clock = require("runtime.clock")
local executor = require("runtime.executor")
local node = require("support.node")
local sandbox = require("runtime.sandbox")
local support = require("support")
local telemetry = require("runtime.telemetry")

-- A domain whose only callback waits on the node for as long as it is told, burning nothing.
local Waiting = {}

function Waiting.callbacks()
  return { { name = "wait_there" } }
end

function Waiting.invoke(_, ctx, _, args)
  return ctx.target:eval("register(waits_here, self()), receive after Ms -> Ms end.",
    { Ms = args[1] }, { timeout = 60000 })
end

describe("a script's call to a node", function()
  it("is cancelled there when the script ends, and counts as wall time", support.async(function()
    local n = node.start({ name = "jail1" })
    local ctx = beam.attach(n)
    local box = sandbox.new({ pool = 1 })
    support.on_cleanup(function()
      box:close()
    end)
    local ended
    local bus = telemetry.new()
    bus:attach("spec", "beamlens.watcher.execute_error", function(_, measurements)
      ended = measurements
    end)
    local function is_waiting()
      return n:eval("whereis(waits_here) =/= undefined.") == "true"
    end
    local ex = executor.new({ sandbox = box, domain = Waiting, ctx = ctx, telemetry = bus,
      clock = clock.system(), limits = { wall_ms = 5000, cpu_ms = 1000 } })
    local saw_it = false
    local watching = async.spawn(function()
      support.wait_until(is_waiting, 5000)
      saw_it = true
    end)
    local record = ex:run("local x = wait_there(50000) return x")
    watching:join()
    assert.is_true(saw_it)
    assert.are.equal("timeout", record.error.kind)
    assert.matches("^script exceeded its time limit of 5.0 s %(while waiting for a host function%)",
      record.error.message)
    assert.is_true(ended.wall_ms >= 5000 and ended.cpu_ms < 1000)
    assert.are.equal(1, ended.callbacks)
    assert.is_true(ended.memory_bytes > 0)
    support.wait_until(function()
      return not is_waiting()
    end, 5000, "the end of the call on the node")
  end, 40))
end)
