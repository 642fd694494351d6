local clock = require("runtime.clock")
local quiet = require("runtime.reload.quiet")
local support = require("support")

local function coalesced(opts)
  local t = { calls = {}, clock = clock.manual() }
  t.quiet = quiet.new({ clock = t.clock, quiet_ms = opts.quiet_ms, max_ms = opts.max_ms,
    on_quiet = function(is_early)
      t.calls[#t.calls + 1] = is_early
    end })
  support.on_cleanup(function()
    t.quiet:close()
  end)
  return t
end

describe("coalescing", function()
  it("makes one call of a thousand notes", support.async(function()
    local t = coalesced({ quiet_ms = 20, max_ms = 60000 })
    for _ = 1, 1000 do
      t.quiet:note()
    end
    support.wait_until(function()
      return t.calls[1] ~= nil
    end)
    assert.are.same({ false }, t.calls)
    t.quiet:note()
    support.wait_until(function()
      return t.calls[2] ~= nil
    end)
    assert.are.same({ false, false }, t.calls)
  end))

  it("does not wait for the end of notes that never end", support.async(function()
    local t = coalesced({ quiet_ms = 60000, max_ms = 1500 })
    t.quiet:note()
    t.clock.advance(1499)
    t.quiet:note()
    support.wait_until(function()
      return t.calls[1] ~= nil
    end)
    assert.are.same({ true }, t.calls)
    -- The next one begins anew.
    t.quiet:note()
    assert.is_true(t.quiet.timer:get_due_in() > 1000)
  end))

  it("is over when it is closed", support.async(function()
    local t = coalesced({ quiet_ms = 1 })
    t.quiet:note()
    t.quiet:close()
    t.quiet:note()
    t.quiet:close()
    assert.are.same({}, t.calls)
  end))
end)
