local history = require("runtime.history")
local json = require("runtime.json")
local no_eval = require("domains.beam.no_eval")

-- A life of a node, a sample in 10 s: answers(t) is what its snapshot says of code_server.
local function live(seconds, answers, uptime_s)
  local h = history.new()
  for t = 0, seconds, 10 do
    h:add({ id = ("%016x"):format(t), at_ms = 1.7e12 + t * 1000, mono_ms = -5e8 + t * 1000,
      took_ms = 1, data = { uptime_s = (uptime_s or 7200) + t, code_server_answers = answers(t) } })
  end
  return no_eval.find(h)
end

describe("the finding of a node where nothing can be evaluated", function()
  it("names code_server, and for how long it has not answered", function()
    local found = live(900, function(t)
      return t < 300
    end)
    assert.are.same({ "code_server", 600, 0, "s" },
      { found.subject, found.value, found.threshold, found.unit })
    assert.matches("^code_server loads no module when asked, for 10 m", found.summary)
    assert.are.same({ { name = "unanswered", value = 600, unit = "s" } }, found.figures)
    assert(json.encode_strict(found))
  end)

  it("is there from the first sample on, and ends with the first answer", function()
    assert.are.equal(0, live(0, function()
      return false
    end).value)
    assert.is_nil(live(600, function(t)
      return t == 600
    end))
    assert.is_nil(live(600, function()
      return true
    end))
  end)

  it("is not there while the node boots, or where the figure is not", function()
    assert.is_nil(live(290, function()
      return false
    end, 0))
    assert.is_truthy(live(300, function()
      return false
    end, 0))
    assert.is_nil(live(600, function()
      return nil
    end))
    assert.is_nil(no_eval.find(history.new()))
  end)
end)
