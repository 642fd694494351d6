local eventstream = require("host.eventstream")
local frames = require("support.frames")

local function unhex(text)
  return (text:gsub("%s", ""):gsub("%x%x", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

-- All frames of a stream, fed in pieces of `size` bytes, and how feeding ended.
local function parse(bytes, size)
  local list = {}
  local parser = eventstream.new(function(frame)
    list[#list + 1] = frame
  end)
  for at = 1, #bytes, size or #bytes do
    local ok, err, code = parser:feed(bytes:sub(at, at + (size or #bytes) - 1))
    if not ok then
      return list, code, err, parser
    end
  end
  local ok, err, code = parser:finish()
  return list, not ok and code or nil, err, parser
end

local EVENT = frames.frame({ { ":event-type", "a" } }, '{"n":1}')

describe("eventstream", function()
  it("reads the frames of the format's published examples", function()
    assert.are.same({ { headers = {}, payload = "" } },
      (parse(unhex("00000010 00000000 05c248eb 7d98c8ff"))))
    assert.are.same({ { headers = {}, payload = "{'foo':'bar'}" } }, (parse(unhex(
      "0000001d 00000000 fd528c5a 7b27666f6f273a27626172277d c3653936"))))
  end)

  it("gives headers of every type", function()
    local list, code = parse(frames.frame({
      { "yes", nil, "true" }, { "no", nil, "false" },
      { "i8", 254, "i8" }, { "i16", 0xfffe, "i16" }, { "i32", 0xfffffffe, "i32" },
      { "i64", ("\255"):rep(7) .. "\254", "i64" }, { "bytes", "\0\1", "bytes" }, { "text", "ü" },
      { "time", "\0\0" .. frames.number(1795466985123, 6), "timestamp" },
      { "uuid", unhex("0123456789abcdef0123456789abcdef"), "uuid" }, { "empty", "" },
    }, "payload"))
    assert.is_nil(code)
    assert.are.same({ { payload = "payload", headers = {
      yes = true, no = false, i8 = -2, i16 = -2, i32 = -2, i64 = -2, bytes = "\0\1", text = "ü",
      time = 1795466985123, uuid = "01234567-89ab-cdef-0123-456789abcdef", empty = "",
    } } }, list)
  end)

  it("gives the same frames however the bytes are cut", function()
    local bytes = EVENT .. frames.frame({}, ("x"):rep(5000)) .. frames.raw("", "") .. EVENT
    local whole = parse(bytes)
    assert.are.equal(4, #whole)
    for _, size in ipairs({ 1, 2, 7, 11, 12, 13, #EVENT, #EVENT + 3, 4096 }) do
      local list, code = parse(bytes, size)
      assert.is_nil(code)
      assert.are.same(whole, list)
    end
  end)

  it("detects every damaged byte, and hands nothing of that frame over", function()
    for at = 1, #EVENT do
      local byte = string.char((EVENT:byte(at) + 1) % 256)
      local bad = EVENT:sub(1, at - 1) .. byte .. EVENT:sub(at + 1)
      for _, size in ipairs({ 1, #bad }) do
        local list, code = parse(bad, size)
        assert.are.equal("ECRC", code)
        assert.are.equal(0, #list)
      end
    end
  end)

  it("hands over what came before the damage, and nothing after it", function()
    local list, code, err, parser = parse(EVENT .. EVENT:sub(1, -2) .. "\0" .. EVENT)
    assert.are.equal("ECRC", code)
    assert.is_truthy(err:find("damaged", 1, true))
    assert.are.equal(1, #list)
    assert.are.equal("ECRC", select(3, parser:feed(EVENT)))
    assert.are.equal(1, #list)
  end)

  it("refuses lengths that contradict each other, although their checksum holds", function()
    for _, case in ipairs({
      { frames.raw("", "", 15), "EFRAME" },
      { frames.raw("", "", 0), "EFRAME" },
      { frames.raw("", "abcd", 20, 5), "EFRAME" },
      { frames.raw("", "", 16 * 1024 * 1024 + 1), "ETOOBIG" },
      { frames.raw("", "", 4294967295), "ETOOBIG" },
      { frames.raw("", "", 1000000, 128 * 1024 + 1), "ETOOBIG" },
      { frames.raw("", "", 4294967295, 4294967295), "ETOOBIG" },
    }) do
      local _, code = parse(case[1])
      assert.are.equal(case[2], code)
    end
  end)

  it("refuses headers that are none", function()
    local text = frames.header("name", "value")
    for _, headers in ipairs({
      "\0\7\0\0", "\4name", "\4name\10", "\4name\7\0\5valu", "\4name\4\0\0\0", "\4name\9\0",
      "\255name", text .. "\1", text:sub(1, -2),
    }) do
      local list, code = parse(frames.raw(headers, "{}"))
      assert.are.equal("EFRAME", code)
      assert.are.equal(0, #list)
    end
  end)

  it("takes a frame of the greatest size, fed in pieces", function()
    local payload = ("x"):rep(16 * 1024 * 1024 - 16)
    local list, code = parse(frames.raw("", payload), 1024 * 1024 - 7)
    assert.is_nil(code)
    assert.is_true(list[1].payload == payload)
  end)

  it("says when the stream ends inside a frame", function()
    for _, cut in ipairs({ 1, 11, 12, 20, #EVENT - 1 }) do
      local list, code = parse(EVENT .. EVENT:sub(1, cut))
      assert.are.equal("ECUT", code)
      assert.are.equal(1, #list)
    end
    assert.is_nil(select(2, parse("")))
  end)

  it("raises the handler's error, and is stopped by it", function()
    local parser = eventstream.new(function()
      error("no more")
    end)
    assert.has_error(function()
      parser:feed(EVENT)
    end)
    assert.are.equal("ECANCELED", select(3, parser:feed(EVENT)))
  end)

  it("cannot be fed by its own handler", function()
    local parser
    local ok, err
    parser = eventstream.new(function()
      ok, err = pcall(parser.feed, parser, EVENT)
    end)
    assert(parser:feed(EVENT))
    assert.is_false(ok)
    assert.is_truthy(err:find("its own handler", 1, true))
  end)

  it("checks its arguments", function()
    assert.has_error(function()
      eventstream.new("no function")
    end)
    assert.is_nil(eventstream.new(print).__gc)
  end)
end)
