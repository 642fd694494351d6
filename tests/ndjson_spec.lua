local ndjson = require("host.ndjson")

-- All lines of a text, fed in pieces of `size` bytes.
local function split(text, size)
  local lines = {}
  local splitter = ndjson.new(function(line)
    lines[#lines + 1] = line
  end)
  for at = 1, #text, size or #text do
    assert(splitter:feed(text:sub(at, at + (size or #text) - 1)))
  end
  assert(splitter:finish())
  return lines
end

describe("ndjson", function()
  it("gives each line without its end", function()
    assert.are.same({ '{"a":1}', '{"b":2}' }, split('{"a":1}\n{"b":2}\n'))
    assert.are.same({ '{"a":1}', '{"b":2}' }, split('{"a":1}\r\n{"b":2}\r\n'))
  end)

  it("skips blank lines, and cuts the space around a line", function()
    assert.are.same({ "1", "2 3" }, split("\n\r\n \t\n  1 \n\n\t2 3\t\n\n"))
    assert.are.same({}, split(""))
  end)

  it("hands over a last line that lacks its end", function()
    assert.are.same({ "1", "2" }, split("1\n2"))
  end)

  it("keeps bytes that are no line end, and characters of several bytes", function()
    assert.are.same({ "a\rb\0c", '"ü😀"' }, split('a\rb\0c\n"ü😀"\n'))
  end)

  it("gives the same lines however the bytes are cut", function()
    local text = ' {"a":"ü😀"}\r\n\n' .. ("x"):rep(3000) .. "\r\n{}\n  \nlast"
    local whole = split(text)
    assert.are.equal(4, #whole)
    for size = 1, 40 do
      assert.are.same(whole, split(text, size))
    end
  end)

  it("takes a line of 1 MiB, and refuses a longer one", function()
    local mib = ("x"):rep(1024 * 1024)
    assert.are.same({ mib }, split(mib .. "\n", 1000))
    for _, size in ipairs({ 1000, #mib + 1 }) do
      local splitter = ndjson.new(function() end)
      local ok, err, code = true, nil, nil
      for at = 1, #mib + 1, size do
        ok, err, code = splitter:feed((mib .. "x"):sub(at, at + size - 1))
      end
      assert.is_nil(ok)
      assert.are.equal("ETOOBIG", code)
      assert.is_truthy(err:find("1048576", 1, true))
      assert.are.equal("ETOOBIG", select(3, splitter:feed("\n")))
      assert.are.equal("ETOOBIG", select(3, splitter:finish()))
    end
  end)

  it("raises the handler's error, and is stopped by it", function()
    local splitter = ndjson.new(function()
      error("no more")
    end)
    assert.has_error(function()
      splitter:feed("1\n2\n")
    end)
    assert.are.equal("ECANCELED", select(3, splitter:feed("3\n")))
  end)

  it("cannot be fed by its own handler", function()
    local splitter
    local ok, err
    splitter = ndjson.new(function()
      ok, err = pcall(splitter.feed, splitter, "2\n")
    end)
    assert(splitter:feed("1\n"))
    assert.is_false(ok)
    assert.is_truthy(err:find("its own handler", 1, true))
  end)
end)
