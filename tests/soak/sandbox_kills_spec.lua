-- Processes of the sandbox that are killed under its scripts: each script has exactly one answer,
-- its own.

local async = require("runtime.async")
local jail = require("support.jail")
local uv = require("luv")

local SIGKILL = 9
local EXECUTIONS = 10000
local AT_ONCE = 8

-- Half of the scripts call, half do not.
local CODES = { "local x = f(args) return { args, x }", "return { args, args * 2 }" }

local function is_right(outcome, i)
  if outcome.ok then
    return type(outcome.value) == "table" and outcome.value[1] == i and outcome.value[2] == 2 * i
  end
  return outcome.kind == "sandbox"
end

-- Kills one of the processes: now and then the zygote.
local function kill_one(box, kills)
  local stats = box:stats()
  local list = math.random() < 0.1 and stats.zygotes or stats.children
  local pid = list[math.random(math.max(1, #list))]
  if pid then
    uv.kill(pid, SIGKILL)
    local what = list == stats.zygotes and "zygotes" or "children"
    kills[what] = kills[what] + 1
  end
end

describe("a sandbox whose processes are killed at random", function()
  it("answers each of 10 000 scripts once, and with its own result", jail.with_sandbox(function(box)
    local kills, tally = { zygotes = 0, children = 0 }, { ok = 0, sandbox = 0, answered = 0 }
    local wrong, next_one = {}, 0
    local function work()
      while next_one < EXECUTIONS do
        next_one = next_one + 1
        local i, called = next_one, 0
        local outcome = box:exec({
          code = CODES[i % 2 + 1], args = i, functions = { "f" },
          limits = { wall_ms = 60000, cpu_ms = 30000 },
          on_call = function(_, args)
            called = called + 1
            assert(args[1] == i, "a call of another script")
            if i % 4 == 0 then
              async.sleep(1)
            end
            return true, 2 * i
          end,
        })
        tally.answered = tally.answered + 1
        tally.ok = tally.ok + (outcome.ok and 1 or 0)
        tally.sandbox = tally.sandbox + (outcome.kind == "sandbox" and 1 or 0)
        if not is_right(outcome, i) or called > 1 then
          wrong[#wrong + 1] = ("%d: %s %s, called %d times"):format(i, tostring(outcome.kind),
            tostring(outcome.message), called)
        end
      end
    end
    local killer = async.spawn(function()
      while true do
        async.sleep(math.random(1, 8))
        kill_one(box, kills)
      end
    end)
    local workers = {}
    for i = 1, AT_ONCE do
      workers[i] = async.spawn(work)
    end
    for _, worker in ipairs(workers) do
      assert(worker:join())
    end
    killer:cancel()
    print(("%d killed children, %d killed zygotes: %d results, %d sandbox errors"):format(
      kills.children, kills.zygotes, tally.ok, tally.sandbox))
    assert.are.equal("", table.concat(wrong, "\n", 1, math.min(#wrong, 20)))
    assert.are.equal(EXECUTIONS, tally.answered)
    assert.are.equal(EXECUTIONS, tally.ok + tally.sandbox)
    assert.is_true(kills.children > 100 and kills.zygotes > 10)
    assert.is_true(tally.ok > EXECUTIONS / 2)
    assert.are.equal(1, jail.value_of(box, "return 1"))
  end, { timeout_s = 300 }))
end)
