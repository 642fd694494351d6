-- A process group of 20 000: gen_servers below a supervisor of dynamic children come at a steady
-- rate for a third of the time, and later half of them leave. The scope of pg monitors them all.

local node = require("support.node")

local MEMBERS = 20000
local COUNT = "proplists:get_value(active, supervisor:count_children(soak_pg_sup))."

return function(seconds)
  local n = node.start({ name = "soak_pg" })
  n:eval(("soak_pg:start(#{members => %d, ramp_ms => %d, leave_after_ms => %d, leave_ms => %d}).")
    :format(MEMBERS, seconds * 1000 / 3, seconds * 1000 * 0.6, seconds * 1000 * 0.2))
  local most = 0
  return {
    nodes = { n },
    figures = {
      { name = "monitors of the scope of pg", at_least = MEMBERS,
        source = "length(element(2, erlang:process_info(whereis(soak_scope), monitors)))." },
      { name = "children of the supervisor", at_least = MEMBERS,
        source = COUNT },
      { name = "members that left", at_least = MEMBERS / 2, read = function()
        local members = n:number(COUNT)
        most = math.max(most, members)
        return most - members
      end },
    },
  }
end
