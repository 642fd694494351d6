local sandbox = require("runtime.sandbox")
local support = require("support")

describe("a sandbox in long use", function()
  it("changes its zygote every 10 000 scripts, unnoticed", support.async(function()
    local box = sandbox.new()
    for i = 1, 20500 do
      local outcome = box:exec({ code = "return args", args = i })
      assert(outcome.ok, outcome.message)
      assert.are.equal(i, outcome.value)
    end
    local stats = box:stats()
    box:close()
    assert.are.equal(3, stats.starts)
    assert.are.equal(1, #stats.zygotes)
  end, 120))
end)
