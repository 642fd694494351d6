-- Runs all attacks in the host beside which it is started: HOST lua tests/support/asan_attacks.lua
-- [NAME]. Prints what is wrong. For a worker with sanitizers, which is slow.

setmetatable(_G, nil)
package.path = "tests/?.lua;tests/?/init.lua;" .. package.path

local attacks = require("support.attacks")
local support = require("support")

local AT_ONCE = 2

local function limits_of(case)
  if case.expect == "error_time" then
    return { wall_ms = case.needs and 5000 or 30000, cpu_ms = 500 }
  end
  return { wall_ms = 300000, cpu_ms = 200000 }
end

local cases = {}
for _, set in ipairs({ attacks.own(), attacks.recorded() or {} }) do
  for _, case in ipairs(set) do
    if not arg[1] or case.name == arg[1] then
      cases[#cases + 1] = case
    end
  end
end
local ok, err = pcall(support.async(function()
  attacks.run(cases, limits_of, AT_ONCE)
end, 3600))
print(("%d attacks"):format(#cases))
if not ok then
  print(err)
end
return ok and 0 or 1
