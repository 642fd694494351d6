local words = require("host.words")

describe("host.words", function()
  it("finds the first of its words, whatever their case", function()
    local finder = words.new({ "token", "://", "Pass" })
    assert.are.equal(3, finder:find('{"Token":1}'))
    assert.are.equal(1, finder:find("PASSWORD token"))
    assert.are.equal(5, finder:find("http://x"))
    assert.are.equal(5, finder:find("tok token"))
    assert.are.equal(3, finder:find("--token"))
    assert.are.equal(1, finder:find("token"))
    for _, text in ipairs({ "", "t", "to", "toke", "tokEm", "//:", "\255\0toke\0n",
      "T\212oken" }) do
      assert.is_nil(finder:find(text))
    end
    assert.are.equal(3, finder:find("\0\255token\0"))
  end)

  it("finds what a look at each place finds", function()
    local list = { "aba", "bb-", "cab", "abca", "a:b" }
    local finder = words.new(list)
    local function expected(text)
      local lower, first = text:lower(), nil
      for _, word in ipairs(list) do
        local at = lower:find(word, 1, true)
        first = at and math.min(at, first or at) or first
      end
      return first
    end
    local seed, letters, found = 7, { "a", "b", "c", "A", "B", "-", ":", "\1", "\2", "!" }, 0
    for _ = 1, 5000 do
      local text = {}
      for i = 1, 14 do
        seed = (seed * 69069 + 1) % 2 ^ 32
        text[i] = letters[math.floor(seed / 2 ^ 32 * #letters) + 1]
      end
      text = table.concat(text)
      local at = expected(text)
      found = found + (at and 1 or 0)
      assert.are.equal(at, finder:find(text))
    end
    assert.is_true(found > 500 and found < 4500)
  end)

  it("refuses what are no words", function()
    for _, list in ipairs({ {}, { "ab" }, { "abc", 1 }, { ("x"):rep(65) } }) do
      assert.has_error(function()
        words.new(list)
      end)
    end
    assert.has_error(function()
      words.new("abc")
    end)
  end)
end)
