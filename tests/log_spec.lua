local clock = require("runtime.clock")
local log = require("runtime.log")
local telemetry = require("runtime.telemetry")
local texts = require("runtime.log.texts")

-- A bus, and the lines that people read of what is emitted on it.
local function listen()
  local bus, lines = telemetry.new(), {}
  log.new({ telemetry = bus, clock = clock.manual(), format = "text", key_metrics = function() end,
    extent = function()
      return { nodes = 1, up = 1, watchers = 1 }
    end, output = { is_terminal = false, write_line = function(_, line)
      lines[#lines + 1] = line:match("^%S+ (.*)$")
    end } })
  return bus, lines
end

-- The lines of these events of models: { client, kind, retryable } or a client that answers.
local function told(events)
  local bus, lines = listen()
  for _, event in ipairs(events) do
    if type(event) == "string" then
      bus:execute("beamlens.llm.stop", { duration = 1 }, { client = event })
    else
      bus:execute("beamlens.llm.exception", { duration = 1 }, { client = event[1],
        kind = event[2], retryable = event[3], message = event[2] .. "\nof " .. event[1] })
    end
  end
  return lines
end

describe("the log for people", function()
  it("tells once of a client that trying again cannot help, whoever else answers", function()
    assert.are.same({ "model Main fails: auth of Main", "model Main answers again" },
      told({ { "Main", "auth", false }, "Local", { "Main", "auth", false }, "Local", "Main",
        "Main" }))
  end)

  it("tells of other failures at the third in a row", function()
    local down = { "Main", "connect", true }
    assert.are.same({}, told({ down, down, "Main", down, down, "Main" }))
    assert.are.same({ "model Main fails: connect of Main" }, told({ down, down, down, down }))
  end)

  it("says nothing of a request that nobody waited for, or that was not made", function()
    assert.are.same({}, told({ { "Main", "cancelled", false }, { "Main", "budget", false } }))
  end)

  it("names the hook, rule or handler of a file that failed, without a traceback", function()
    local bus, lines = listen()
    local where = { watcher = "shop", domain = "beam", node = "shop@db1",
      error = "w.lua:3: odd\nstack traceback:" }
    for name, field in pairs({ ["watcher.hook_failed"] = "hook", ["rule.failed"] = "type",
      ["handler.failed"] = "handler" }) do
      where[field] = "mine"
      bus:execute("beamlens." .. name, {}, where)
      where[field] = nil
    end
    table.sort(lines)
    assert.are.same({ "[shop] handler.failed: mine w.lua:3: odd", "[shop] rule.failed: mine "
      .. "w.lua:3: odd", "[shop] watcher.hook_failed: mine w.lua:3: odd" }, lines)
  end)

  it("gives figures in words, also those that are not known yet", function()
    assert.are.same({ "memory 12.5 %", "largest table 2.0 MiB", "largest table unknown",
      "process count 1 234", "memory_basis rss" },
      { texts.metric("memory_utilization_pct", 12.5), texts.metric("largest_table_mb", 2),
        texts.metric("largest_table_mb", nil), texts.metric("process_count", 1234),
        texts.metric("memory_basis", "rss") })
  end)
end)
