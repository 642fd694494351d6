local clock = require("runtime.clock")
local log = require("runtime.log")
local node = require("support.node")
local releases = require("runtime.releases")
local support = require("support")
local targets = require("support.target")
local telemetry = require("runtime.telemetry")

-- Has other releases count as tested until the case ends.
local function tested(list)
  local before = releases.TESTED
  releases.TESTED = list
  support.on_cleanup(function()
    releases.TESTED = before
  end)
end

local function open_log()
  local bus, lines = telemetry.new(), {}
  log.new({ telemetry = bus, clock = clock.manual(), format = "text", key_metrics = function() end,
    extent = function()
      return { nodes = 1, up = 1, watchers = 1 }
    end,
    output = {
      write_line = function(_, line)
        lines[#lines + 1] = line:match("^%S+ (.*)$")
      end,
    } })
  return bus, lines
end

describe("the releases tested", function()
  it("are those that the README names", function()
    local file = assert(io.open("README.md"))
    local text = file:read("*a")
    file:close()
    local named = text:match("nodes of Erlang/OTP ([%d%s,and]+)")
    local list = {}
    for release in named:gmatch("%d+") do
      list[#list + 1] = release
    end
    assert.are.same(releases.TESTED, list)
  end)

  it("have the node's own among them here", support.async(function()
    local t, told = targets.attach(node.start({ name = "release1" }))
    assert.is_true(t:status().info.tested)
    assert.is_true(told:of("up")[1].metadata.tested)
  end))

  it("are all but this one, and the attach says so", support.async(function()
    local n = node.start({ name = "release1" })
    tested({ "1", "2" })
    local t, told = targets.attach(n)
    assert.is_false(t:status().info.tested)
    assert.is_false(told:of("up")[1].metadata.tested)
    assert.are.equal(3, t:eval("1 + 2."))

    local bus, lines = open_log()
    local up = told:of("up")[1]
    for _ = 1, 3 do
      bus:execute(up.name, up.measurements, up.metadata)
    end
    local release = n:bytes("erlang:system_info(otp_release).")
    assert.are.equal(4, #lines)
    assert.are.equal(("note OTP %s of release1@localhost is not among the releases tested (1, 2)")
      :format(release), lines[2])
  end))

  it("are not spoken of where the release is tested or not known", function()
    local bus, lines = open_log()
    assert.is_nil(releases.is_tested(nil))
    bus:execute("beamlens.node.up", { duration = 1 }, { node = "a@h" })
    bus:execute("beamlens.node.up", { duration = 1 }, { node = "b@h", otp_release = "27",
      tested = releases.is_tested("27") })
    assert.are.equal(2, #lines)
  end)
end)
