-- Attaching that fails: each way with its code and what to do, and the exit status.

local async = require("runtime.async")
local node = require("support.node")
local support = require("support")
local watch = require("support.watch")

local function down(code)
  return function(event)
    return event.metadata.code == code
  end
end

-- Starts a host against `target`, waits for node.down with `code`, checks the text, and ends it.
local function check_goes_on(opts, code, pattern)
  local b = watch.start(opts)
  local event = b:wait_for("node.down", down(code))
  assert.matches(pattern, event.metadata.error)
  assert.is_nil(event.metadata.error:find("spec-cookie", 1, true))
  b:kill("sigterm")
  assert.are.equal(0, b:wait_exit())
end

local function check_refused(opts, code, pattern)
  local b = watch.start(opts)
  local event = b:wait_for("node.down", down(code))
  assert.matches(pattern, event.metadata.error)
  assert.are.equal(1, b:wait_exit())
  assert.matches(pattern, b:stderr())
end

describe("attaching", function()
  it("refuses a wrong cookie after one try and ends with 1", support.async(function()
    local n = node.start({ name = "attach1" })
    check_refused({ node = n, cookie = "not-it" }, "ECOOKIE", "cookie")
    local function tries()
      return select(2, n:log():gsub("Connection attempt", ""))
    end
    support.wait_until(function()
      return tries() > 0
    end, 15000, "what the node logs")
    assert.are.equal(1, tries())
  end))

  it("ends with 1 where no cookie is to be found", support.async(function()
    check_refused({ target = "attach1@localhost", epmd_port = node.free_port(),
      cookie = false }, "ENOCOOKIE", "no cookie: give %-%-cookie%-file FILE")
  end))

  it("goes on watching the other nodes when one refuses", support.async(function()
    local good = node.start({ name = "attach1" })
    local other = node.start({ name = "attach2", cookie = "another-cookie" })
    local b = watch.start({ node = good, target = false, watchers = {
      ('domain = "beam", sample = "1s", node = { %q, %q }'):format(other.name, good.name),
    } })
    b:wait_for("node.down", down("ECOOKIE"))
    for _ = 1, 3 do
      assert.are.equal(good.name, b:wait_for("sampler.sample").metadata.node)
    end
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit())
  end))

  it("refuses a node that calls itself otherwise, with its real name", support.async(function()
    local n = node.start({ name = "attach1" })
    check_refused({ node = n, target = "attach1@127.0.0.1" }, "ENAME", "attach1@localhost")
  end))

  it("refuses a node that speaks TLS", support.async(function()
    local n = node.start({ name = "attach1", args = node.tls_args() })
    check_refused({ node = n }, "ETLS", "TLS")
  end, 40))

  it("goes on without an epmd", support.async(function()
    check_goes_on({ target = "attach1@localhost", epmd_port = node.free_port(),
      cookie = "spec-cookie" }, "EEPMD", "epmd")
  end))

  it("goes on when the host is unknown", support.async(function()
    check_goes_on({ target = "attach1@no-such-host.invalid", epmd_port = node.start_epmd(),
      cookie = "spec-cookie" }, "EHOST", "no%-such%-host%.invalid")
  end, 40))

  it("watches an absent node until it comes, and tells which nodes there are",
    support.async(function()
      local other = node.start({ name = "attach2" })
      local b = watch.start({ node = other, target = "attach1@localhost" })
      local event = b:wait_for("node.down", down("ENODE"))
      assert.matches("attach2", event.metadata.error)
      node.start({ name = "attach1" })
      assert.are.equal("attach1@localhost", b:wait_for("node.up", nil, 20000).metadata.node)
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
    end, 40))

  it("takes the next own name when another host has the first", support.async(function()
    local n = node.start({ name = "attach1" })
    local first = watch.start({ node = n })
    assert.are.equal("beamlens1@localhost", first:wait_for("node.up").metadata.own_name)
    local second = watch.start({ node = n })
    assert.are.equal("beamlens2@localhost", second:wait_for("node.up").metadata.own_name)
    -- The first one's connection lives on.
    async.sleep(0)
    first:wait_for("sampler.sample", function(event)
      return event.time > second:all("beamlens.node.up")[1].time
    end)
    assert.are.equal(0, #first:all("beamlens.node.down"))
    for _, b in ipairs({ first, second }) do
      b:kill("sigterm")
      assert.are.equal(0, b:wait_exit())
    end
  end, 40))
end)
