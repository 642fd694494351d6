local hints = require("runtime.providers.hints")

-- Fri, 01 Jan 2027 00:00:00 GMT
local NOW_MS = 1798761600000

local function after(headers, status)
  return (hints.retry_after_ms(status or 429, headers, NOW_MS))
end

describe("retry-after", function()
  for _, case in ipairs({
    { "41", 41000 }, { "1.5", 1500 }, { "6m0s", 360000 }, { "174ms", 174 }, { "1h2m3.5s", 3723500 },
    { "Fri, 01 Jan 2027 00:01:00 GMT", 60000 },
    { "Friday, 01-Jan-27 00:01:00 GMT", 60000 },
    { "Fri Jan  1 00:01:00 2027", 60000 },
    { "2027-01-01T00:00:30Z", 30000 }, { "2027-01-01T00:00:30.5Z", 30500 },
    { "2027-01-01T01:00:30+01:00", 30000 }, { "2026-12-31T23:00:30-01:00", 30000 },
    { "1798761612", 12000 }, { "1798761612500", 12500 }, { "86400", 86400000 },
    { "999999999", 999999999000 },
  }) do
    it("may be " .. case[1], function()
      assert.are.equal(case[2], after({ ["retry-after"] = case[1] }))
    end)
  end

  for _, text in ipairs({ "0", "-5", "soon", "", "nan", "inf", "1e999", "1.2.3", "5 s", "ms", "5x",
    "Thu, 31 Dec 2026 23:59:59 GMT", "Fri, 01 Foo 2027 00:01:00 GMT", "2026-12-31T23:59:59Z",
    "2027-01-01T00:00:30" }) do
    it("says nothing with " .. (text == "" and "no text" or text), function()
      assert.is_nil(after({ ["retry-after"] = text }))
    end)
  end

  it("is not asked where milliseconds are given, unless they are none", function()
    assert.are.equal(250, after({ ["retry-after-ms"] = "250", ["retry-after"] = "9" }))
    assert.are.equal(9000, after({ ["retry-after-ms"] = "0", ["retry-after"] = "9" }))
    assert.are.equal(9000, after({ ["retry-after-ms"] = "x", ["retry-after"] = "9" }))
  end)

  it("is known from the limit that is spent", function()
    assert.are.equal(360000, after({ ["x-ratelimit-remaining-tokens"] = "0",
      ["x-ratelimit-reset-tokens"] = "6m0s", ["x-ratelimit-remaining-requests"] = "7",
      ["x-ratelimit-reset-requests"] = "12m0s" }))
    assert.are.equal(30000, after({ ["anthropic-ratelimit-requests-remaining"] = "0",
      ["anthropic-ratelimit-requests-reset"] = "2027-01-01T00:00:30Z",
      ["anthropic-ratelimit-tokens-remaining"] = "0",
      ["anthropic-ratelimit-tokens-reset"] = "2027-01-01T00:00:20Z" }))
    assert.are.equal(5000, after({ ["ratelimit-remaining"] = "0", ["ratelimit-reset"] = "5" }))
    assert.are.equal(5000, after({ ["x-ratelimit-remaining"] = "0",
      ["x-ratelimit-reset"] = "1798761605000" }))
  end)

  it("is not known from a limit that is not spent, or is not the error", function()
    local headers = { ["x-ratelimit-remaining-tokens"] = "0", ["x-ratelimit-reset-tokens"] = "6s" }
    assert.is_nil(after(headers, 500))
    headers["x-ratelimit-remaining-tokens"] = "-1"
    assert.is_nil(after(headers))
    assert.is_nil(after({ ["x-ratelimit-remaining-tokens"] = "0" }))
  end)
end)
