-- Goes the way of the README's section on a first watcher: a copy of watchers/beam.lua that is
-- edited while it runs, on a real node, with a model on loopback.

local node = require("support.node")
local reloading = require("support.reloading")
local support = require("support")

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

-- The README's section, and the guard in it.
local function section()
  local text = read("README.md"):match("\n## A watcher of your own\n(.-)\n## ")
  return text, assert(text:match("```lua\n(.-)```"))
end

local function replaced(text, from, to)
  local at, stop = text:find(from, 1, true)
  assert(at, from)
  return text:sub(1, at - 1) .. to .. text:sub(stop + 1)
end

describe("the README's way to a first watcher", function()
  it("is what happens", support.async(function()
    local n = node.start({ name = "newcomer1" })
    local page, guard = section()
    local wants_critical, snapshot_id = false, nil
    local h
    h = reloading.start({ ["watchers/shop.lua"] = read("watchers/beam.lua") }, {
      arguments = { "watchers/shop.lua" }, options = { "--node", n.name },
      env = { "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. n.cookie },
      reply = function(request)
        snapshot_id = request.text:match("Snapshot (%x+)") or snapshot_id
        if wants_critical then
          wants_critical = false
          return { tool = "fire_alert", input = { reason = "r", type = "other", summary = "Bad.",
            severity = "critical", snapshot_ids = { snapshot_id } } }
        end
        return { tool = "wait", input = { reason = "calm", ms = 1800000 } }
      end })
    h.b:wait_for("watcher.wait", function(event)
      return event.measurements.ms == 1800000
    end, 60000)

    -- Instructions, and a shorter wait: 1 s instead of 5 min, to see it end.
    assert.is_truthy(page:find('wait = { min = "10s", max = "5m" }', 1, true))
    local text = read("watchers/beam.lua"):gsub("  %-%- (instructions = %[%[\n)", "  %1")
      :gsub("  %-%- (Imports[^\n]*\n)  %-%- ([^\n]*\n)  %-%- (%]%],)", "  %1  %2  %3")
    text = replaced(text, '"10s", max = "30m"', '"1s", max = "1s"')
    h:write("watchers/shop.lua", text)
    assert.are.same({ "shop " .. n.name }, h:applied().changed)
    local before = #h.server.requests
    support.wait_until(function()
      return #h.server.requests > before + 1
    end, 60000, "decisions at the shorter wait")
    local system = h.server.requests[#h.server.requests].body.system[1].text
    assert.is_truthy(system:find("Imports run between 02:00 and 03:00 UTC", 1, true))
    assert.is_truthy(system:find("Bounds: 1 s to 1 s", 1, true))

    -- A guard, at a time when it is night.
    guard = replaced(guard, "hour >= 22 or hour < 6", "hour >= 0")
    text = assert(text:match("^(.*)}\n$")) .. guard .. "}\n"
    h:write("watchers/shop.lua", text)
    h:applied()
    wants_critical = true
    support.wait_until(function()
      return h.server.requests[#h.server.requests].text:find(
        "refused by the operator's guard: no critical alerts between 22:00 and 06:00 UTC", 1, true)
    end, 60000, "the guard's refusal")
    assert.are.equal(0, #h.b:all("beamlens.watcher.alert_fired"))

    h:write("watchers/shop.lua", replaced(text, "guard = ", "gard = "))
    local failed = h:failed('unknown field "gard"; did you mean "guard"?')
    local said = page:match('reload%.failed: watchers/shop%.lua:(%d+): unknown field "gard"')
    assert.are.equal(tonumber(said), failed.line)
    h:write("watchers/shop.lua", text)
    assert.are.same({}, h:applied().changed)
    wants_critical = true
    support.wait_until(function()
      return not wants_critical
    end, 60000, "another try")
    h:round()
    assert.are.equal(0, #h.b:all("beamlens.watcher.alert_fired"))
    assert.are.equal(0, #h.b:all("beamlens.watcher.hook_failed"))
    assert.are.equal(1, #h.b:all("beamlens.watcher.started"))
    h:stop()
  end, 180))
end)
