-- What a reload changes in watchers that run, and what it leaves alone.

local node = require("support.node")
local reloading = require("support.reloading")
local support = require("support")

local watcher = reloading.watcher

-- A domain whose callback tells its version, once a file of the case is there.
local GATED = [[
local beamlens = require("beamlens")
return {
  name = "calm", target = "none", title = "Calm", description = %q,
  metrics = { { name = "level", type = "integer" } },
  snapshot = function() return { level = 1 } end,
  callbacks = { { name = "calm_version", params = {},
    returns = { { name = "v", type = "integer" } },
    doc = "Tells the version.", run = function()
      local gate
      repeat
        beamlens.sleep(20)
        gate = io.open(%q)
      until gate
      gate:close()
      return { v = %d }
    end } },
  rules = {},
}
]]

local function requests_after(h, count, more)
  support.wait_until(function()
    return #h.server.requests >= count + more
  end, 30000, "further requests; it said: " .. h.b:stderr())
  return h.server.requests[#h.server.requests]
end

local function wait_reply(ms)
  return { tool = "wait", input = { reason = "calm", ms = ms or 1000 } }
end

describe("a reload", function()
  it("lets a script and a request that run end under the old code", support.async(function()
    local executed
    local h
    h = reloading.start({ ["watchers/w.lua"] = watcher(),
      ["domains/calm.lua"] = function(root)
        return GATED:format("version one", root .. "/gate", 1)
      end }, {
      reply = function(request, index)
        if index == 1 or index == 3 then
          return { tool = "execute", input = { reason = "r", code = "return calm_version().v" } }
        end
        executed = request.text
        local reply = wait_reply()
        reply.delay_ms = index == 2 and 2000 or 0
        return reply
      end })
    h.b:wait_for("watcher.execute_start", nil, 30000)
    h:write("domains/calm.lua", GATED:format("version two", h:path("gate"), 2))
    local applied = h:applied()
    assert.are.same({ h:path("watchers/../domains/calm.lua") }, applied.files)
    assert.are.same({ "w calm" }, applied.changed)
    h:write("gate", "open")
    assert.are.equal(1, h.b:wait_for("watcher.execute_complete", nil, 30000).metadata.value)

    -- The second request is under way: its answer is acted upon, although its client is gone.
    support.wait_until(function()
      return #h.server.requests == 2
    end, 30000, "the second request")
    assert.is_truthy(executed:find("version two", 1, true))
    h:write("clients.lua", h:registry("limits = { usd_per_day = 1 }"))
    h:applied()
    h.b:wait_for("watcher.wait", nil, 30000)
    support.wait_until(function()
      return #h.b:all("beamlens.watcher.execute_complete") == 2
    end, 30000, "the second script")
    assert.are.equal(2, h.b:all("beamlens.watcher.execute_complete")[2].metadata.value)
    assert.are.equal(0, #h.b:all("beamlens.llm.exception"))
    assert.are.equal(1, #h.b:all("beamlens.watcher.started"))
    h:stop()
  end, 90))

  it("of the client registry and of prices counts from the next request", support.async(function()
    local h = reloading.start({ ["watchers/w.lua"] = watcher() }, { reply = function()
      return wait_reply()
    end })
    h:running()
    local registry = h:registry()
    h:write("clients.lua", (registry:gsub('model = "[^"]*"', 'model = "own-model"')))
    assert.are.same({ h:path("watchers/../clients.lua") }, h:applied().files)
    h.b:wait_for("llm.stop", function(event)
      return event.metadata.model == "own-model" and event.measurements.cost_usd == nil
    end, 30000)
    h:write("prices.lua", 'return { ["own-model"] = { input = 10, output = 10 } }')
    assert.are.same({ h:path("watchers/../prices.lua") }, h:applied().files)
    h.b:wait_for("llm.stop", function(event)
      return event.measurements.cost_usd == 750 * 10 / 1e6
    end, 30000)

    h:write("prices.lua", 'return { ["own-model"] = { inptu = 10, output = 10 } }')
    h:failed('prices.lua:1: model "own-model": unknown field "inptu"; did you mean "input"?')
    h:write("clients.lua", 'return { clients = { { name = "Main", provider = "x" } } }')
    assert.is_truthy(h:failed("clients.lua:1:").error)
    local last = requests_after(h, #h.server.requests, 2)
    assert.are.equal("own-model", last.body.model)
    assert.are.equal(0, #h.b:all("beamlens.llm.exception"))

    -- A client that a watcher names and that goes: that watcher goes on with what it has.
    h:write("prices.lua", "return {}")
    h:write("clients.lua", registry)
    h:applied()
    h:write("watchers/w.lua", watcher('client = "Main"'))
    h:applied()
    h:write("clients.lua", (registry:gsub('"Main"', '"Other"')))
    assert.are.equal(h:path("watchers/w.lua"), h:failed('no client "Main"').file)
    requests_after(h, #h.server.requests, 2)
    h:write("watchers/w.lua", watcher('client = "Other"'))
    h:applied(function(metadata)
      return metadata.changed[1]
    end)
    h.b:wait_for("llm.stop", function(event)
      return event.metadata.client == "Other"
    end, 30000)
    h:stop()
  end, 120))

  it("of a prompt is seen by the next request, and a wrong one is named with its line",
    support.async(function()
      local h = reloading.start({ ["watchers/w.lua"] = watcher('prompt = "short"'),
        ["prompts/short.lua"] = 'return { name = "short", description = "d",\n'
          .. "  template = [[Prompt one of {{ domain.name }}]] }" },
        { reply = function()
          return wait_reply()
        end })
      h:running()
      assert.are.equal("Prompt one of calm", h.server.requests[1].body.system[1].text)
      h:write("prompts/short.lua", 'return { name = "short", description = "d",\n'
        .. "  template = [[\nPrompt two of\n{{ domian.name }}]] }")
      local failed = h:failed("unknown variable `domian.name`")
      assert.are.equal(4, failed.line)
      assert.are.equal(h:path("watchers/../prompts/short.lua"), failed.file)
      h:write("prompts/short.lua", 'return { name = "short", description = "d",\n'
        .. "  template = [[Prompt two of {{ domain.name }}]] }")
      h:applied()
      support.wait_until(function()
        return h.server.requests[#h.server.requests].body.system[1].text == "Prompt two of calm"
      end, 30000, "the new prompt")
      h:stop()
    end, 60))

  it("changes cadence, wait, rules, mutes and limits of a watcher that waits, and keeps its alert",
    support.async(function()
      local h = reloading.start({ ["watchers/w.lua"] = watcher():gsub('max = "1s"', 'max = "30m"'),
        level = "50" }, { reply = function()
          return wait_reply(1800000)
        end })
      local alert = h.b:wait_for("watcher.alert_fired", nil, 30000).metadata.alert
      h.b:wait_for("watcher.wait", function(event)
        return event.measurements.ms == 1800000
      end, 30000)
      -- A shorter longest wait ends one that would be too long.
      h:write("watchers/w.lua", watcher('limits = { tokens_per_hour = 100000 }'))
      h:applied()
      local last
      support.wait_until(function()
        last = h.server.requests[#h.server.requests]
        return last.text:find("Budget left", 1, true)
          and last.text:find("files were reloaded", 1, true)
      end, 60000, "a decision after the reload")
      assert.is_truthy(last.text:find(alert.id, 1, true))
      assert.are.equal(0, #h.b:all("beamlens.watcher.alert_resolved"))

      h:write("watchers/w.lua", watcher("rules = { level_high = { enabled = false } }"))
      h:applied()
      assert.are.equal("policy",
        h.b:wait_for("watcher.alert_resolved", nil, 30000).metadata.alert.resolved_by)

      h:write("watchers/w.lua", watcher('mute = { { from = "00:00", to = "00:00" } }'))
      h:applied()
      h.b:wait_for("finding.firing", function(event)
        return event.metadata.finding.muted
      end, 30000)
      local fired = #h.b:all("beamlens.watcher.alert_fired")
      local samples = #h.b:all("beamlens.sampler.sample")
      support.wait_until(function()
        return #h.b:all("beamlens.sampler.sample") >= samples + 2
      end, 30000, "two more samples")
      assert.are.equal(fired, #h.b:all("beamlens.watcher.alert_fired"))
      h:write("watchers/w.lua", watcher())
      h:applied()
      local again = h.b:wait_for("watcher.alert_fired", function(event)
        return event.metadata.cause == "reopened"
      end, 30000).metadata.alert
      assert.are.equal(alert.id, again.id)

      h:write("watchers/w.lua", (watcher():gsub('sample = "1s"', 'sample = "1h"')))
      h:applied()
      assert.are.equal(1, #h.b:all("beamlens.watcher.started"))
      h:stop()
    end, 120))

  it("renames, adds and removes watchers of a list, and moves one to another node",
    support.async(function()
      local function list(...)
        local parts = {}
        for i, item in ipairs({ ... }) do
          parts[i] = ('{ name = %q, node = %q, domain = "calm", sample = "1s" }'):format(item[1],
            item[2])
        end
        return "return {\n" .. table.concat(parts, ",\n") .. "\n}\n"
      end
      local h = reloading.start({ ["watchers/w.lua"] = list({ "a", "n1" }, { "b", "n1" }) })
      h:running()
      h:write("watchers/w.lua", list({ "a", "n1" }, { "c", "n1" }))
      local applied = h:applied()
      assert.are.same({ "a n1" }, applied.changed)
      assert.are.same({ "c n1" }, applied.started)
      assert.are.same({ "b n1" }, applied.stopped)
      h:write("watchers/w.lua", list({ "a", "n2" }, { "c", "n1" }))
      applied = h:applied()
      assert.are.same({ "c n1" }, applied.changed)
      assert.are.same({ "a n2" }, applied.started)
      assert.are.same({ "a n1" }, applied.stopped)
      h.b:wait_for("sampler.sample", function(event)
        return event.metadata.node == "n2"
      end, 30000)
      -- Two of one name on one node are a mistake of the file that brings the second one.
      h:write("watchers/x.lua", list({ "c", "n1" }, { "d", "n1" }))
      assert.are.equal(h:path("watchers/x.lua"),
        h:failed("watcher c on n1 is defined twice").file)
      h:write("watchers/x.lua", list({ "d", "n1" }))
      assert.are.same({ "d n1" }, h:applied().started)
      -- Two files may change places.
      h:write("watchers/x.lua", list({ "c", "n1" }))
      h:write("watchers/w.lua", list({ "a", "n2" }, { "d", "n1" }))
      support.wait_until(function()
        local last = h.b:all("beamlens.reload.applied")
        return #last[#last].metadata.changed == 3
      end, 30000, "the swap")
      h:stop()
    end, 90))

  it("swaps handlers and hooks, and takes a domain's modules in its thread along",
    support.async(function()
      local function handled(word)
        return watcher(([[handlers = {
          { "t", "beamlens.sampler.sample", function() require("beamlens").log(%q) end } },
          on_state = function(_, to) require("beamlens").log(%q .. to) end]]):format(
          "handler " .. word, "state " .. word .. " "))
      end
      local function module(word)
        return ("return { level = function() return %s end }"):format(word)
      end
      local h = reloading.start({ ["watchers/w.lua"] = handled("one"),
        ["domains/tank/level.lua"] = module("1"),
        ["domains/calm.lua"] = reloading.CALM:format("x"):gsub("local file = .-return { level",
          'local level = require("beamlens").work("tank.level", "level")\n    return { level') })
      local function says(text)
        support.wait_until(function()
          return h.b:stderr():find(text, 1, true)
        end, 30000, text)
      end
      says("handler one")
      h:write("watchers/w.lua", handled("two"))
      h:applied()
      says("handler two")
      local _, before = h.b:stderr():gsub("handler one", "")
      h:write("domains/tank/level.lua", module("50"))
      assert.are.same({ h:path("watchers/../domains/tank/level.lua") }, h:applied().files)
      h.b:wait_for("watcher.alert_fired", nil, 30000)
      says("state two warning")
      local _, after = h.b:stderr():gsub("handler one", "")
      assert.are.equal(before, after)
      h:stop()
    end, 60))

  it("keeps the connection to a node, and the alert of a rule on it", support.async(function()
    local n = node.start({ name = "reload1" })
    local rule = [[rules = { { type = "spec_rule", severity = "warning", hold = "0s",
      when = function() return { subject = "s", value = 1 } end } }]]
    local function beam(more)
      return ('return { domain = "beam", node = %q, sample = "1s", %s }'):format(n.name, more)
    end
    local h = reloading.start({ ["watchers/beam.lua"] = beam(rule) }, { env = {
      "ERL_EPMD_PORT=" .. n.epmd_port, "BEAMLENS_COOKIE=" .. n.cookie } })
    local alert = h.b:wait_for("watcher.alert_fired", nil, 60000).metadata.alert
    h:write("watchers/beam.lua", beam(rule .. ', instructions = "Look.", wait = { max = "1m" }'))
    assert.are.same({ "beam " .. n.name }, h:applied().changed)
    local samples = #h.b:all("beamlens.sampler.sample")
    support.wait_until(function()
      return #h.b:all("beamlens.sampler.sample") >= samples + 2
    end, 30000, "further samples")
    assert.are.equal(1, #h.b:all("beamlens.node.up"))
    assert.are.equal(0, #h.b:all("beamlens.watcher.alert_resolved"))
    h:write("watchers/ets.lua", beam(""):gsub('"beam"', '"ets"'))
    assert.are.same({ "ets " .. n.name }, h:applied().started)
    h.b:wait_for("sampler.sample", function(event)
      return event.metadata.watcher == "ets"
    end, 30000)
    h:shell("rm watchers/beam.lua")
    assert.are.same({ "beam " .. n.name }, h:applied().stopped)
    local resolved = h.b:wait_for("watcher.alert_resolved", nil, 30000).metadata.alert
    assert.are.equal(alert.id, resolved.id)
    assert.are.equal("policy", resolved.resolved_by)
    assert.are.equal(1, #h.b:all("beamlens.node.up"))
    h:stop()
  end, 120))

  it("tries a node again at once that refused us, with the cookie that the file names now",
    support.async(function()
      local n = node.start({ name = "reload2" })
      local function beam(cookie)
        return ('return { { name = "calm", domain = "calm" }, { name = "beam", domain = "beam", '
          .. 'node = %q, sample = "1s", cookie_file = %q } }'):format(n.name, cookie)
      end
      local h = reloading.start({ ["watchers/w.lua"] = "return {}" }, { env = {
        "ERL_EPMD_PORT=" .. n.epmd_port }, prepare = "echo wrong > wrong && echo " .. n.cookie
          .. " > right && chmod 400 wrong right",
        before = function(own)
          own:write("watchers/w.lua", beam(own:path("wrong")))
        end })
      local down = h.b:wait_for("node.down", nil, 30000)
      assert.are.equal("ECOOKIE", down.metadata.code)
      assert.is_true(down.measurements.retry_ms >= 600000)
      h:write("watchers/w.lua", beam(h:path("right")))
      assert.are.same({ "beam " .. n.name, "calm calm" }, (function(list)
        table.sort(list)
        return list
      end)(h:applied().changed))
      h.b:wait_for("node.up", nil, 30000)
      h:stop()
    end, 60))
end)
