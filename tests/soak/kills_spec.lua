local kills = require("support.kills")
local support = require("support")

describe("a busy host that is killed at 100 random points", function()
  it("loses no watcher, no alert that was told, and no store", support.async(function()
    assert.is_true(kills.run({ rounds = 100, longest_ms = 8000 }) > 100)
  end, 3600))
end)
