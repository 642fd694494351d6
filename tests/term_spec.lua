local dist = require("host.dist")
local json = require("runtime.json")
local rig = require("support.dist")
local node = require("support.node")
local support = require("support")

local atom, tuple = dist.atom, dist.tuple

-- What the node has when it gets the value, as ~0tp prints it.
local function printed(conn, value)
  local chars = assert(rig.call(conn, "io_lib", "format", { "~0tp", { value } }))
  local flat = assert(rig.call(conn, "unicode", "characters_to_binary", { chars }))
  return flat
end

local function nested(depth)
  local value = {}
  for _ = 2, depth do
    value = { value }
  end
  return value
end

describe("terms", function()
  it("arrive on a node as what they are", support.async(function()
    local conn = rig.attach(node.start({ name = "term1" }))
    local cases = {
      { 0, "0" }, { 255, "255" }, { 256, "256" }, { -1, "-1" }, { 2 ^ 31, "2147483648" },
      { -2 ^ 53, "-9007199254740992" }, { 2 ^ 62, "4611686018427387904" },
      { 2 ^ 64, "18446744073709551616" }, { -2 ^ 70, "-1180591620717411303424" },
      { 0.5, "0.5" }, { -1.25e-10, "-1.25e-10" },
      { true, "true" }, { false, "false" }, { json.null, "null" },
      { "", "<<>>" }, { "text", "<<\"text\">>" }, { "\255\0", "<<255,0>>" },
      { atom("ok"), "ok" }, { atom("Two words"), "'Two words'" }, { atom("grün"), "grün" },
      { {}, "[]" }, { { 1, "a", { 2 } }, "[1,<<\"a\">>,[2]]" },
      { tuple({}), "{}" }, { tuple({ atom("a"), { 1 } }), "{a,[1]}" },
      { { key = 1 }, "#{<<\"key\">> => 1}" }, { dist.map({}), "#{}" },
      { dist.map({ [7] = "x" }), "#{7 => <<\"x\">>}" },
      { dist.raw(dist.encode({ atom("spliced") })), "[spliced]" },
      { dist.raw("\106"), "[]" },
    }
    for _, case in ipairs(cases) do
      assert.are.equal(case[2], printed(conn, case[1]))
    end
  end))

  it("come back as what they are", support.async(function()
    local n = node.start({ name = "term2" })
    local conn = rig.attach(n)
    local function value(source)
      local bytes = n:bytes(("term_to_binary(begin %s end)."):format(source))
      local whole, err = dist.decode(bytes, n.name)
      assert(whole ~= nil, err)
      -- The same bytes, through the connection.
      local again = rig.call(conn, "erlang", "binary_to_term", { bytes })
      assert.are.equal(type(whole), type(again))
      return again
    end
    assert.are.equal(200, value("200"))
    assert.are.equal(-200, value("-200"))
    assert.are.equal(2 ^ 100, value("1 bsl 100"))
    assert.are.equal(-(2 ^ 64), value("-((1 bsl 64) + 1)"))
    assert.are.equal(2 ^ 64 + 4096, value("(1 bsl 64) + 2049"))
    assert.are.equal(1.7976931348623157e308, value("1 bsl 5000"))
    assert.are.equal(-1.7976931348623157e308, value("-(1 bsl 5000)"))
    assert.are.equal(0.1, value("0.1"))
    assert.are.equal("text", value("<<\"text\">>"))
    assert.are.equal("undefined", value("undefined"))
    assert.are.equal("grün", value("'grün'"))
    assert.are.equal(true, value("true"))
    assert.are.equal(false, value("false"))
    assert.are.equal(json.null, value("null"))
    assert.are.equal(json.null, value("nil"))
    assert.are.same({}, value("[]"))
    assert.are.same({ 97, 98 }, value("\"ab\""))
    assert.are.same({ 1, { 2 }, 1000 }, value("[1, [2], 1000]"))
    assert.are.same({ 1, tail = 2 }, value("[1 | 2]"))
    assert.are.same(dist.tuple_mt, getmetatable(value("{1, 2}")))
    assert.are.same({ "a", 2 }, value("{a, 2}"))
    assert.is_nil(getmetatable(value("[1]")))
    assert.are.same({ a = 1, b = 2, [3] = 4, ["{c,<<\"d\">>}"] = 5, ["1.5"] = 6 },
      value("#{a => 1, <<\"b\">> => 2, 3 => 4, {c, <<\"d\">>} => 5, 1.5 => 6}"))
    assert.are.equal(300, #value("lists:duplicate(300, x)"))
    assert.are.equal(300, #value("list_to_tuple(lists:seq(1, 300))"))
  end))

  it("that have no Lua type print as on their node and can be sent back", support.async(function()
    local n = node.start({ name = "term3" })
    local conn = rig.attach(n)
    n:eval("register(keep, spawn(fun() -> receive stop -> ok end end)).")
    n:eval("persistent_term:put(kept, #{pid => whereis(keep), ref => make_ref(), "
      .. "port => hd(erlang:ports()), 'fun' => fun(X) -> X + 1 end, ext => fun lists:sum/1, "
      .. "bits => <<1, 2, 5:3>>, short => <<3:2>>}).")
    local kept = rig.call(conn, "persistent_term", "get", { atom("kept") })
    for _, key in ipairs({ "pid", "ref", "port", "fun", "ext", "bits", "short" }) do
      local there = n:eval(("maps:get('%s', persistent_term:get(kept))."):format(key))
      assert.are.equal(there, tostring(kept[key]))
      assert.is_true(rig.call(conn, "erlang", "=:=", { kept[key],
        dist.raw(n:bytes(("term_to_binary(maps:get('%s', persistent_term:get(kept)))."):format(
          key))) }))
    end
    assert.are.equal(kept.pid, rig.call(conn, "erlang", "whereis", { atom("keep") }))
    assert.are_not.equal(kept.pid, rig.call(conn, "erlang", "whereis", { atom("user") }))
    assert.is_true(rig.call(conn, "erlang", "is_process_alive", { kept.pid }))
    assert.are.equal("dist.self", tostring(dist.self))
    assert.matches("^<term3@localhost%.%d+%.0>$",
      tostring((dist.decode(n:bytes("term_to_binary(self()).")))))
  end))

  it("that cannot be sent raise", function()
    local function refuses(value, text)
      local ok, err = pcall(dist.encode, value)
      assert.is_false(ok)
      assert.matches(text, err, 1, true)
    end
    refuses(0 / 0, "not finite")
    refuses(math.huge, "not finite")
    refuses(print, "function")
    refuses({ 1, nil, 3, x = 1 }, "neither a list")
    refuses({ [1] = 1, [3] = 3 }, "neither a list")
    refuses({ [true] = 1 }, "neither a list")
    refuses(dist.map({ [{}] = 1 }), "neither a list")
    refuses(tuple({ a = 1 }), "neither a list")
    refuses(io.stdout, "userdata")
    refuses(dist.self, "only to a call")
    refuses(nested(66), "64 deep")
    local cycle = {}
    cycle[1] = cycle
    refuses(cycle, "64 deep")
    assert.has_error(function()
      atom(("x"):rep(256))
    end)
    assert.has_error(function()
      dist.raw("\108\0\0")
    end)
    assert.has_error(function()
      dist.raw("\97\1\97")
    end)
  end)

  it("are read within bounds", function()
    local function refuses(bytes, text)
      local value, err, code = dist.decode(bytes)
      assert.are.same({ nil, "ETERM" }, { value, code })
      assert.matches("ETERM: not an Erlang term: " .. text, err, 1, true)
    end
    assert.are.same(nested(65), (dist.decode(dist.encode(nested(64)):gsub("^\131",
      "\131\108\0\0\0\1") .. "\106")))
    refuses("\131" .. ("\108\0\0\0\1"):rep(65) .. "\106" .. ("\106"):rep(65), "it is nested")
    refuses("\131" .. ("\108\0\0\0\1"):rep(100000), "it is nested")
    refuses("\131" .. ("\104\1"):rep(100000), "it is nested")
    refuses("", "it ends")
    refuses("\131", "it ends")
    refuses("\130\106", "it does not begin with byte 131")
    refuses("\131\106\106", "bytes follow it")
    refuses("\131\108\255\255\255\255\106", "it ends")
    refuses("\131\109\255\255\255\255x", "it ends")
    refuses("\131\116\127\255\255\255x", "it ends")
    refuses("\131\108" .. "\0\16\0\0" .. ("\106"):rep(2 ^ 20 + 1), "it has more than 1000000")
    refuses("\131\107\0\5abc", "it ends")
    refuses("\131\70\127\240\0\0\0\0\0\0", "a float is not finite")
    refuses("\131\77\0\0\0\1\9\1", "a bit string")
    refuses("\131\200", "a type of term is unknown")
    refuses("\131\104\1\80\0\0\0\10", "a type of term is unknown")
    -- A fun or an export where an integer must be: no recursion without a bound.
    refuses("\131" .. ("\113\119\1a\119\1b"):rep(100000), "there is no integer")
    refuses("\131" .. ("\112\0\0\0\99" .. ("\0"):rep(25) .. "\119\1m"):rep(100000),
      "there is no integer")
    local bytes = dist.encode({ 1, "two", { x = tuple({ 3.5, atom("y") }) } })
    for size = 0, #bytes - 1 do
      assert.is_nil((dist.decode(bytes:sub(1, size))))
    end
  end)

  it("are read compressed, too", support.async(function()
    local n = node.start({ name = "term4" })
    local function compressed(source)
      local bytes = n:bytes(("term_to_binary(begin %s end, [compressed])."):format(source))
      assert.are.equal("\131\80", bytes:sub(1, 2))
      return bytes
    end
    local rows = assert(dist.decode(compressed([[[#{pid => self(), name => <<"orders">>,
      big => 1 bsl 100, at => {N, 0.5}} || N <- lists:seq(1, 1000)] ]]), n.name))
    assert.are.equal(1000, #rows)
    assert.are.same({ 1000, 0.5 }, rows[1000].at)
    assert.are.equal("orders", rows[1000].name)
    assert.are.equal(2 ^ 100, rows[1000].big)
    assert.matches("^<0%.%d+%.0>$", tostring(rows[1000].pid))
    assert.are.equal(16 * 1024 * 1024 - 5,
      #assert(dist.decode(compressed("binary:copy(<<0>>, 16777211)"))))
  end))

  it("are inflated within bounds", support.async(function()
    local n = node.start({ name = "term4" })
    local function refuses(bytes, text)
      local value, err, code = dist.decode(bytes)
      assert.are.same({ nil, "ETERM" }, { value, code })
      assert.matches("ETERM: not an Erlang term: " .. text, err, 1, true)
    end
    local good = n:bytes("term_to_binary(lists:duplicate(100, x), [compressed]).")
    local stream = good:sub(7)
    assert.are.equal(100, #assert(dist.decode(good)))
    for size = 2, #good - 1 do
      assert.is_nil((dist.decode(good:sub(1, size))))
    end
    local function sized(size)
      return "\131\80" .. string.char(math.floor(size / 2 ^ 24), math.floor(size / 2 ^ 16) % 256,
        math.floor(size / 256) % 256, size % 256)
    end
    local says = good:byte(5) * 256 + good:byte(6)
    assert.are.equal(good, sized(says) .. stream)
    refuses(sized(says - 1) .. stream, "a compressed term does not inflate to what it says")
    refuses(sized(says + 1) .. stream, "a compressed term does not inflate to what it says")
    refuses(sized(0) .. stream, "a compressed term is empty")
    refuses(sized(16 * 1024 * 1024 + 1) .. stream, "a compressed term is too long")
    refuses(sized(2 ^ 32 - 1) .. stream, "a compressed term is too long")
    refuses(good .. "x", "bytes follow it")
    refuses(sized(says) .. "no stream", "a compressed term does not inflate to what it says")
    refuses("\131\80\0\0", "it ends in the middle of a term")
    -- What inflates to no term, to more than one, or to another compressed one.
    local function deflated(source)
      local bytes = n:bytes("zlib:compress(" .. source .. ").")
      return sized(n:number("byte_size(" .. source .. ").")) .. bytes
    end
    refuses(deflated("<<97>>"), "it ends in the middle of a term")
    refuses(deflated("<<97, 1, 97, 1>>"), "bytes follow it")
    refuses(deflated("binary:part(term_to_binary(lists:duplicate(100, x), [compressed]), 1, 20)"),
      "a type of term is unknown")
    refuses("\131\104\1" .. good:sub(2), "a type of term is unknown")
    assert.are.equal(97, assert(dist.decode(deflated("<<97, 97>>"))))
  end))
end)
