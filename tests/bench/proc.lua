-- What /proc says of a process.

local M = {}

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function kib(pid, name)
  return tonumber(read(("/proc/%d/status"):format(pid)):match(name .. ":%s*(%d+) kB"))
end

--- Resident memory in MiB.
function M.rss_mb(pid)
  return kib(pid, "VmRSS") / 1024
end

--- By how many MiB the resident memory of a process rose at most while `fn` ran.
function M.peak_growth_mb(pid, fn)
  local file = assert(io.open(("/proc/%d/clear_refs"):format(pid), "w"))
  file:write("5") -- the peak is what there is now
  file:close()
  local before = kib(pid, "VmRSS")
  fn()
  return math.max(0, kib(pid, "VmHWM") - before) / 1024
end

--- Seconds of processor time that a process took so far.
function M.cpu_s(pid)
  local fields = read(("/proc/%d/stat"):format(pid)):match("^.*%) (.*)$")
  local values = {}
  for value in fields:gmatch("%S+") do
    values[#values + 1] = tonumber(value) or value
  end
  return (values[12] + values[13]) / 100
end

return M
