local loader = require("runtime.loader")
local support = require("support")
local traces = require("runtime.loader.trace")
local tree = require("support.tree")

describe("a trace", function()
  it("is current until a file that was read, or missed, is another", support.async(function()
    local root = tree.make({ ["a.lua"] = "1" })
    local trace = traces.new()
    assert.are.equal("1", trace:read(root .. "/a.lua"))
    assert.is_nil((trace:read(root .. "/b.lua")))
    assert.is_false(trace:exists(root .. "/c.lua"))
    assert.is_true(trace:exists(root))
    assert.is_true(trace:is_current())
    support.write_file(root .. "/a.lua", "1")
    assert.is_true(trace:is_current())
    support.write_file(root .. "/c.lua", "")
    assert.is_false(trace:is_current())
    os.remove(root .. "/c.lua")
    assert.is_true(trace:is_current())
    support.write_file(root .. "/a.lua", "2")
    assert.is_false(trace:is_current())

    local now = traces.new()
    now:read(root .. "/a.lua")
    now:exists(root .. "/d.lua")
    assert.are.same({ root .. "/a.lua" }, now:differences(trace))
    assert.are.same({ root .. "/a.lua" }, now:differences())
  end))
end)

describe("what a file requires", function()
  local function load_file(root, name)
    local trace = traces.new()
    return loader.run(assert(trace:read(root .. "/" .. name)), root .. "/" .. name, nil, trace)
  end

  it("lies in its own folder, is loaded once for it, and anew for another", support.async(function()
    local root = tree.make({
      ["w/a.lua"] = 'return { require("lib.x"), require("lib.x"), require("lib"), '
        .. 'require("w.lib.x") }',
      ["w/lib/x.lua"] = "return { ... }", ["w/lib/init.lua"] = 'return "init"',
    })
    local first, second = assert(load_file(root, "w/a.lua")), assert(load_file(root, "w/a.lua"))
    assert.are.equal(first[1], first[2])
    assert.are_not.equal(first[1], second[1])
    assert.are.same({ "lib.x" }, first[1])
    assert.are.equal("init", first[3])
    assert.are.same({ "w.lib.x" }, first[4])
  end))

  it("may be of the host, and not of the current folder", support.async(function()
    local root = tree.make({
      ["a.lua"] = 'return { require("runtime.units") }', ["b.lua"] = 'return require("README")',
      ["c.lua"] = 'return require("tests.reload.trace_spec")',
    })
    assert.are.equal(require("runtime.units"), assert(load_file(root, "a.lua"))[1])
    for _, name in ipairs({ "b.lua", "c.lua" }) do
      local value, err = load_file(root, name)
      assert.is_nil(value)
      assert.matches(name .. ":1: module .* not found", err)
    end
  end))

  it("is ours as long as a copy of a domain's module is not changed", support.async(function()
    local file = assert(io.open("domains/node/fields.lua"))
    local text = file:read("*a")
    file:close()
    local root = tree.make({ ["domains/a.lua"] = 'return { require("domains.node.fields") }',
      ["domains/node/fields.lua"] = text })
    local ours = require("domains.node.fields")
    assert.are.equal(ours, assert(load_file(root, "domains/a.lua"))[1])
    support.write_file(root .. "/domains/node/fields.lua", "return { changed = true }")
    assert.is_true(assert(load_file(root, "domains/a.lua"))[1].changed)
  end))

  it("is named with file and line when it is wrong", support.async(function()
    local root = tree.make({
      ["a.lua"] = 'return require("broken")', ["broken.lua"] = "local M = {}\nreturn M M",
      ["b.lua"] = 'return require("raises")', ["raises.lua"] = 'local x\nerror("boom")',
      ["c.lua"] = 'return require("writes")', ["writes.lua"] = "\nglobal = 1",
      ["d.lua"] = 'return require("e")', ["e.lua"] = '\nreturn require("f")',
      ["f.lua"] = '\n\nlocal e = require("e")\nreturn e',
    })
    for name, err in pairs({ a = "/broken%.lua:2: '<eof>' expected", b = "/raises%.lua:2: boom",
      c = '/writes%.lua:2: assignment to global "global"',
      d = '/f%.lua:3: module "e" requires itself' }) do
      local value, problem = load_file(root, name .. ".lua")
      assert.is_nil(value)
      assert.matches("^" .. root:gsub("%p", "%%%0") .. err, problem)
    end
  end))
end)
