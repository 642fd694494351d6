local own_names = require("runtime.target.own_names")

describe("our own names", function()
  it("have a host part that the node accepts", function()
    for _, case in ipairs({
      { "shop@db1", "watch", "watch" },
      { "shop@db1", "watch.example.com", "watch" },
      { "shop@db1.example.com", "watch.example.com", "watch.example.com" },
      { "shop@db1.example.com", "watch", "watch.localdomain" },
      { "shop@10.0.0.5", "watch", "watch.localdomain" },
      { "shop@localhost", "watch.example.com", "localhost" },
      { "shop@::1", "watch", "::1" },
      { "shop@127.0.0.1", "watch", "127.0.0.1" },
    }) do
      assert.are.equal(case[3], own_names.host_for(case[1], case[2]), case[1])
    end
  end)

  it("are sixteen, always the same", function()
    local names = own_names.list("h")
    assert.are.equal(16, #names)
    assert.are.same({ "beamlens1@h", "beamlens16@h" }, { names[1], names[16] })
  end)
end)
