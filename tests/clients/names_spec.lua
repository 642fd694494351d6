-- Host names, and name servers that say nothing, or nothing of use.

local private_net = require("support.private_net")
local support = require("support")

-- The longest that a case may take: a lookup without an answer takes longer still.
local CASE_S = 80

describe("a name server", function()
  for _, name in ipairs({
    "costs a request its time to connect, and no turn of the loop",
    "is a time-out for a client, which is tried again, and the next one answers",
    "holds up a bounded number of threads, and nobody else",
    "is asked once for all who need a name, and not again for a while",
    "that knows no such name, or nothing at all, fails at once",
    "that gives two addresses of which the first is a black hole leads to the second",
    "keeps no host from ending, while a request waits for it and afterwards",
    "is asked by threads that no signal reaches",
    "keeps no host from ending that looks for a node",
  }) do
    it(name, support.async(function()
      local reason = private_net.missing()
      if reason then
        pending(reason)
      end
      private_net.run("clients.names_cases", name)
    end, CASE_S))
  end
end)
