-- The host on a machine whose clock is set, a day forward and a day back, under it.

local control = require("support.control")
local node = require("support.node")
local support = require("support")
local wall_clock = require("support.wall")
local watch = require("support.watch")

local DAY_S = 86400
-- Longer than anything takes in this case, on the slowest machine, and shorter than a jump.
local LONG_MS = 3600000

local WATCHERS = {
  'name = "beam", domain = "beam", sample = "1s", wait = { min = "1s", max = "1s" }',
  'name = "ets", domain = "ets", sample = "1s", wait = { min = "1s", max = "1h" }',
}

-- Unix seconds of an event's own time.
local function time_of(event)
  local y, mo, d, h, mi, s = event.time:match("^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)")
  return os.time({ year = tonumber(y), month = tonumber(mo), day = tonumber(d),
    hour = tonumber(h), min = tonumber(mi), sec = tonumber(s) })
end

local function of_beam(event)
  return event.metadata.watcher == "beam"
end

-- Waits for more samples and decisions.
local function go_on(b)
  for _, name in ipairs({ "beamlens.sampler.sample", "beamlens.watcher.iteration_start" }) do
    local before = #b:all(name, of_beam)
    support.wait_until(function()
      return #b:all(name, of_beam) >= before + 2
    end, 60000, "more of " .. name)
  end
end

describe("a machine's clock that is set", function()
  it("changes the times that the host tells, and nothing that it does", support.async(function()
    local n = node.start({ name = "clock1" })
    local wall = wall_clock.new()
    local env = wall.env
    env[#env + 1] = "BEAMLENS_RUNTIME_DIR=" .. control.folder()
    env[#env + 1] = "ANTHROPIC_API_KEY=sk-spec"
    local b = watch.start({ node = n, env = env, watchers = WATCHERS,
      args = { "--client", "rules" } })
    b:wait_for("watcher.wait", nil, 60000)
    go_on(b)
    local first = time_of(b.events[1])
    for _, offset_s in ipairs({ DAY_S, -DAY_S, 0 }) do
      wall:set(offset_s)
      support.wait_until(function()
        local shown = time_of(b.events[#b.events]) - first
        return math.abs(shown - offset_s) < LONG_MS / 1000
      end, 60000, "the jump to be seen in what is told")
      go_on(b)
    end

    for _, event in ipairs(b.events) do
      for _, name in ipairs({ "duration", "busy_ms", "silent_ms", "retry_ms" }) do
        local ms = event.measurements[name]
        assert.is_true(ms == nil or (ms >= 0 and ms < LONG_MS), event.event)
      end
    end
    assert.are.equal(1, #b:all("beamlens.node.up"))
    for _, name in ipairs({ "node.down", "node.unresponsive", "watcher.crashed",
      "watcher.stalled" }) do
      assert.are.equal(0, #b:all("beamlens." .. name), name)
    end
    -- Who waits for an hour was not woken.
    assert.are.equal(1, #b:all("beamlens.watcher.wait", function(event)
      return event.metadata.watcher == "ets"
    end))
    b:kill("sigterm")
    assert.are.equal(0, b:wait_exit(60000))
    assert.are.equal("", b:stderr())
  end, 200))
end)
