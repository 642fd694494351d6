-- Handles of luv that a watcher's file leaves open: none keeps the host from ending.

local beamlens = require("support.beamlens")
local support = require("support")
local tree = require("support.tree")

local DOMAIN = [[
return {
  name = "calm", target = "none", title = "Calm",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function() return { level = 1 } end,
  callbacks = {}, rules = {},
}
]]

local WATCHER = [[
local uv = require("luv")
local timer = uv.new_timer()
timer:start(10, 10, function() end)
%s
return { name = "w", domain = "calm", sample = "1s" }
]]

local function ends(more)
  local root = tree.make({ ["domains/calm.lua"] = DOMAIN,
    ["watchers/w.lua"] = WATCHER:format(more) })
  -- Under an open handle the Lua state is not taken down, which a leak checker would tell.
  local options = (os.getenv("ASAN_OPTIONS") or "") .. ":detect_leaks=0"
  local b = beamlens.start({ "run", root .. "/watchers/w.lua", "--log", "json" }, { cwd = root,
    env = { "ASAN_OPTIONS=" .. options } })
  b:wait_for("watcher.wait")
  b:kill("sigterm")
  assert.are.equal(0, b:wait_exit(15000))
end

describe("the host ends", function()
  it("with a timer of a watcher's file that runs on", support.async(function()
    ends("")
  end, 40))

  it("with one that holds up no loop", support.async(function()
    ends("timer:unref()")
  end, 40))
end)
