local strict = require("runtime.strict")

describe("strict globals", function()
  it("refuse to be read or written undeclared, and name which", function()
    local globals = { known = 1 }
    strict.lock(globals)
    assert.are.equal(1, globals.known)
    assert.has_error(function()
      return globals.unknown
    end, 'undeclared global "unknown"')
    assert.has_error(function()
      globals.unknown = 1
    end, 'assignment to undeclared global "unknown"')
  end)

  it("let libraries be opened that set a global of their name", function()
    local program = "local lpeg = require('lpeg') return lpeg.match(lpeg.P('a'), 'a') == 2 "
      .. "and rawget(_G, 'lpeg') == nil and 0 or 1"
    local support = require("support")
    local path = support.write_file(support.tmp_path("strict.lua"), program)
    local binary = require("luv").exepath()
    assert.are.equal(0, os.execute(("%q lua %q"):format(binary, path)))
    os.remove(path)
  end)
end)
