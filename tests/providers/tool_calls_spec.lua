local tool_calls = require("runtime.providers.tool_calls")

local function fragment(index, id, name, arguments)
  return { index = index, id = id, ["function"] = { name = name, arguments = arguments } }
end

-- "id:name:arguments" of each call that the fragments make.
local function calls_of(...)
  local calls = tool_calls.new()
  for _, each in ipairs({ ... }) do
    calls:add(each)
  end
  local list = {}
  for i, call in ipairs(calls:finish()) do
    list[i] = ("%s:%s:%s"):format(call.id or "-", call.name or "-", call.args_text)
  end
  return list
end

describe("fragments of tool calls", function()
  it("are one call by their index", function()
    assert.are.same({ 'a:wait:{"ms":5}' }, calls_of(fragment(0, "a", "wait", ""),
      fragment(0, nil, nil, '{"ms"'), fragment(0, nil, nil, ":5}")))
    assert.are.same({ "a:wait:{}" }, calls_of(fragment(3, "a", "wait", "{}")))
  end)

  it("may be mixed", function()
    assert.are.same({ "a:x:1", "b:y:2" }, calls_of(fragment(0, "a", "x"), fragment(1, "b", "y"),
      fragment(0, nil, nil, "1"), fragment(1, nil, nil, "2")))
  end)

  it("begin a call with a new id, also at the same index and before any argument", function()
    assert.are.same({ "a:x:", "b:y:2" }, calls_of(fragment(0, "a", "x"), fragment(0, "b", "y"),
      fragment(0, nil, nil, "2")))
    assert.are.same({ "a:x:", "b:x:" }, calls_of(fragment(nil, "a", "x"),
      fragment(nil, "b", "x")))
  end)

  it("begin a call with a name after arguments", function()
    assert.are.same({ "-:x:1", "-:y:2" }, calls_of(fragment(0, nil, "x", "1"),
      fragment(0, nil, "y", "2")))
    assert.are.same({ "-:x:", "-:y:2" }, calls_of(fragment(nil, nil, "x"),
      fragment(nil, nil, "y"), fragment(nil, nil, nil, "2")))
  end)

  it("find their call by id where they have no index", function()
    assert.are.same({ "a:x:13", "b:y:2" }, calls_of(fragment(nil, "a", "x", "1"),
      fragment(nil, "b", "y", "2"), fragment(nil, "a", nil, "3")))
  end)

  it("may repeat id and name, or have them empty", function()
    assert.are.same({ "a:wait:12" }, calls_of(fragment(0, "a", "wait", "1"),
      fragment(0, "a", "wait", "2")))
    assert.are.same({ "a:wait:12" }, calls_of(fragment(0, "a", "wait", "1"),
      fragment(0, "", "", "2")))
    assert.are.same({ "a:wait:1" }, calls_of(fragment(0, "a", "wa"), fragment(0, nil, "it"),
      fragment(0, nil, nil, "1")))
  end)

  it("may have their arguments as an object, or none", function()
    local calls = tool_calls.new()
    calls:add(fragment(0, "a", "wait", { ms = 5 }))
    calls:add({ index = 1, id = "b" })
    local list = calls:finish()
    assert.are.same({ ms = 5 }, list[1].args)
    assert.are.equal(2, #list)
    assert.is_nil(list[2].name)
  end)
end)
