local options = require("runtime.options")

local KNOWN = {
  node = { arg = "NAME", doc = "" },
  ["for"] = { arg = "TIME", doc = "", parse = options.duration },
  log = { arg = "text|json", doc = "", parse = options.one_of({ "text", "json" }) },
  iterations = { arg = "N", doc = "", parse = options.count },
  json = { doc = "" },
}

describe("options", function()
  it("splits options and positional arguments", function()
    local found = assert(options.parse({ "a.lua", "--node", "x@h", "--for=30s", "--json", "b.lua",
      "--", "--not-an-option" }, KNOWN))
    assert.are.same({ "a.lua", "b.lua", "--not-an-option", node = "x@h", ["for"] = 30000,
      json = true }, found)
  end)

  it("says what is wrong", function()
    local function problem(...)
      return select(2, options.parse({ ... }, KNOWN))
    end
    assert.are.equal('unknown option --nod; did you mean "node"?', problem("--nod", "x"))
    assert.are.equal("--node needs a value: --node NAME", problem("--node"))
    assert.are.equal('--log: "xml" is not one of: text, json', problem("--log", "xml"))
    assert.are.equal('--iterations: "0" is not a positive whole number',
      problem("--iterations", "0"))
    assert.matches("^%-%-for: .* is not a duration", problem("--for", "soon"))
  end)
end)
