local async = require("runtime.async")
local single_flight = require("runtime.single_flight")
local support = require("support")

describe("a single flight", function()
  it("runs the work once for all who come while it runs", support.async(function()
    local runs, signal = 0, async.signal()
    local flight = single_flight.new(function(word)
      runs = runs + 1
      signal:wait()
      return word, runs
    end)
    local results = {}
    for i = 1, 5 do
      async.spawn(function()
        results[i] = { flight:run(5000, "word " .. i) }
      end)
    end
    signal:fire()
    support.wait_until(function()
      return #results == 5
    end)
    for i = 1, 5 do
      assert.are.same({ "word 1", 1 }, results[i])
    end
  end))

  it("starts anew for whoever comes later, also when the work never waits", support.async(function()
    local runs = 0
    local flight = single_flight.new(function()
      runs = runs + 1
      return runs
    end)
    assert.are.equal(1, flight:run(1000))
    assert.are.equal(2, flight:run(1000))
  end))

  it("hands failures and errors to all", support.async(function()
    local flight = single_flight.new(function(how)
      async.sleep(1)
      if how == "raise" then
        error("broken")
      end
      return nil, "refused", "EREFUSED"
    end)
    assert.are.same({ nil, "refused", "EREFUSED" }, { flight:run(5000) })
    local value, err, code = flight:run(5000, "raise")
    assert.is_nil(value)
    assert.is_truthy(err:find("broken", 1, true))
    assert.are.equal("EFAILED", code)
    assert.are.equal("EREFUSED", select(3, flight:run(5000)))
  end))

  it("goes on for the rest when one gives up, and ends with the last", support.async(function()
    local signal, cancelled = async.signal(), true
    local flight = single_flight.new(function()
      signal:wait()
      cancelled = false
      return "done"
    end)
    local patient
    async.spawn(function()
      patient = flight:run(20000)
    end)
    assert.are.equal("ETIMEDOUT", select(3, flight:run(1)))
    signal:fire()
    assert.are.equal("done", patient)
    assert.is_false(cancelled)

    cancelled = true
    local task = async.spawn(function()
      flight:run(20000)
    end)
    task:cancel()
    signal:fire()
    assert.is_true(cancelled)
  end))
end)
