-- Runs the specs with busted inside the host: beamlens lua tests/runner.lua [PATTERN...]
--
-- A PATTERN is part of a spec's path below tests/. The long cases are in tests/soak and run only
-- when the first PATTERN begins with "soak". Ends with the line `N passed, N failed, N skipped`.
-- With BEAMLENS_TEST_SHARE=I/N it takes every Nth file from the Ith on (see tests/run-all).

local uv = require("luv")

-- busted and its libraries define globals of their own.
setmetatable(_G, nil)
package.path = "tests/?.lua;tests/?/init.lua;/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua"
package.cpath = "/usr/lib/x86_64-linux-gnu/lua/5.1/?.so"

local patterns = #arg > 0 and { unpack(arg) } or { "" }
local root = patterns[1]:find("^soak") and "tests/soak" or "tests"

local function is_wanted(path)
  for _, pattern in ipairs(patterns) do
    if path:sub(#"tests/" + 1):find(pattern, 1, true) then
      return true
    end
  end
  return false
end

local function spec_files(dir, found)
  local scan = assert(uv.fs_scandir(dir))
  for name, kind in uv.fs_scandir_next, scan do
    local path = dir .. "/" .. name
    if kind == "directory" and name ~= "soak" then
      spec_files(path, found)
    elseif name:find("_spec%.lua$") and is_wanted(path) then
      found[#found + 1] = path
    end
  end
  return found
end

local function shared_out(all)
  local first, count = (os.getenv("BEAMLENS_TEST_SHARE") or "1/1"):match("^(%d+)/(%d+)$")
  local share = {}
  for i = tonumber(first), #all, tonumber(count) do
    share[#share + 1] = all[i]
  end
  return share
end

local files = spec_files(root, {})
table.sort(files)
files = shared_out(files)
if #files == 0 then
  io.stderr:write(("no spec has %q in its path\n"):format(table.concat(patterns, " ")))
  return 2
end

local busted = require("busted.core")()
require("busted")(busted)
-- Files share the loaded modules: the native ones cannot be opened twice.
busted.register("file", "file", {})

local counts = { success = 0, failure = 0, error = 0, pending = 0 }

local function full_name(element, parent)
  local names = { element.name }
  while parent and parent.name and parent.descriptor ~= "file" do
    table.insert(names, 1, parent.name)
    parent = busted.context.parent(parent)
  end
  return table.concat(names, " ")
end

busted.subscribe({ "test", "end" }, function(element, parent, status)
  counts[status] = counts[status] + 1
  if element.duration and element.duration > 5 then
    print(("slow     %.1f s  %s"):format(element.duration, full_name(element, parent)))
  end
  return nil, true
end)

local function report(kind)
  return function(element, parent, message, trace)
    if element.descriptor ~= "it" then
      counts.error = counts.error + 1
    end
    if type(message) == "table" then
      message = message.message or require("pl.pretty").write(message)
    end
    print(("%s   %s\n%s\n%s"):format(kind, full_name(element, parent), tostring(message),
      trace and trace.traceback or ""))
    return nil, true
  end
end
busted.subscribe({ "failure" }, report("FAILED"))
busted.subscribe({ "error" }, report("ERROR "))
busted.subscribe({ "pending" }, function(element, parent, message)
  print(("skipped  %s: %s"):format(full_name(element, parent), tostring(message)))
  return nil, true
end)

local load_files = require("busted.modules.test_file_loader")(busted, { "lua" })
load_files(files, { "_spec%.lua$" }, { excludes = {} })

local started = uv.hrtime()
require("busted.execute")(busted)(1, {})

if package.loaded["support.node"] then
  require("runtime.async").run(package.loaded["support.node"].stop_epmd)
end

-- A case that is no task of its own is not watched for what it leaves open: all of them are, here.
local core = require("host.core")
local settle_until = uv.hrtime() + 2e9
collectgarbage()
collectgarbage()
while next((core.handles())) and uv.hrtime() < settle_until do
  uv.run("nowait")
end
for kind, count in pairs((core.handles())) do
  counts.error = counts.error + 1
  print(("ERROR    the run left %d handles open: %s"):format(count, kind))
end

local failed = counts.failure + counts.error
print(("%.1f s"):format((uv.hrtime() - started) / 1e9))
print(("%d passed, %d failed, %d skipped"):format(counts.success, failed, counts.pending))
return failed == 0 and 0 or 1
