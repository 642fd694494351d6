-- What `run --record` wrote, `run --replay` prints again to the byte, without node or model.

local anthropic_server = require("support.anthropic_server")
local node = require("support.node")
local sessions = require("support.sessions")
local support = require("support")
local watch = require("support.watch")

describe("a recorded session", function()
  it("of rules on a node replays to the identical events", support.async(function()
    local n = node.start({ name = "record1" })
    local path = sessions.path()
    local b = watch.start({ node = n, args = { "--record", path, "--iterations", "1" },
      watchers = { 'name = "beam", domain = "beam", sample = "1s", '
        .. 'wait = { min = "1s", max = "2s" }' } })
    assert.are.equal(0, b:wait_exit(30000), b:stderr())
    n:stop()
    sessions.assert_replays(path, b:stdout())
  end, 60))
end)
