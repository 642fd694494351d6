-- Runs the benchmarks: beamlens lua tests/bench/run.lua [PATTERN]
--
-- Each tests/bench/NAME_bench.lua returns a function(report); report(what, value, unit, note)
-- prints a row. Figures to compare are ratios against a baseline of the same run: machines differ.

local uv = require("luv")

setmetatable(_G, nil)
package.path = "tests/?.lua;tests/?/init.lua;" .. package.path

local async = require("runtime.async")
local support = require("support")

local pattern = arg[1] or ""

local function report(what, value, unit, note)
  local text = type(value) == "number"
    and (value >= 100 and "%.0f" or value >= 1 and "%.2f" or "%.3f"):format(value)
    or tostring(value)
  print(("  %-62s %10s %-6s %s"):format(what, text, unit or "", note or ""))
  io.stdout:flush()
end

local names = {}
local scan = assert(uv.fs_scandir("tests/bench"))
for name in uv.fs_scandir_next, scan do
  local bench = name:match("^(.*)_bench%.lua$")
  if bench and bench:find(pattern, 1, true) then
    names[#names + 1] = bench
  end
end
table.sort(names)

local failed = false
for _, name in ipairs(names) do
  print(name)
  local ok, err = pcall(support.async(function()
    require("bench." .. name .. "_bench")(report)
  end, 1800))
  if not ok then
    failed = true
    print("  failed: " .. tostring(err))
  end
end
if package.loaded["support.node"] then
  async.run(package.loaded["support.node"].stop_epmd)
end
return failed and 1 or 0
