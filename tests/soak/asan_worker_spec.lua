-- The attacks in a worker with ASan, on a LuaJIT with ASan, assertions and API checks. Built by
-- make asan-worker. Without the jail: the sanitizer needs what that forbids.

local jail = require("support.jail")
local support = require("support")
local uv = require("luv")

local FOLDER = "build/asan-worker/"

-- The reports that a worker left, warnings aside.
local function read_reports(worker)
  local reports = {}
  local scan = assert(uv.fs_scandir(FOLDER .. worker))
  for name in uv.fs_scandir_next, scan do
    local path = FOLDER .. worker .. "/" .. name
    if name:find("^report%.") then
      local file = assert(io.open(path))
      local text = file:read("*a")
      file:close()
      os.remove(path)
      if text:find("ERROR: AddressSanitizer", 1, true) then
        reports[#reports + 1] = text
      end
    end
  end
  return reports
end

-- Runs the attacks (or one) with that worker. Returns what was printed.
local function attack(worker, name)
  local host = FOLDER .. worker .. "/beamlens"
  if not uv.fs_stat(host .. "-worker") then
    pending("make asan-worker builds it")
  end
  read_reports(worker)
  return jail.read_command(("%s lua tests/support/asan_attacks.lua %s"):format(
    jail.refusing("memory", host), name or ""), 1200000)
end

describe("the interpreter under attack", function()
  it("makes no mistake that a sanitizer or an assertion sees", support.async(function()
    local text = attack("wrapped")
    assert.are.equal("", table.concat(read_reports("wrapped"), "\n"))
    assert.matches("^%d%d%d attacks\n$", text)
  end, 1300))

  it("would be seen to write past its stack with LuaJIT's own pcall", support.async(function()
    local text = attack("raw", "pcall_as_metamethods")
    local reports = read_reports("raw")
    assert.matches("expected ok_value, got killed", text, 1, true)
    assert.is_true(#reports > 0)
    assert.matches("ERROR: AddressSanitizer: heap-buffer-overflow", reports[1], 1, true)
    assert.matches("WRITE of size 8", reports[1], 1, true)
  end, 120))
end)
