-- Every attack ends as stated, and leaves nothing. With the limits of a policy: tests/soak.

local attacks = require("support.attacks")
local support = require("support")

local function describe_set(what, cases, missing)
  describe("the sandbox under " .. what, function()
    local function case(name, at_once)
      it(name, support.async(function()
        if not cases then
          pending(missing)
        end
        attacks.run(cases, attacks.tight_limits, at_once)
      end, 900))
    end

    case("ends every attack as stated, one after another", 1)
    case("ends every attack as stated, eight at a time", 8)
  end)
end

describe_set("attacks of its own", attacks.own())
describe_set("recorded attacks", attacks.recorded())
