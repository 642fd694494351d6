-- Which threads of the host take the signals that it answers to.

local beamlens = require("support.beamlens")
local support = require("support")
local threads = require("support.threads")
local tree = require("support.tree")

local DOMAIN = [[
return {
  name = "calm", target = "none", title = "Calm",
  metrics = { { name = "level", type = "integer" } },
  snapshot = function() return { level = %s } end,
  callbacks = {}, rules = {},
}
]]

-- With a store and a watchdog, whose threads are the two that are always there.
local function start(level)
  local root = tree.make({
    ["domains/calm.lua"] = DOMAIN:format(level),
    ["domains/gauge.lua"] = "return { level = function() return 1 end }",
    ["watchers/w.lua"] = [[return { name = "w", domain = "calm", sample = "1s", client = "rules",
      guard = function(action) return action end }]],
  })
  return beamlens.start({ "run", root .. "/watchers/w.lua", "--log", "json", "--store",
    root .. "/s.db" }, { cwd = root })
end

local function ends(b)
  b:kill("sigterm")
  assert.are.equal(0, b:wait_exit(60000))
end

describe("signals to the host", function()
  it("reach none of the threads of its store and its watchdog", support.async(function()
    local b = start("1")
    b:wait_for("watcher.wait", nil, 60000)
    threads.wait_for(b.pid, 2, 0)
    ends(b)
  end, 200))

  it("are not blocked in the thread of a blocking library, which may start programs",
    support.async(function()
      local b = start('require("beamlens").work("gauge", "level")')
      b:wait_for("sampler.sample", nil, 60000)
      threads.wait_for(b.pid, 2, 1)
      ends(b)
    end, 200))
end)
