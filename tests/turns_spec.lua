local async = require("runtime.async")
local support = require("support")
local turns = require("runtime.turns")
local uv = require("luv")

-- Has `count` tasks wait for their turn; `went` lists which went on, and in which turn of the loop.
local function wait_many(count)
  local gate, went, tasks, turn = turns.new(), {}, {}, 0
  local prepare = uv.new_prepare()
  prepare:start(function()
    turn = turn + 1
  end)
  support.on_cleanup(function()
    prepare:close()
  end)
  for i = 1, count do
    tasks[i] = async.spawn(function()
      gate:wait()
      went[#went + 1] = { i, turn }
    end, { name = "waits", detached = true })
  end
  return went, tasks, gate
end

describe("tasks that wait for a turn", function()
  it("go on in their order, never in the turn in which they asked, and a few in each",
    support.async(function()
      local went = wait_many(100)
      assert.are.equal(0, #went)
      support.wait_until(function()
        return #went == 100
      end)
      local in_turn = {}
      for i, each in ipairs(went) do
        assert.are.equal(i, each[1])
        in_turn[each[2]] = (in_turn[each[2]] or 0) + 1
        -- libuv looks at its timers twice between two looks at the sockets.
        assert.is_true(in_turn[each[2]] <= 2 * 8, in_turn[each[2]])
      end
    end))

  it("leave their place to the next ones when they are cancelled", support.async(function()
    local went, tasks, gate = wait_many(20)
    for i = 1, 19 do
      tasks[i]:cancel()
    end
    gate:wait()
    assert.are.equal(1, #went)
    assert.are.equal(20, went[1][1])
    gate:wait() -- also when nobody waited meanwhile
  end))
end)

describe("work that goes on a little later, again and again", function()
  it("leaves a turn of the loop to what else waits", support.async(function()
    local turn, turns_seen = 0, {}
    local prepare = uv.new_prepare()
    prepare:start(function()
      turn = turn + 1
    end)
    support.on_cleanup(function()
      prepare:close()
    end)
    -- Two tasks that each work for longer than the other one pauses.
    local tasks = {}
    for i = 1, 2 do
      tasks[i] = async.spawn(function()
        for _ = 1, 10 do
          local until_ns = uv.hrtime() + 4e6
          while uv.hrtime() < until_ns do
            uv.hrtime()
          end
          turns_seen[#turns_seen + 1] = turn
          async.sleep(1)
        end
      end, { detached = true })
    end
    for _, task in ipairs(tasks) do
      task:join()
    end
    local different, count = {}, 0
    for _, seen in ipairs(turns_seen) do
      count = count + (different[seen] and 0 or 1)
      different[seen] = true
    end
    -- libuv looks at its timers twice between two looks at the sockets.
    assert.is_true(count >= 5, count)
  end))
end)
