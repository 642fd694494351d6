local ids = require("runtime.ids")

describe("ids", function()
  it("has 16 hexadecimal digits unless told otherwise", function()
    assert.is_truthy(ids.hex():match("^%x+$"))
    assert.equal(16, #ids.hex())
    assert.equal(32, #ids.hex(32))
    assert.equal(5, #ids.hex(5))
  end)

  it("does not repeat and uses every digit", function()
    local seen, digits = {}, {}
    for _ = 1, 1000 do
      local id = ids.hex()
      assert.is_nil(seen[id])
      seen[id] = true
      for digit in id:gmatch(".") do
        digits[digit] = true
      end
    end
    for digit in ("0123456789abcdef"):gmatch(".") do
      assert.is_true(digits[digit])
    end
  end)

  it("refuses a length that is none", function()
    assert.has_error(function()
      ids.hex(0)
    end, "an id has a whole number of digits, at least 1")
    assert.has_error(function()
      ids.hex(1.5)
    end)
  end)
end)
