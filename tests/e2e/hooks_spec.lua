-- Hooks, handlers and rules of a file that do not end: they are cut, or named while they run.

local reloading = require("support.reloading")
local support = require("support")

local watcher = reloading.watcher

local ENDLESS = "function()\n  while true do end\nend"

local function hook_failed(h, name)
  return h.b:wait_for("watcher.hook_failed", function(event)
    return event.metadata.hook == name
  end, 60000).metadata.error
end

describe("code of a watcher file that does not end", function()
  it("is cut with file and line, and the watcher goes on", support.async(function()
    local h = reloading.start({
      ["watchers/w.lua"] = 'local lib = require("lib.spin")\n'
        .. watcher("guard = function(action)\n lib.spin()\n return action end,\n"
          .. "on_state = function() pcall(" .. ENDLESS .. ") end,\n"
          .. 'handlers = { { "h", "beamlens.watcher.wait", ' .. ENDLESS .. " } },\n"
          .. 'rules = { { type = "own", severity = "warning", when = ' .. ENDLESS .. " } },"),
      ["watchers/lib/spin.lua"] = "return { spin = function()\n  while true do end\nend }\n",
      level = "50",
    })
    assert.matches("^ran longer than 100 ms, at .*/watchers/lib/spin%.lua:2$",
      hook_failed(h, "guard"))
    assert.matches("^ran longer than 100 ms, at .*/watchers/w%.lua:6$", hook_failed(h, "on_state"))
    local rule = h.b:wait_for("rule.failed", nil, 60000).metadata
    assert.are.equal("own", rule.type)
    assert.matches("^ran longer than 100 ms, at .*/watchers/w%.lua:%d+\n", rule.error)
    local handler = h.b:wait_for("handler.failed", nil, 60000).metadata
    assert.matches("watchers/w%.lua:h$", handler.handler)
    assert.matches("^ran longer than 100 ms, at .*/watchers/w%.lua:%d+$", handler.error)
    h:round()
    h:round()
    -- Mended, it is in force, and its handler is attached again.
    h:write("watchers/w.lua", watcher('handlers = { { "h", "beamlens.watcher.wait", function()'
      .. ' require("beamlens").log("mended") end } }'))
    h:applied()
    support.wait_until(function()
      return h.b:stderr():find("mended", 1, true)
    end, 30000, "the mended handler")
    h:stop()
  end, 120))

  it("is named on stderr while a call of it cannot be cut, and by an event when it came back",
    support.async(function()
      local h = reloading.start({ ["watchers/w.lua"] = watcher(), level = "50" })
      h.b:wait_for("watcher.alert_fired", nil, 30000)
      -- A shell that waits until it is let go: the call waits as long as the spec wants.
      h:write("watchers/w.lua", watcher("guard = function(action)\n"
        .. ('  os.execute("while [ ! -e %s ]; do sleep 0.1; done")\n'):format(h:path("go"))
        .. "  return action\nend"))
      support.wait_until(function()
        return h.b:stderr():find("beamlens: hook guard, at .*/watchers/w%.lua:1 has been running "
          .. "for %d+%.%d s in one call that cannot be cut; everything waits for it\n")
      end, 60000, "the watchdog; it said: " .. h.b:stderr())
      assert.are.equal(0, #h.b:all("beamlens.watcher.hook_failed"))
      h:write("go", "")
      assert.matches("^ran longer than 100 ms %(%d+ ms in one call that cannot be cut%), at "
        .. ".*/watchers/w%.lua:1$", hook_failed(h, "guard"))
      h:round()
      h:stop()
    end, 120))
end)
