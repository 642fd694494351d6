local async = require("runtime.async")
local clock = require("runtime.clock")
local events = require("runtime.events")
local executor = require("runtime.executor")
local json = require("runtime.json")
local sandbox = require("runtime.sandbox")
local support = require("support")
local telemetry = require("runtime.telemetry")

-- A domain as the executor sees it.
local Shop = {}

function Shop.callbacks()
  return { { name = "shop_orders" }, { name = "shop_fail" }, { name = "sleep" } }
end

function Shop.invoke(_, ctx, name, args)
  if name == "shop_orders" then
    return true, { node = ctx.node, first = args[1] }, { total = 7 }
  elseif name == "sleep" then
    async.sleep(args[1])
    return true
  end
  return nil, "shop_fail: no answer from the node"
end

local function with_executor(body, limits)
  return support.async(function()
    local box = sandbox.new({ pool = 1 })
    local bus = telemetry.new()
    local seen = {}
    bus:attach_many("spec", {
      "beamlens.watcher.execute_start", "beamlens.watcher.execute_complete",
      "beamlens.watcher.execute_error",
    }, function(event, measurements, metadata)
      local names = events[event]
      for name in pairs(measurements) do
        assert(table.concat(names.measurements, " "):find(name, 1, true), name)
      end
      for name in pairs(metadata) do
        assert(table.concat(names.metadata, " "):find(name, 1, true), name)
      end
      seen[#seen + 1] = { event = event:match("[^.]+$"), measurements = measurements,
        metadata = metadata }
    end)
    local ok, err = async.pcall(body, executor.new({
      sandbox = box,
      domain = Shop,
      ctx = { node = "shop@db1" },
      limits = limits,
      telemetry = bus,
      meta = { watcher = "shop", domain = "shop", node = "shop@db1" },
      clock = clock.system(),
    }), seen)
    box:close()
    if not ok then
      error(err, 0)
    end
  end)
end

describe("executor", function()
  it("gives the script its args, such as a rule's finding", with_executor(function(e)
    local record = e:run("return args.subject .. args.figures[1].name",
      { source = "rule", args = { subject = "shop_sup: ", figures = { { name = "children" } } } })
    assert.is_nil(record.error)
    assert.are.equal("shop_sup: children", record.value)
  end))

  it("runs a script with the domain's callbacks and says so", with_executor(function(ex, seen)
    local record = ex:run("print('looking')\nlocal orders, meta = shop_orders('a')\n"
      .. "return { orders.node, orders.first, meta.total }", { trace_id = "t1", source = "user" })
    assert.are.same({ "shop@db1", "a", 7 }, record.value)
    assert.is_nil(record.error)
    assert.are.equal("looking\n", record.output)
    assert.are.equal(1, record.calls)
    assert.are.equal("user", record.source)
    assert.matches("^%x+$", record.id)
    assert.are.equal(16, #record.id)
    assert.is_true(record.duration_ms > 0 and record.at_ms > 1e12)

    assert.are.equal("execute_start", seen[1].event)
    assert.are.equal("execute_complete", seen[2].event)
    local metadata = seen[2].metadata
    assert.are.equal(record.id, metadata.execution_id)
    assert.are.equal(record.value, metadata.value)
    assert.are.equal("looking\n", metadata.output)
    assert.are.equal(1, seen[2].measurements.callbacks)
    for _, name in ipairs({ "duration", "cpu_ms", "wall_ms", "memory_bytes" }) do
      assert.is_true(seen[2].measurements[name] > 0, name)
    end
    for _, event in ipairs(seen) do
      assert.are.same({ "t1", "user", "shop", "shop", "shop@db1" }, { event.metadata.trace_id,
        event.metadata.source, event.metadata.watcher, event.metadata.domain,
        event.metadata.node })
    end
  end))

  it("keeps the error and the last of what was printed", with_executor(function(ex, seen)
    local record = ex:run("for i = 1, 2000 do print('line ' .. i) end\nlocal x = shop_fail()\n"
      .. "return x", { trace_id = "t2" })
    assert.is_nil(record.value)
    assert.are.same({
      kind = "runtime",
      line = 2,
      message = "script:2: shop_fail: no answer from the node\n    2 | local x = shop_fail()",
    }, record.error)
    assert.are.equal(1024, #record.output)
    assert.matches("line 2000\n$", record.output)
    assert.are.equal("execute_error", seen[2].event)
    assert.are.equal("runtime", seen[2].metadata.kind)
    assert.are.equal(record.error.message, seen[2].metadata.error)
    assert.are.equal(16 * 1024, #seen[2].metadata.output)
    assert.are.equal("model", seen[2].metadata.source)
  end))

  it("refuses a value of more than 8 KiB with its size", with_executor(function(ex, seen)
    assert.are.equal(8190, #ex:run("return ('x'):rep(8190)").value)
    local record = ex:run("return ('x'):rep(8191)")
    assert.is_nil(record.value)
    assert.are.same({ kind = "result", message = "return less: aggregate, filter or take the first"
      .. " rows (the value is 8193 bytes of JSON, the limit is 8192)" }, record.error)
    assert.are.equal("result", seen[4].metadata.kind)
    assert.matches("the value is more than 1048576 bytes of JSON, the limit is 8192",
      ex:run("return ('x'):rep(2e6)").error.message, 1, true)
  end))

  it("holds to the policy's limits", with_executor(function(ex)
    assert.matches("limit is 100%)$", ex:run("return ('x'):rep(200)").error.message)
    assert.are.equal("limit", ex:run("for i = 1, 3 do shop_orders() end").error.kind)
    assert.are.equal("timeout", ex:run("while true do end").error.kind)
    assert.are.equal("memory", ex:run("return #('x'):rep(5e6)").error.kind)
  end, { wall_ms = 240000, cpu_ms = 150, memory_bytes = 4e6, callbacks = 2, result_bytes = 100 }))

  it("holds to the policy's limit of time", with_executor(function(ex)
    assert.are.equal("timeout", ex:run("sleep(60000)").error.kind)
  end, { wall_ms = 400 }))

  it("tells a value of null from none, and passes hints on", with_executor(function(ex)
    local record = ex:run("shop_orders()")
    assert.are.equal(json.null, record.value)
    assert.matches("return shop_orders()", record.hint, 1, true)
  end))

  it("tells of a script whose task was cancelled", with_executor(function(ex, seen)
    local task = async.spawn(function()
      ex:run("sleep(60000)")
    end)
    support.wait_until(function()
      return seen[1]
    end)
    task:cancel()
    assert.are.equal("execute_error", seen[2].event)
    assert.are.equal("cancelled", seen[2].metadata.kind)
    assert.are.equal("sleep(60000)", seen[2].metadata.code)
    assert.are.equal(2, #seen)
  end))
end)
