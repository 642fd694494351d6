-- A session of watchers that share samples and rules, part and come together again.

local reloading = require("support.reloading")
local sessions = require("support.sessions")
local support = require("support")

local WAIT_MS = 60000

-- Five watchers of one domain; the last three with what is given.
local function watchers(third, fourth, fifth)
  local list = {}
  for i, more in ipairs({ "", "guard = function() return nil, 'no' end", third, fourth, fifth }) do
    list[i] = ([[{ name = "w%d", domain = "calm", wait = { min = "1s", max = "1s" }, %s }]]):format(
      i, more:find("sample") and more or 'sample = "1s", ' .. more)
  end
  return ("return {\n%s\n}\n"):format(table.concat(list, ",\n"))
end

local SAME = "guard = function(action) action.args.title = 'own' return action end"
local HASTY = "rules = { level_high = { severity = 'critical' } }"

describe("a recorded session of watchers that share", function()
  it("replays to the byte, through reloads that part them and join them", support.async(function()
    local path = sessions.path()
    local first = watchers(SAME, SAME, HASTY)
    local h = reloading.start({ ["watchers/w.lua"] = first, level = "1" },
      { options = { "--record", path } })
    h:running()
    local function events(name)
      return #h.b:all("beamlens." .. name)
    end
    local function await(name, count)
      support.wait_until(function()
        return events(name) >= count
      end, WAIT_MS, name)
    end
    local sample = h.b:wait_for("sampler.sample", nil, WAIT_MS)
    assert.same({ "w1", "w2", "w3", "w4", "w5" }, sample.metadata.watchers)
    h:write("level", "50")
    await("finding.firing", 5)
    h:write("watchers/w.lua", watchers(HASTY, 'sample = "2s"', HASTY))
    h:applied()
    await("sampler.sample", events("sampler.sample") + 4)
    h:write("watchers/w.lua", watchers(SAME, SAME, SAME))
    h:applied()
    await("sampler.sample", events("sampler.sample") + 2)
    h:write("level", "1")
    await("finding.cleared", 5)
    assert.equal(1, events("watcher.alert_resolved"))
    assert.equal(0, events("rule.failed") + events("sampler.failed"))
    h:stop()
    assert.equal(5, events("finding.cleared"))
    h:write("watchers/w.lua", first)
    sessions.assert_replays(path, h.b:stdout())
  end, 300))
end)
