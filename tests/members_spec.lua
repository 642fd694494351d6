local members = require("runtime.members")

describe("a set of members", function()
  it("lists them in the order in which they came, whatever they are", function()
    local set, came = members.new(), {}
    for i = 1, 200 do
      came[i] = i % 2 == 0 and {} or function() end
      set:add(came[i])
    end
    set:add(came[1])
    assert.are.same(came, set:list())
    assert.is_true(set:has(came[7]))
    set:remove(came[7])
    set:remove(came[7])
    assert.is_false(set:has(came[7]))
    assert.are.equal(199, #set:list())
    set:add(came[7])
    assert.are.equal(came[7], set:list()[200])
    assert.are.same({ came[3], came[7] }, set:list(function(member)
      return member == came[7] or member == came[3]
    end))
  end)

  it("is empty when all have left", function()
    local set = members.new()
    assert.is_true(set:is_empty())
    set:add("a")
    assert.is_false(set:is_empty())
    set:remove("a")
    assert.is_true(set:is_empty())
    assert.are.same({}, set:list())
  end)
end)
