-- Reloading of whole folders: files that come and go, trees that are swapped, signals.

local reloading = require("support.reloading")
local support = require("support")

local watcher = reloading.watcher

local function stopped(h, name)
  return h.b:wait_for("watcher.loop_stopped", function(event)
    return event.metadata.watcher == name
  end, 30000).metadata
end

local function started(h, name)
  return h.b:wait_for("watcher.started", function(event)
    return event.metadata.watcher == name
  end, 30000).metadata
end

describe("a folder of watchers", function()
  it("starts what is new in it, and ends what is removed, with its alerts", support.async(function()
    local h = reloading.start({ ["watchers/one.lua"] = watcher() })
    h:running()
    h:write("watchers/two.lua", watcher('node = "other"'))
    assert.are.same({ "two other" }, h:applied().started)
    started(h, "two")
    h:write("level", "50")
    local alert = h.b:wait_for("watcher.alert_fired", function(event)
      return event.metadata.watcher == "two"
    end, 30000).metadata.alert
    h:shell("rm watchers/two.lua")
    local applied = h:applied()
    assert.are.same({ "two other" }, applied.stopped)
    assert.are.same({ h:path("watchers/two.lua") }, applied.files)
    assert.are.equal("removed", stopped(h, "two").reason)
    local resolved = h.b:wait_for("watcher.alert_resolved", function(event)
      return event.metadata.alert.id == alert.id
    end, 30000)
    assert.are.equal("policy", resolved.metadata.alert.resolved_by)
    assert.are.equal(1, #h.b:all("beamlens.watcher.loop_stopped"))
    h:stop()
  end, 60))

  it("tells of a new file that is wrong, starts it when it is mended, and ignores an editor's own",
    support.async(function()
      local h = reloading.start({ ["watchers/one.lua"] = watcher() })
      h:running()
      h:shell("ln -s nobody@nowhere.1234 watchers/.#two.lua")
      h:write("watchers/.two.lua.swp", "not Lua")
      h:write("watchers/two.lua~", "not Lua")
      h:write("watchers/two.lua", "return { domain = 'clam' }")
      local failed = h:failed("two.lua:1:")
      assert.is_truthy(failed.error:find('no domain "clam"; did you mean "calm"?', 1, true))
      h:write("watchers/two.lua", watcher())
      assert.are.same({ "two calm" }, h:applied().started)
      assert.are.equal(1, #h.b:all("beamlens.reload.failed"))
      h:stop()
    end, 60))

  it("may be moved in at once, and its watchers go on while it is away", support.async(function()
    local h = reloading.start({ ["watchers/one.lua"] = watcher(), ["watchers/two.lua"] = watcher(),
      ["next/two.lua"] = watcher('instructions = "Another."'), ["next/three.lua"] = watcher() })
    h:running()
    h:shell("mv watchers old")
    h:failed("no such file or folder, so its watchers go on")
    h:shell("mv next watchers")
    -- What is gone is looked for once more before it ends, so there may be two steps.
    local all = { changed = {}, started = {}, stopped = {} }
    support.wait_until(function()
      for _, event in ipairs(h.b:all("beamlens.reload.applied")) do
        for kind, names in pairs(all) do
          for _, name in ipairs(event.metadata[kind]) do
            names[name] = true
          end
        end
      end
      return all.stopped["one calm"] and all.started["three calm"]
    end, 30000, "all of it")
    assert.are.same({ ["two calm"] = true }, all.changed)
    assert.are.same({ ["three calm"] = true }, all.started)
    assert.are.same({ ["one calm"] = true }, all.stopped)
    stopped(h, "one")
    started(h, "three")
    h:stop()
  end, 60))

  it("may be changed by git checkout, watchers and domains together", support.async(function()
    local files = { ["watchers/one.lua"] = watcher(), ["watchers/two.lua"] = watcher() }
    local h = reloading.start(files)
    local git = "git -c user.name=spec -c user.email=spec@localhost -c init.defaultBranch=main "
    h:shell(git .. "init -q && git add watchers domains && " .. git .. "commit -q -m one")
    h.b:wait_for("watcher.wait", function(event)
      return event.metadata.watcher == "two"
    end, 30000)
    h:shell("git checkout -q -b other && rm watchers/two.lua")
    -- `other` renames the domain's rule, changes a watcher, and has a third one for a second.
    h:shell("sed -i s/level_high/level_rising/ domains/calm.lua")
    h:write("watchers/one.lua", watcher('rules = { level_rising = { severity = "critical" } }'))
    h:write("watchers/three.lua", watcher())
    h:shell("git add -A && " .. git .. "commit -q -m two")
    support.wait_until(function()
      return #h.b:all("beamlens.watcher.loop_stopped") == 1
        and #h.b:all("beamlens.watcher.started") == 3
    end, 30000, "the other branch")
    h:write("level", "50")
    local alert = h.b:wait_for("watcher.alert_fired", nil, 30000).metadata.alert
    assert.are.equal("level_rising", alert.type)
    h:shell("git checkout -q main")
    support.wait_until(function()
      return #h.b:all("beamlens.watcher.loop_stopped") == 2
        and #h.b:all("beamlens.watcher.started") == 4
    end, 30000, "the first branch")
    h.b:wait_for("watcher.alert_fired", function(event)
      return event.metadata.alert.type == "level_high"
    end, 30000)
    assert.are.equal("policy", h.b:wait_for("watcher.alert_resolved", function(event)
      return event.metadata.alert.id == alert.id
    end, 30000).metadata.alert.resolved_by)
    assert.are.equal(0, #h.b:all("beamlens.reload.failed"))
    h:stop()
  end, 90))

  it("may be a ConfigMap, whose files are swapped by a link to a link", support.async(function()
    local h = reloading.start({ ["cm/..v1/beam.lua"] = watcher('instructions = "One."'),
      ["cm/..v2/beam.lua"] = watcher('instructions = "Two."'), ["cm/..v3/beam.lua"] = "return {",
      ["cm/..v4/beam.lua"] = watcher('instructions = "Four."') }, { arguments = {},
        prepare = "ln -s ..v1 cm/..data && ln -s ..data/beam.lua cm/beam.lua && "
          .. "mkdir etc && ln -s ../cm/beam.lua etc/linked.lua",
        options = { "cm", "etc/linked.lua" } })
    h:running()
    local function swap(version)
      h:shell(("ln -s ..v%d cm/..data_tmp && mv -T cm/..data_tmp cm/..data"):format(version))
    end
    swap(2)
    assert.are.same({ "beam calm", "linked calm" }, h:applied().changed)
    h:shell("rm -r cm/..v1")
    swap(3)
    assert.are.equal(1, h:failed("cm/beam.lua:1:").line)
    h:failed("etc/linked.lua:1:")
    swap(4)
    assert.are.same({ "beam calm", "linked calm" }, h:applied().changed)
    assert.are.equal(2, #h.b:all("beamlens.watcher.started"))
    h:stop()
  end, 90))
end)

describe("SIGHUP", function()
  it("reads all files, and says again what is still wrong", support.async(function()
    local h = reloading.start({ ["watchers/one.lua"] = watcher() })
    h:running()
    h:write("watchers/one.lua", "return {")
    h:failed("one.lua:1:")
    h.b:kill("sighup")
    support.wait_until(function()
      return #h.b:all("beamlens.reload.failed") == 2
    end, 30000, "the same failure again")
    h:write("watchers/one.lua", watcher('instructions = "Mended."'))
    h:applied()
    h.b:kill("sighup")
    h:round()
    assert.are.equal(1, #h.b:all("beamlens.reload.applied"))
    h:stop()
  end, 60))
end)
