local node_name = require("runtime.node_name")

describe("a node's name", function()
  it("is read with its port, and with those of a cluster", function()
    assert.same({ name = "a@h", address = "a@h", follows = false }, node_name.parse("a@h"))
    assert.same({ name = "a@h.example", address = "a@h.example:4001", follows = true },
      node_name.parse("cluster:a@h.example:4001"))
    assert.same({ name = "a@::1", address = "a@[::1]:4001", follows = false },
      node_name.parse("a@[::1]:4001"))
    assert.equal("a@h", node_name.of("a@h:9"))
    assert.equal("a@::1", node_name.of("a@[::1]:9"))
  end)

  it("is refused with what is wrong", function()
    local function err(text)
      return (select(2, node_name.parse(text)))
    end
    assert.equal('"shop" is not a node\'s name; write name@host, as node() prints it', err("shop"))
    assert.equal('"cluster:shop" names no node after "cluster:"; write cluster:name@host',
      err("cluster:shop"))
    assert.equal('"cluster:" names no node after "cluster:"; write cluster:name@host',
      err("cluster:"))
    assert.equal('"clustr:a@h" is not a node\'s name; did you mean "cluster:a@h"?',
      err("clustr:a@h"))
    assert.equal('"Cluster: a@h" is not a node\'s name; did you mean "cluster:a@h"?',
      err("Cluster: a@h"))
    assert.equal('"cluster:cluster:a@h" names no node after "cluster:"; write cluster:name@host',
      err("cluster:cluster:a@h"))
    assert.matches("has no port: one is between 1 and 65535", err("a@h:70000"))
    assert.matches("must be a node's name or a list of them, not a number", err(7))
    assert.matches("at most 255", err(("n"):rep(400) .. "@h"))
  end)

  it("of a peer is taken when it can be connected to by it", function()
    for _, good in ipairs({ "a@h", "shop-1_x@10.0.0.7", "a@db1.example.com", "a@fe80::1" }) do
      assert.is_true(node_name.is_peer(good), good)
    end
    for _, bad in ipairs({ "a", "a@", "@h", "a@h:80", "a b@h", "a@h\n", "a@h@i", "", true, 7 }) do
      assert.is_false(node_name.is_peer(bad), tostring(bad))
    end
  end)
end)
