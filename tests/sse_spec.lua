local sse = require("host.sse")

-- All events of a text, fed in pieces of `size` bytes.
local function parse(text, size)
  local events = {}
  local parser = sse.new(function(event)
    events[#events + 1] = { event.event, event.data }
  end)
  for at = 1, #text, size or #text do
    assert(parser:feed(text:sub(at, at + (size or #text) - 1)))
  end
  assert(parser:finish())
  return events
end

describe("sse", function()
  it("gives events with their names and data", function()
    assert.are.same({ { "ping", "{}" }, { "message", "a" } },
      parse("event: ping\ndata: {}\n\ndata: a\n\n"))
  end)

  it("knows every line end, also mixed", function()
    local expected = { { "a", "1" }, { "b", "2" } }
    assert.are.same(expected, parse("event: a\r\ndata: 1\r\n\r\nevent: b\r\ndata: 2\r\n\r\n"))
    assert.are.same(expected, parse("event: a\rdata: 1\r\revent: b\rdata: 2\r\r"))
    assert.are.same(expected, parse("event: a\ndata: 1\r\n\nevent: b\rdata: 2\n\r\n"))
  end)

  it("joins data lines, and takes one space after the colon away", function()
    assert.are.same({ { "message", "a\n b\nc" } }, parse("data:a\ndata:  b\ndata: c\n\n"))
  end)

  it("ignores comments, ids, retries, unknown fields and events without data", function()
    assert.are.same({ { "message", "x" } }, parse(
      ": hello\nid: 1\nretry: 5\nfoo: bar\nfoo\n\nevent: empty\n\ndata:\n\ndata\n\n:\ndata: x\n\n"))
  end)

  it("keeps data that looks like a comment: that is for the reader to judge", function()
    assert.are.same({ { "message", ": keepalive" } }, parse("data: : keepalive\n\n"))
  end)

  it("forgets the name of an event that had no data", function()
    assert.are.same({ { "message", "x" } }, parse("event: a\n\ndata: x\n\n"))
  end)

  it("skips a byte order mark at the start only", function()
    assert.are.same({ { "message", "x" } }, parse("\239\187\191data: x\n\n"))
    assert.are.same({ { "message", "x" } }, parse("\239\187\191data: x\n\n", 1))
    assert.are.same({}, parse("\n\239\187\191data: x\n\n"))
  end)

  it("hands over a last event that lacks its blank line or its line end", function()
    assert.are.same({ { "message", "x" } }, parse("data: x\n"))
    assert.are.same({ { "message", "x" } }, parse("data: x"))
  end)

  it("gives the same events however the bytes are cut", function()
    local text = ": c\r\nevent: délta\r\ndata: {\"t\":\"😀 ü\"}   \r\n\r\ndata: 1\rdata: 2\n\n"
      .. "event: e\ndata: z"
    local expected = parse(text)
    assert.are.equal(3, #expected)
    for size = 1, #text do
      assert.are.same(expected, parse(text, size))
    end
  end)

  it("refuses an event of more than 1 MiB, in one line or in many, and stays refusing", function()
    local line = "data: " .. ("x"):rep(1000) .. "\n"
    local parser = sse.new(function() end)
    local ok, err, code = parser:feed(line:rep(1100))
    assert.is_nil(ok)
    assert.are.equal("ETOOBIG", code)
    assert.are.equal("ETOOBIG: an event of the stream has more than 1048576 bytes", err)
    assert.are.equal("ETOOBIG", select(3, parser:feed("\n\n")))

    local long = sse.new(function() end)
    for _ = 1, 1000 do
      assert(long:feed(("x"):rep(1000)))
    end
    assert.are.equal("ETOOBIG", select(3, long:feed(("x"):rep(100000))))
  end)

  it("takes any number of events that are small enough", function()
    local count = 0
    local parser = sse.new(function()
      count = count + 1
    end)
    for _ = 1, 3000 do
      assert(parser:feed("data: " .. ("x"):rep(1000) .. "\n\n"))
    end
    assert.are.equal(3000, count)
  end)

  it("raises what its handler raises, and is then stopped", function()
    local parser = sse.new(function()
      error("no", 0)
    end)
    local ok, err = pcall(parser.feed, parser, "data: x\n\n")
    assert.is_false(ok)
    assert.are.equal("no", err)
    assert.are.equal("ECANCELED", select(3, parser:feed("data: y\n\n")))
  end)

  it("cannot be fed by its own handler", function()
    local parser
    parser = sse.new(function()
      parser:feed("data: y\n\n")
    end)
    local ok, err = pcall(parser.feed, parser, "data: x\n\n")
    assert.is_false(ok)
    assert.is_truthy(err:find("used by its own handler"))
  end)
end)
