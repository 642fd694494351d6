-- A few hundred cycles of one watcher, with all that may go wrong. tests/soak/cycles_spec.lua has
-- ten thousand, and looks at the memory, too.

local cycles = require("support.cycles")
local support = require("support")

describe("some hundred cycles", function()
  it("leave no handle, no coroutine and no event without its end", support.async(function()
    local life = cycles.live({ cycles = 200, settled = 50, reload_every = 10, restart_every = 50,
      each = 10 })
    assert.are.same({}, cycles.leaks(life))
    assert.are.same({}, life.open)
    assert.is_nil(life.counts["watcher.crashed"])
    assert.is_true(life.model.invalid >= 5 and life.model.failed >= 5)
    assert.is_true(life.counts["llm.exception"] >= 5)
    assert.is_true(life.counts["watcher.invalid_tool"] >= 5)
    assert.is_true(life.counts["watcher.execute_complete"] >= 1)
    assert.is_true(life.counts["watcher.alert_fired"] >= 1)
  end, 300))
end)
