-- The systemd unit that `make install` puts in place.

local node = require("support.node")
local options = require("runtime.options")
local run = require("runtime.commands.run")
local support = require("support")
local uv = require("luv")

local SOURCE = "packaging/beamlens.service.in"

local function unit()
  local file = assert(io.open(SOURCE))
  local text = file:read("*a")
  file:close()
  return text
end

-- The value of a setting that stands once.
local function value(name)
  local found = {}
  for text in unit():gmatch("\n" .. name .. "=([^\n]*)") do
    found[#found + 1] = text
  end
  assert.are.equal(1, #found, name)
  return found[1]
end

describe("the systemd unit", function()
  it("starts a command line that `run` accepts", function()
    local program, rest = value("ExecStart"):match("^(%S+) run (.*)$")
    assert.are.equal("@PREFIX@/bin/beamlens", program)
    local args = {}
    for word in rest:gmatch("%S+") do
      args[#args + 1] = word
    end
    local parsed = assert(options.parse(args, run.options))
    assert.are.same({ "/etc/beamlens/watchers" }, { unpack(parsed) })
  end)

  it("waits for readiness, wants signs of life and starts the host again", function()
    assert.are.equal("notify", value("Type"))
    assert.are.equal("always", value("Restart"))
    assert.are.equal("/bin/kill -HUP $MAINPID", value("ExecReload"))
    assert.matches("^%d+s$", value("WatchdogSec"))
    assert.are.equal("beamlens", value("RuntimeDirectory"))
    assert.are.equal("0700", value("RuntimeDirectoryMode"))
    assert.are.equal("beamlens", value("StateDirectory"))
  end)

  it("forbids nothing that the compiler or the sandbox needs", function()
    for _, name in ipairs({ "MemoryDenyWriteExecute", "RestrictNamespaces", "NoExecPaths",
      "SystemCallFilter", "ProcSubset" }) do
      assert.is_nil(unit():find("\n" .. name .. "=", 1, true), name)
    end
  end)

  it("is one that systemd accepts", support.async(function()
    local analyze
    for _, folder in ipairs({ "/usr/bin/", "/bin/" }) do
      analyze = analyze or uv.fs_stat(folder .. "systemd-analyze") and folder .. "systemd-analyze"
    end
    if not analyze then
      pending("there is no systemd-analyze here")
      return
    end
    local folder = support.tmp_path("unit")
    uv.fs_mkdir(folder, 493)
    local path = folder .. "/beamlens.service"
    support.on_cleanup(function()
      os.remove(path)
      uv.fs_rmdir(folder)
    end)
    support.write_file(path, (unit():gsub("@PREFIX@/bin/beamlens", uv.exepath())))
    local code, text = node.run_program(analyze, { "verify", "--man=no", path },
      { "PATH=" .. os.getenv("PATH") })
    assert.are.equal(0, code, text)
    assert.is_nil(text:find("beamlens.service", 1, true), text)
  end, 60))
end)
