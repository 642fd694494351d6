-- How each kind of Lua value crosses: leniently as a result, strictly as an argument of a function.

local jail = require("support.jail")
local json = require("runtime.json")

local with_sandbox = jail.with_sandbox

-- Each: a Lua expression, its JSON as a result, and as an argument: the same (nil), other JSON, or
-- an error that begins with "!". `lossy` says whether the result has lost something.
local ROWS = {
  { "nil", "null" },
  { "true", "true" },
  { "0", "0" },
  { "-0.0", "0" },
  { "2^53 - 1", "9007199254740991" },
  { "-(2^53 - 1)", "-9007199254740991" },
  { "2^53", "9007199254740992" },
  { "0.1", "0.1" },
  { "1/3", "0.3333333333333333" },
  { "1e300", "1e+300" },
  { "5e-324", "4.94065645841247e-324" },
  { "0/0", '"NaN"', lossy = true },
  { "1/0", '"Infinity"', lossy = true },
  { "-1/0", '"-Infinity"', lossy = true },
  { "999999999999999LL", "999999999999999", "!contains a cdata value" },
  { "-1234567890123456LL", '"-1234567890123456"', "!contains a cdata value" },
  { "18446744073709551615ULL", '"18446744073709551615"', "!contains a cdata value" },
  { "2i", '"<cdata>"', "!contains a cdata value", lossy = true },
  { [["a\0b\1\127\n\"\\"]], [["a\u0000b\u0001]] .. "\127" .. [[\n\"\\"]] },
  { [["ä€😀"]], '"ä€😀"' },
  { [["a\255b\192\128c"]], '"a�b��c"', lossy = true },
  { [["\237\160\128"]], '"���"', lossy = true }, -- half of a surrogate pair
  { "{}", "[]" },
  { "{ 1, { 2 }, 'x' }", '[1,[2],"x"]' },
  { "{ nil, nil, 3 }", "[null,null,3]" },
  { "{ [1] = 1, [10] = 10 }", "[1,null,null,null,null,null,null,null,null,10]" },
  { "{ [1] = 1, [13] = 13 }", '{"1":1,"13":13}' },
  { "{ [0] = 0, 1 }", '{"0":0,"1":1}' },
  { "{ [-1] = 1, [1.5] = 2 }", '{"-1":1,"1.5":2}' },
  { "{ b = 1, a = 2, [3] = 3 }", '{"3":3,"a":2,"b":1}' },
  { "{ [true] = 1, [false] = 2 }", '{"false":2,"true":1}' },
  { "{ [1] = 1, ['1'] = 2, x = 3 }", "!two keys of a table print alike",
    "!two keys of a table print alike" },
  { "{ [print] = 1 }", '{"<function 0x1>":1}', "!a table key is neither text nor a number",
    lossy = true },
  { "{ [{}] = 1 }", '{"<table 0x1>":1}', "!a table key is neither text nor a number",
    lossy = true },
  { "print", '"<function>"', "!contains a function", lossy = true },
  { "coroutine.create(print)", '"<thread>"', "!contains a coroutine", lossy = true },
  { "{ null, a = null }", '{"1":null,"a":null}' },
  { "cycle", '{"t":"<cycle>"}', "!table contains a cycle", lossy = true },
  { "shared", "[[1],[1]]" },
  { "deep(32)", ("["):rep(32) .. ("]"):rep(32) },
  { "deep(33)", ("["):rep(32) .. '"<too deep>"' .. ("]"):rep(32), "!table is nested too deeply",
    lossy = true },
  { "tricky({ 1, 2 })", "[1,2]" },
  { "tricky({ a = 1 })", '{"a":1}' },
}

local PRELUDE = [[
local cycle = {} cycle.t = cycle
local one = { 1 }
local shared = { one, one }
local function deep(n) local t = {} for _ = 2, n do t = { t } end return t end
local function never() while true do end end
local function tricky(t)
  return setmetatable(t, { __index = never, __newindex = never, __len = never, __pairs = never,
    __ipairs = never, __tostring = never, __call = never, __eq = never })
end
]]

local function without_position(message)
  return (message:match("^[^\n]*"))
end

describe("a value", function()
  it("crosses as a result, replaced where it has no JSON form", with_sandbox(function(box)
    for _, row in ipairs(ROWS) do
      local outcome = jail.exec(box, PRELUDE .. "return " .. row[1])
      if row[2]:sub(1, 1) == "!" then
        assert.are.equal("result", outcome.kind, row[1])
        assert.matches(row[2]:sub(2), outcome.message, 1, true)
      else
        assert.is_true(outcome.ok, row[1] .. ": " .. tostring(outcome.message))
        assert.are.equal(row[2], (json.encode(outcome.value)), row[1])
        assert.are.equal(row.lossy or false, outcome.lossy, row[1])
      end
    end
  end))

  it("of thousands of keys crosses, sorted", with_sandbox(function(box)
    local code = "local t = {} for i = 1, %d do t[('k%%05d'):format(i * 7919 %% 10007)] = i end "
      .. "return t"
    for _, n in ipairs({ 1, 2, 3, 61, 62, 63, 1000, 9999 }) do
      local outcome = jail.exec(box, code:format(n))
      assert.is_true(outcome.ok, n .. ": " .. tostring(outcome.message))
      local count, keys = 0, {}
      for key in json.encode(outcome.value):gmatch('"(k%d+)"') do
        count = count + 1
        assert.is_true(count == 1 or keys[count - 1] < key)
        keys[count] = key
      end
      assert.are.equal(n, count)
    end
  end))

  it("crosses as an argument, or the call fails", with_sandbox(function(box)
    for _, row in ipairs(ROWS) do
      local seen, called
      local outcome = jail.exec_with(box, function(...)
        called, seen = true, (...)
        return true
      end, PRELUDE .. "local ok, err = pcall(f, " .. row[1] .. ") return err")
      assert.is_true(outcome.ok, outcome.message)
      local wanted = row[3] or row[2]
      if wanted:sub(1, 1) == "!" then
        assert.is_nil(called)
        assert.are.equal(("script:10: f: bad argument #1 (%s)"):format(wanted:sub(2)),
          without_position(outcome.value), row[1])
      else
        assert.is_true(called, row[1] .. ": " .. tostring(outcome.value))
        assert.are.equal(wanted, json.encode(seen), row[1])
      end
    end
  end))

  it("crosses into a script: null is absent in tables, null in lists, nil alone",
    with_sandbox(function(box)
      local value = { a = 1, none = json.null, list = { 1, json.null, 3 }, text = "ä\0\n",
        n = 0.1, deep = json.array({}) }
      local outcome = jail.exec_with(box, function(what)
        return true, what == "null" and json.null or value
      end, [[
        local v = f("value")
        local function same(t)
          return t.a == 1 and t.none == nil and #t.list == 3 and t.list[2] == null
            and t.text == "ä\0\n" and t.n == 0.1 and next(t.deep) == nil
        end
        return { same(v), f("null") == nil, args == null }
      ]])
      assert.are.same({ true, true, true }, outcome.value)
      assert.are.same({ true, true }, jail.value_of(box,
        "return { args.none == nil, args.list[2] == null }", { args = value }))
    end))
end)
