local cjson = require("cjson")
local ffi = require("ffi")
local json = require("runtime.json")
local native = require("host.json")

ffi.cdef("int snprintf(char *to, size_t size, const char *format, ...);")

local function deep(levels)
  local t = {}
  for _ = 1, levels do
    t = { t }
  end
  return t
end

describe("json.encode", function()
  it("prints whole numbers plainly and others with the fewest exact digits", function()
    assert.are.equal("[0,0]", (json.encode({ 0, -0.0 })))
    local cases = {
      [1] = "1", [-7] = "-7", [0.1] = "0.1", [1 / 3] = "0.3333333333333333",
      [1795466985123] = "1795466985123", [2 ^ 53 - 1] = "9007199254740991",
      [2 ^ 53] = "9007199254740992", [2 ^ 63] = "9.223372036854776e+18",
      [5e-324] = "4.94065645841247e-324", [1e300] = "1e+300",
    }
    for number, text in pairs(cases) do
      assert.are.equal(text, (json.encode(number)))
    end
  end)

  it("prints each fraction as printf does, with the fewest digits that read as it", function()
    local buffer = ffi.new("char[64]")
    local function expected(number)
      for digits = 15, 17 do
        ffi.C.snprintf(buffer, 64, ("%%.%dg"):format(digits), ffi.cast("double", number))
        local text = ffi.string(buffer)
        if tonumber(text) == number then
          return text
        end
      end
    end
    local seed = 20261126
    local function random(below)
      seed = (seed * 69069 + 1) % 2 ^ 32
      return math.floor(seed / 2 ^ 32 * below)
    end
    local function check(number)
      local text = expected(number)
      if text ~= json.encode(number) or "-" .. text ~= json.encode(-number) then
        assert.are.equal(text, (json.encode(number)))
        assert.are.equal("-" .. text, (json.encode(-number)))
      end
    end
    for _ = 1, 5000 do
      local fraction = (random(2 ^ 32) + random(2 ^ 21) / 2 ^ 21) / 2 ^ 32
      check((fraction + 1e-9) * 10 ^ (random(24) - 8))
      check((random(1e9) + 0.5) / 10 ^ random(9))
      check(random(1e6) + 1 / (random(1e6) + 2))
      check((random(2 ^ 31) * 2 + 1) / 2 ^ (1 + random(60)))
    end
    for exponent = -6, 16 do
      local power = 10 ^ exponent
      for _, factor in ipairs({ 1 - 2 ^ -53, 1 - 2 ^ -52, 1, 1 + 2 ^ -52, 1 + 2 ^ -51 }) do
        if power * factor % 1 ~= 0 then
          check(power * factor)
        end
      end
    end
  end)

  it("escapes a character alike wherever it stands", function()
    local escaped = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\0"] = "\\u0000",
      ["\31"] = "\\u001f", [" "] = " ", ["!"] = "!", ["#"] = "#", ["["] = "[", ["]"] = "]",
      ["\127"] = "\127", ["é"] = "é", ["\255"] = "\239\191\189", ["\128"] = "\239\191\189" }
    for character, text in pairs(escaped) do
      for before = 0, 17 do
        for after = 0, 9 do
          local lead, tail = ("a"):rep(before), ("~"):rep(after)
          assert.are.equal('"' .. lead .. text .. tail .. '"',
            (json.encode(lead .. character .. tail)))
        end
      end
    end
  end)

  it("prints an object by parts as it does in one piece", function()
    local kept = { "b", { a = 1 } }
    local object = { z = kept, a = 1, m = json.null, ['quo"te'] = "x", l = json.array({}),
      o = json.object({}), t = { nested = kept }, f = false }
    local whole = json.encode(object)
    local function joined(value)
      return table.concat(json.pieces(value))
    end
    assert.are.equal(whole, joined(object))
    assert.are.equal('["b",{"a":1}]', json.encode_once(kept))
    assert.are.equal(whole, joined(object))
    assert.are.equal("{}", joined({}))
    local list = { list = { 1, kept, json.null, {}, { kept }, "x" }, none = {}, last = { kept } }
    assert.are.equal(json.encode(list), joined(list))
    local holes = { holes = { kept, nil, kept, n = 1 }, gap = { nil, kept },
      object = json.object({ kept }) }
    assert.are.equal(json.encode(holes), joined(holes))
    assert.are.equal(json.encode({ 1, 2 }), joined({ 1, 2 }))
  end)

  it("says what it replaced", function()
    local cyclic = {}
    cyclic.self = cyclic
    local cases = {
      { 0 / 0, '"NaN"' }, { 1 / 0, '"Infinity"' }, { -1 / 0, '"-Infinity"' },
      { print, '"<function>"' }, { coroutine.create(print), '"<thread>"' },
      { io.stdout, '"<userdata>"' }, { cyclic, '{"self":"<cycle>"}' },
      { "a\255b\192\128", '"a\239\191\189b\239\191\189\239\191\189"' },
      { { [{}] = 1 }, '{"<table 0x1>":1}' }, { { [1] = 1, ["1"] = 2, x = 3 }, nil },
      { require("ffi").new("int"), '"<cdata>"' },
    }
    for _, case in ipairs(cases) do
      local text, lossy = native.encode(case[1])
      assert.is_true(lossy)
      if case[2] then
        assert.are.equal(case[2], text)
      end
    end
    assert.is_false(select(2, native.encode({ 1, "a", true, json.null })))
  end)

  it("cuts below 128 levels", function()
    assert.are.equal(("["):rep(128) .. '"<too deep>"' .. ("]"):rep(128), (json.encode(deep(200))))
  end)

  it("escapes controls and keeps all valid text", function()
    assert.are.equal('"\\"\\\\/\\n\\r\\t\\b\\f\\u0000\\u001f\127"',
      (json.encode('"\\/\n\r\t\b\f\0\31\127')))
    local text = "ä€😀\u{10ffff}\u{fffd}"
    assert.are.equal('"' .. text .. '"', (json.encode(text)))
    local wrong_ones = { "\237\160\128", "\244\144\128\128", "\224\128\128", "\226\130", "\128" }
    for _, wrong in ipairs(wrong_ones) do
      assert.are.equal("\239\191\189", json.encode(wrong):match("^\"(\239\191\189)"))
      assert.is_true(select(2, native.encode(wrong)))
    end
  end)

  it("tells arrays from objects, and fills holes with null", function()
    assert.are.equal("[]", (json.encode({})))
    assert.are.equal("[1,2,3]", (json.encode({ 1, 2, 3 })))
    assert.are.equal("[1,null,3]", (json.encode({ 1, nil, 3 })))
    assert.are.equal('{"1":1,"1000":2}', (json.encode({ [1] = 1, [1000] = 2 })))
    assert.are.equal('{"-1":1,"0":0,"1.5":2,"true":3}',
      (json.encode({ [-1] = 1, [0] = 0, [1.5] = 2, [true] = 3 })))
  end)

  it("prints marked tables as marked, at any depth", function()
    assert.are.equal('{"a":{},"b":[]}',
      (json.encode({ a = json.object({}), b = json.array({}) })))
    assert.are.equal('{"1":"x"}', (json.encode(json.object({ "x" }))))
  end)

  it("sorts the keys of objects", function()
    local t = {}
    for i = 1, 100 do
      t["k" .. (i * 37 % 100)] = { z = 1, a = 2 }
    end
    local text = json.encode(t)
    local previous = ""
    for key, inner in text:gmatch('"(k%d+)":(%b{})') do
      assert.is_true(previous < key)
      assert.are.equal('{"a":2,"z":1}', inner)
      previous = key
    end
    assert.are.equal("k99", previous)
  end)

  it("runs no metamethod", function()
    local function fail()
      error("a metamethod ran")
    end
    local mt = { __index = fail, __len = fail, __pairs = fail, __ipairs = fail, __tostring = fail }
    assert.are.equal('[1,2]', (json.encode(setmetatable({ 1, 2 }, mt))))
  end)

  it("prints 64-bit integers as numbers while they are exact, then as text", function()
    assert.are.equal('[123456789012345,"1234567890123456789","18446744073709551615"]',
      (json.encode({ 123456789012345LL, 1234567890123456789LL, 18446744073709551615ULL })))
  end)
end)

describe("json.encode_strict", function()
  it("encodes what survives", function()
    assert.are.equal('{"a":[1,"x",null]}', json.encode_strict({ a = { 1, "x", json.null } }))
  end)

  it("refuses the rest with a reason", function()
    local cyclic = {}
    cyclic[1] = cyclic
    local cases = {
      { print, "a function" }, { { { io.stdout } }, "a userdata" }, { cyclic, "a cycle" },
      { { [{}] = 1 }, "table key" }, { deep(200), "too deeply" }, { 1LL, "cdata" },
      { { [1] = 1, ["1"] = 2, x = 3 }, "print alike" },
    }
    for _, case in ipairs(cases) do
      local text, err, code = json.encode_strict(case[1])
      assert.is_nil(text)
      assert.matches(case[2], err, 1, true)
      assert.are.equal("EJSON", code)
    end
  end)
end)

describe("json.decode", function()
  it("has one null, that of lua-cjson", function()
    assert.are.equal(cjson.null, json.null)
    assert.are.equal(json.null, json.decode("null"))
    assert.are.same({ 1, json.null, { a = json.null } }, json.decode('[1,null,{"a":null}]'))
  end)

  it("returns an error for what is not JSON, and never raises", function()
    local wrong = {
      "", "{", "[1,]", "nul", "NaN", '"\\x"', "{1:2}", "1 2", ("["):rep(200), 5, nil, {},
    }
    for i = 1, 12 do
      local value, err, code = json.decode(wrong[i])
      assert.is_nil(value)
      assert.matches("^EJSON: ", err)
      assert.are.equal("EJSON", code)
    end
  end)

  it("keeps false apart from an error", function()
    assert.is_false(json.decode("false"))
    assert.is_nil(select(2, json.decode("false")))
  end)
end)

describe("the sandbox's decoder", function()
  it("reads what the encoder writes", function()
    local values = {
      { a = { 1, 2.5, -3e-7, "ä\0\n\"" }, b = true, c = { d = {} } }, "😀", 0, false,
      { json.null, { x = json.null } },
    }
    for _, value in ipairs(values) do
      local text = json.encode(value)
      assert.are.same(value, native.decode(text))
      assert.are.equal(text, (json.encode(native.decode(text))))
    end
    assert.are.equal(json.null, native.decode(" null "))
    assert.are.equal("ä😀/", native.decode('"\\u00e4\\ud83d\\ude00\\/"'))
  end)

  it("refuses all else and says where", function()
    local cases = {
      { "", "ends too early" }, { "[1", "expected , or ]" }, { '{"a" 1}', "expected :" },
      { "{a:1}", "expected a key" }, { "01", "text after" }, { "1.", "bad number" },
      { "1e999", "out of range" }, { "-", "bad number" }, { '"\\u12g4"', "escape" },
      { '"\\ud800"', "surrogate" }, { '"\\udc00\\ud800"', "surrogate" }, { '"a', "does not end" },
      { '"\1"', "control" }, { '"\255"', "UTF-8" }, { "trux", "unexpected" },
      { "[1]]", "text after" },
      { ("["):rep(129) .. ("]"):rep(129), "too deeply" },
    }
    for _, case in ipairs(cases) do
      local value, err = native.decode(case[1])
      assert.is_nil(value)
      assert.matches(case[2], err, 1, true)
    end
    assert.are.equal("EJSON: unexpected character at byte 5", select(2, native.decode("[1, trux]")))
  end)
end)
