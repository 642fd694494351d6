local node = require("support.node")
local support = require("support")
local targets = require("support.target")

describe("a target over a longer time", function()
  it("says after 15 s by itself that a node does not answer", support.async(function()
    local n = node.start({ name = "soak1" })
    local t, told = targets.attach(n)
    n:kill("sigstop")
    local silent_ms = told:wait("unresponsive", 17000).silent_ms
    assert.is_true(silent_ms >= 15000 and silent_ms < 16000)
    n:kill("sigcont")
    told:wait("responsive", 6000)
    assert.are.equal(3, t:eval("1 + 2."))
  end, 40))

  it("makes no more atoms and processes by 300 reconnects", support.async(function()
    local n = node.start({ name = "soak1" })
    local t, told = targets.attach(n, { backoff_ms = { first = 1, max = 5 } })
    told:wait("up")
    local function turn()
      n:eval("[erlang:disconnect_node(N) || N <- nodes(hidden)].")
      told:wait("down")
      told:wait("up")
      assert.are.equal(3, t:eval("1 + 2."))
    end
    for _ = 1, 20 do
      turn()
    end
    local atoms = n:number("erlang:system_info(atom_count).")
    local processes = n:number("length(processes()).")
    for _ = 1, 280 do
      turn()
    end
    -- At most the names that were not needed before.
    assert.is_true(n:number("erlang:system_info(atom_count).") <= atoms + 16)
    assert.are.equal(processes, n:number("length(processes())."))
    assert.are.equal(1, t.evaluator.parsed)
    assert.are.equal("", n:log())
  end, 120))
end)
