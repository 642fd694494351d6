-- Every attack ends as stated with the limits of an ordinary policy, too.

local attacks = require("support.attacks")
local support = require("support")

local function describe_set(what, cases, missing)
  describe("a sandbox with default limits under " .. what, function()
    for at_once, words in pairs({ [1] = "one after another", [8] = "eight at a time" }) do
      it("ends every attack as stated, " .. words, support.async(function()
        if not cases then
          pending(missing)
        end
        attacks.run(cases, attacks.default_limits, at_once)
      end, 600))
    end
  end)
end

describe_set("attacks of its own", attacks.own())
describe_set("recorded attacks", attacks.recorded())
