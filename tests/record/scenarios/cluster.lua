-- Three nodes that are connected and call one another, restarted in turn, one every 5 min. They are
-- ended as an operator does it, and are back at once.

local async = require("runtime.async")
local node = require("support.node")
local support = require("support")

local NAMES = { "soak_a", "soak_b", "soak_c" }
local TURN_S, TURN = 300, 1 / 6 -- and not more of the recording than that
local EXIT_MS = 30000

local function start(name)
  local n = node.start({ name = name })
  local others = {}
  for _, other in ipairs(NAMES) do
    if other ~= name then
      others[#others + 1] = ("'%s@localhost'"):format(other)
    end
  end
  n:eval(("soak_member:start([%s])."):format(table.concat(others, ", ")))
  return n
end

local function restart(nodes, index)
  nodes[index]:eval("spawn(fun() -> timer:sleep(100), init:stop() end).")
  nodes[index]:wait_exit(EXIT_MS)
  nodes[index] = start(NAMES[index])
end

return function(seconds)
  local nodes, restarts = {}, 0
  for i, name in ipairs(NAMES) do
    nodes[i] = start(name)
  end
  support.wait_until(function()
    return nodes[1]:number("length(nodes()).") == #NAMES - 1
  end, 20000, "the nodes to be connected")
  return {
    nodes = { unpack(nodes) },
    figures = {
      { name = "restarts", at_least = 5, read = function()
        return restarts
      end },
      { name = "restarts that a watcher heard of", at_least = 5, read = function(recorder)
        return recorder.events.restarted or 0
      end },
      { name = "nodes connected to each", at_least = #NAMES - 1, source = "length(nodes())." },
    },
    during = function(deadline)
      local index = 0
      while deadline:left_ms() > 0 do
        async.sleep(math.min(TURN_S, seconds * TURN) * 1000)
        restart(nodes, index % #NAMES + 1)
        index, restarts = index + 1, restarts + 1
      end
    end,
  }
end
