-- `beamlens reload`, against a host that answers as the spec says.

local beamlens = require("support.beamlens")
local control = require("support.control")
local control_server = require("runtime.control.server")
local support = require("support")

-- Runs it. Returns its status, stdout and stderr, and the request.
local function reload(result, err, code)
  local asked
  local server = assert(control_server.open({ warn = error, folders = { control.folder() },
    answer = function(request)
      asked = request
      return result, err, code
    end }))
  local status, stdout, stderr = beamlens.run({ "reload", "--socket", server.path },
    { timeout_ms = 60000 })
  server:close()
  return status, stdout, stderr, asked
end

describe("beamlens reload", function()
  it("tells what is in force now", support.async(function()
    local status, stdout, stderr, asked = reload({ applied = { "watchers/a.lua", "prompts/b.lua" },
      failed = {} })
    assert.are.same({ 0, "reloaded watchers/a.lua\nreloaded prompts/b.lua", "" },
      { status, stdout, stderr })
    assert.are.equal("reload", asked.command)
  end, 130))

  it("tells what is wrong, and ends with 1", support.async(function()
    local status, stdout = reload({ applied = { "a.lua" },
      failed = { { file = "b.lua", line = 7, error = "unexpected\27 symbol" },
        { file = "c.lua", error = "gone" },
        { file = "d.lua", line = 3, error = "d.lua:3: unknown field" } } })
    assert.are.equal(1, status)
    assert.are.equal("reloaded a.lua\nb.lua:7: unexpected  symbol; the old one stays in force\n"
      .. "c.lua: gone; the old one stays in force\n"
      .. "d.lua:3: unknown field; the old one stays in force", stdout)
  end, 130))

  it("says so when nothing has changed, and when the host cannot", support.async(function()
    assert.are.equal("nothing has changed", (select(2, reload({ applied = {}, failed = {} }))))
    local status, stdout, stderr = reload(nil, "not while running yet", "ENOSYS")
    assert.are.same({ 1, "", "beamlens: not while running yet\n" }, { status, stdout, stderr })
  end, 130))
end)
