-- Cutting what users' files run, however they hide it.

local async = require("runtime.async")
local loader = require("runtime.loader")
local metered = require("runtime.metered")
local support = require("support")
local traces = require("runtime.loader.trace")
local tree = require("support.tree")

-- Loads a file of a case, which returns a function.
local function loaded(root, name)
  local trace = traces.new()
  local path = root .. "/" .. name
  local fn, err = loader.run(assert(trace:read(path)), path, nil, trace)
  return assert(fn, err), trace
end

local function cut(fn)
  local ok, err = metered.call({ label = "spec", limit_ms = 50 }, fn)
  assert.is_false(ok)
  assert.is_nil(debug.gethook())
  return err
end

describe("metered code", function()
  it("is cut where it stands, in what it requires, too", support.async(function()
    local root = tree.make({
      ["a.lua"] = 'local b = require("lib.b")\nreturn function()\n  b.spin()\nend\n',
      ["lib/b.lua"] = "local M = {}\nfunction M.spin()\n  while true do\n  end\nend\nreturn M\n",
      ["own.lua"] = "return function()\n  local i = 0\n  while true do i = i + 1 end\nend\n",
    })
    assert.matches("^ran longer than 50 ms, at .*/lib/b%.lua:3$", cut(loaded(root, "a.lua")))
    assert.matches("^ran longer than 50 ms, at .*/own%.lua:3$", cut(loaded(root, "own.lua")))
  end, 60))

  it("is cut although it catches errors, or compiles text", support.async(function()
    local bodies = {
      'while true do pcall(function() while true do end end) end',
      'xpcall(function() error("x") end, function() while true do end end)',
      'xpcall(function() while true do end end, function() while true do end end)',
      'coroutine.wrap(function() while true do end end)()',
      'while true do coroutine.resume(coroutine.create(function() while true do end end)) end',
      'load("while true do end")()', 'loadstring("local i = 0 while true do i = i + 1 end")()',
      'local t = setmetatable({}, { __index = function() while true do end end }) return t.x',
      'table.sort({ 1, 2, 3 }, function() while true do end end)',
      '("x"):gsub(".", function() while true do end end)',
      'local function f() return f() end return f()',
      -- Hot enough to be compiled, were the JIT on.
      'local function f(n) for i = 1, n do end end for _ = 1, 100 do f(1e3) end f(1e15)',
    }
    for _, body in ipairs(bodies) do
      local root = tree.make({ ["x.lua"] = "return function() " .. body .. " end" })
      assert.matches("^ran longer than 50 ms, at .*/x%.lua:1$", cut(loaded(root, "x.lua")))
    end
  end, 60))

  it("says how long a call ran that could not be cut",
    support.async(function()
      local root = tree.make({ ["x.lua"] = "return function(n)\n  return function()\n"
        .. '    return ("a"):rep(n):find((".-"):rep(3) .. "b")\n  end\nend' })
      local make = loaded(root, "x.lua")
      -- As long as it takes to be seen, on whatever machine this is.
      local n = 100
      local ok, err
      repeat
        n = n * 2
        ok, err = metered.call({ label = "spec", limit_ms = 50 }, make(n))
        assert(n < 1e6)
      until not ok
      assert.matches("^ran longer than 50 ms %(%d+ ms in one call that cannot be cut%), at "
        .. ".*/x%.lua:2$", err)
    end, 60))

  it("gives back what the function returns or raises, and lets it wait", support.async(function()
    assert.are.same({ true, 1, nil, 3 }, { metered.call({ label = "s", limit_ms = 50 }, function()
      async.sleep(80)
      return 1, nil, 3
    end) })
    local ok, err = metered.call({ label = "s", limit_ms = 50 }, error, "boom", 0)
    assert.is_false(ok)
    assert.matches("^boom", err)
    local wrapped = metered.wrap({ label = "s", limit_ms = 50 }, function(x)
      return assert(x, "no x")
    end)
    assert.are.equal(5, wrapped(5))
    assert.has_error(function()
      wrapped(nil)
    end)
  end))
end)

describe("a file", function()
  it("that does not end when it is loaded is cut", support.async(function()
    local value, err = loader.run("local i = 0\nwhile true do\n  i = i + 1\nend", "w.lua")
    assert.is_nil(value)
    assert.matches("^w%.lua:[23]: it ran longer than 2000 ms$", err)
  end, 60))
end)
