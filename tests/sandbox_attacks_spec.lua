-- Every recorded attack on the sandbox ends as stated, eight at a time, and the host goes on.

local async = require("runtime.async")
local json = require("runtime.json")
local sandbox = require("runtime.sandbox")
local support = require("support")

local FOLDER = os.getenv("BEAMLENS_CASES") or "../shared/cases"
local AT_ONCE = 8
local MEMORY_BYTES = 64 * 1024 ^ 2

-- What must run out of time does so early; the rest must not because the machine is busy.
local SHORT = { wall_ms = 1500, cpu_ms = 1200, memory_bytes = MEMORY_BYTES, callbacks = 100 }
local LONG = { wall_ms = 15000, cpu_ms = 8000, memory_bytes = MEMORY_BYTES, callbacks = 100 }

-- How a kind counts in the file.
local EXPECTATIONS = {
  syntax = "error_denied", denied = "error_denied", limit = "error_denied",
  memory = "error_memory", result = "error_memory", timeout = "error_time",
  crash = "killed", runtime = "error_runtime",
}

local HOST_FUNCTIONS = {
  echo = function(...)
    return true, ...
  end,
  fail = function()
    return nil, "no such process"
  end,
  sleep = function(ms)
    async.sleep(ms)
    return true
  end,
  big = function(n)
    return true, ("x"):rep(n)
  end,
  ["proc.info"] = function()
    return true, { pid = "<0.1.0>", memory = 1000, links = { 1, json.null, 3 } }
  end,
}

local function read_cases()
  local file = io.open(FOLDER .. "/sandbox_attacks.jsonl")
  if not file then
    return nil
  end
  local cases = {}
  for line in file:lines() do
    cases[#cases + 1] = assert(json.decode(line))
  end
  file:close()
  return cases
end

local function run(box, case)
  return box:exec({
    code = case.code,
    args = { n = 3, list = { 1, 2, 3 } },
    functions = { "echo", "fail", "sleep", "big", "proc.info" },
    limits = case.expect == "error_time" and SHORT or LONG,
    on_call = function(name, args)
      return HOST_FUNCTIONS[name](unpack(args))
    end,
  })
end

local function fits(case, result)
  if result == case.expect then
    return true
  end
  for _, other in ipairs(case.also_ok or {}) do
    if result == other then
      return true
    end
  end
  return false
end

describe("the sandbox under attack", function()
  local cases = read_cases()
  if not cases then
    it("ends every recorded attack as stated", function()
      pending(("no %s/sandbox_attacks.jsonl; set BEAMLENS_CASES"):format(FOLDER))
    end)
    return
  end

  it("ends every recorded attack as stated", support.async(function()
    local box = sandbox.new({ pool = 4 })
    local wrong, ended, next_case = {}, 0, 0
    local function work()
      while next_case < #cases do
        next_case = next_case + 1
        local case = cases[next_case]
        local outcome = run(box, case)
        local result = outcome.ok and "ok_value" or EXPECTATIONS[outcome.kind]
        ended = ended + 1
        if not fits(case, result) then
          wrong[#wrong + 1] = ("%s: expected %s, got %s (%s)"):format(case.name, case.expect,
            tostring(result), tostring(outcome.message))
        end
      end
    end
    local workers = {}
    for i = 1, AT_ONCE do
      workers[i] = async.spawn(work)
    end
    for _, worker in ipairs(workers) do
      assert(worker:join())
    end
    local after = box:exec({ code = "return 1 + 1" })
    box:close()
    assert.are.equal("", table.concat(wrong, "\n"))
    assert.are.equal(#cases, ended)
    assert.are.equal(2, after.value)
  end, 60))
end)
