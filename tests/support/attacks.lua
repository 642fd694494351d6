-- Runs scripts that mean ill (tests/sandbox/attacks.lua, and a file of recorded ones where there is
-- one), and looks at what they leave behind.

local async = require("runtime.async")
local jail = require("support.jail")
local json = require("runtime.json")
local sandbox = require("runtime.sandbox")
local support = require("support")

local M = {}

local FOLDER = os.getenv("BEAMLENS_CASES") or "../shared/cases"
local POOL = 4
-- What a run of all attacks may leave in the host: allocators keep some.
local MAX_GROWTH_KB = 24 * 1024

-- How a kind counts.
local RESULTS = {
  syntax = "error_denied", denied = "error_denied", limit = "error_denied",
  memory = "error_memory", result = "error_memory", timeout = "error_time",
  crash = "killed", runtime = "error_runtime",
}

local FUNCTIONS = { "echo", "fail", "sleep", "big", "proc.info" }

local ANSWERS = {
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

--- What a policy has when it says nothing; a wait of 6 s is recorded as too long, though.
function M.default_limits(case)
  return case.needs and case.expect == "error_time" and { wall_ms = 5000 } or nil
end

--- What must run out of time does so early; the rest must not because the machine is busy.
function M.tight_limits(case)
  if case.expect == "error_time" then
    return { wall_ms = 1500, cpu_ms = 150 }
  end
  return { wall_ms = 240000, cpu_ms = 1500 }
end

--- The project's own attacks.
function M.own()
  local cases = require("sandbox.attacks")
  for _, case in ipairs(cases) do
    case.code = case.code or case.source()
  end
  return cases
end

--- The recorded attacks, or nil and why not.
function M.recorded()
  local file = io.open(FOLDER .. "/sandbox_attacks.jsonl")
  if not file then
    return nil, ("no %s/sandbox_attacks.jsonl; set BEAMLENS_CASES"):format(FOLDER)
  end
  local cases = {}
  for line in file:lines() do
    cases[#cases + 1] = assert(json.decode(line))
  end
  file:close()
  return cases
end

local function is_among(value, list)
  for _, item in ipairs(list or {}) do
    if item == value then
      return true
    end
  end
  return false
end

-- Runs one; returns what is wrong, or nil.
local function attack(box, case, limits)
  local outcome = box:exec({
    code = case.code,
    args = { n = 3, list = { 1, 2, 3 } },
    functions = FUNCTIONS,
    limits = limits,
    owner = case.name,
    on_call = function(name, args)
      return ANSWERS[name](unpack(args))
    end,
  })
  local result = outcome.ok and "ok_value" or RESULTS[outcome.kind]
  if result ~= case.expect and not is_among(result, case.also_ok) then
    return ("%s: expected %s, got %s (%s)"):format(case.name, case.expect, tostring(result),
      tostring(outcome.message or json.encode(outcome.value)):sub(1, 300))
  elseif outcome.ok and case.value ~= nil and outcome.value ~= case.value then
    return ("%s: returned %s"):format(case.name, json.encode(outcome.value):sub(1, 300))
  elseif #outcome.told > 1024 or #(outcome.message or "") + #outcome.told > 2047 then
    return case.name .. ": told too much"
  end
end

-- Runs an ordinary script; returns what is wrong, or nil.
local function ordinary(box, case)
  local outcome = box:exec({ code = "return args.n + #echo('four')", args = { n = 3 },
    functions = { "echo" }, on_call = function(_, args)
      return true, args[1]
    end })
  if not outcome.ok or outcome.value ~= 7 then
    return ("after %s: %s"):format(case.name, tostring(outcome.message))
  end
end

local function resident_kb()
  local file = assert(io.open("/proc/self/statm"))
  local pages = file:read("*a"):match("^%d+ (%d+)")
  file:close()
  return tonumber(pages) * 4
end

local function children_of(pid)
  local file = io.open(("/proc/%d/task/%d/children"):format(pid, pid))
  local count = 0
  for _ in (file and file:read("*a") or ""):gmatch("%d+") do
    count = count + 1
  end
  if file then
    file:close()
  end
  return count
end

-- Waits until nothing but the pool is there, as it was before.
local function wait_calm(box, fds, name)
  support.wait_until(function()
    local stats = box:stats()
    return stats.running == 0 and stats.queued == 0 and stats.memory_bytes == 0
      and stats.idle == POOL and #stats.zygotes == 1 and #stats.children == POOL
      and children_of(stats.zygotes[1]) == POOL and jail.count_fds() == fds
  end, 20000, "calm after " .. name)
end

--- Runs all cases, `at_once` of them at a time, and an ordinary script after each. Between two, or
--- at the end where there are several at a time, the host has the descriptors, processes and memory
--- that it had before. Raises with all that was wrong.
---@async
---@param cases table[]
---@param limits_of fun(case: table): table?
---@param at_once integer
function M.run(cases, limits_of, at_once)
  local box = sandbox.new({ pool = POOL })
  support.on_cleanup(function()
    box:close()
  end)
  assert(not ordinary(box, { name = "the start" }))
  local fds = jail.count_fds()
  collectgarbage()
  local kb = resident_kb()
  local wrong, ended, next_case = {}, 0, 0
  local function work()
    while next_case < #cases do
      next_case = next_case + 1
      local case = cases[next_case]
      -- Others may write while these two wait.
      local problem, aftermath = attack(box, case, limits_of(case)), ordinary(box, case)
      wrong[#wrong + 1] = problem
      wrong[#wrong + 1] = aftermath
      if at_once == 1 then
        wait_calm(box, fds, case.name)
      end
      ended = ended + 1
    end
  end
  local workers = {}
  for i = 1, at_once do
    workers[i] = async.spawn(work)
  end
  for _, worker in ipairs(workers) do
    assert(worker:join())
  end
  wait_calm(box, fds, "all attacks")
  assert(box:stats().starts == 1, "the zygote was lost")
  collectgarbage()
  collectgarbage()
  local growth = resident_kb() - kb
  assert(growth < MAX_GROWTH_KB, ("the host grew by %d KiB"):format(growth))
  assert(ended == #cases, "a case was lost")
  assert(#wrong == 0, table.concat(wrong, "\n"))
end

return M
