-- A name server that falls silent while its answers are still in use.

local private_net = require("support.private_net")
local support = require("support")

describe("a name server", function()
  local name = "that falls silent leaves the last addresses in use"
  it(name, support.async(function()
    local reason = private_net.missing()
    if reason then
      pending(reason)
    end
    private_net.run("clients.names_cases", name)
  end, 160))
end)
