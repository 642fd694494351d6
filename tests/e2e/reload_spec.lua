-- Reloading as its user sees it: the real binary on real files that change while it runs.

local async = require("runtime.async")
local reloading = require("support.reloading")
local support = require("support")

local watcher = reloading.watcher

-- A handler that tells its version on every wait.
local function telling(text, more)
  return watcher(([[handlers = { { "tell", "beamlens.watcher.wait", function()
    require("beamlens").log(%q)
  end } }, %s]]):format(text, more or ""))
end

local function says(h, text)
  support.wait_until(function()
    return h.b:stderr():find(text, 1, true)
  end, 30000, text)
end

local function without_notice(text)
  return (text:gsub("beamlens: no model:[^\n]*\n", ""))
end

describe("a file that is saved while the host runs", function()
  it("is in force at the next decision, and the watcher keeps what it knows",
    support.async(function()
      local replies = 0
      local old, new = watcher('instructions = "Watch the old one.", '
        .. "limits = { calls_per_cycle = 1000 }"), watcher('instructions = "Watch the new one.", '
        .. "limits = { calls_per_cycle = 1000 }")
      local h = reloading.start({ ["watchers/w.lua"] = old },
        { reply = function()
          replies = replies + 1
          if replies == 1 then
            return { tool = "set_state", input = { reason = "odd", state = "observing" } }
          end
          return { tool = "wait", input = { reason = "r", ms = 1000, note = "level was 1" } }
        end })
      h:running()
      assert.is_truthy(h.server.requests[1].text:find("Watch the old one.", 1, true))
      h:write("watchers/w.lua", new)
      local applied = h:applied()
      assert.are.same({ h:path("watchers/w.lua") }, applied.files)
      assert.are.same({ "w calm" }, applied.changed)
      assert.are.same({}, applied.started)
      assert.are.same({}, applied.stopped)
      local before = #h.server.requests
      support.wait_until(function()
        return #h.server.requests > before + 1
      end, 30000, "another request")
      local last = h.server.requests[#h.server.requests]
      assert.is_truthy(last.text:find("Watch the new one.", 1, true))
      assert.is_nil(last.text:find("Watch the old one.", 1, true))
      -- The conversation goes on.
      assert.are.equal("set_state", last.body.messages[2].content[1].name)
      assert.is_true(#last.body.messages >= 7)
      assert.are.equal(1, #h.b:all("beamlens.watcher.started"))
      h:stop()
    end, 90))

  it("stays as it was when it is wrong, which is told once with file and line, and is mended",
    support.async(function()
      local h = reloading.start({ ["watchers/w.lua"] = telling("version one") })
      h:running()
      h:write("watchers/w.lua", 'return {\n  domain = "calm",\n  sampel = "1s",\n}\n')
      local failed = h:failed("sampel")
      assert.are.equal(h:path("watchers/w.lua"), failed.file)
      assert.are.equal(3, failed.line)
      assert.are.equal(h:path("watchers/w.lua")
        .. ':3: unknown field "sampel"; did you mean "sample"?', failed.error)
      h:round()
      h:write("watchers/w.lua", "return {\n  domain = ")
      assert.are.equal(2, h:failed("unexpected symbol near '<eof>'").line)
      h:write("watchers/w.lua", 'return {\n  domain = "calm",\n  prompt = "watchr",\n'
        .. '  client = "Hikou",\n}\n')
      assert.are.equal(3, h:failed('no prompt "watchr"').line)
      assert.are.equal(4, h:failed('no client "Hikou"').line)
      -- A look at all files goes by.
      h:shell("touch watchers/w.lua")
      for _ = 1, 4 do
        h:round()
      end
      assert.are.equal(4, #h.b:all("beamlens.reload.failed"))
      assert.are.equal(0, #h.b:all("beamlens.reload.applied"))
      assert.is_nil(without_notice(h.b:stderr()):gsub("beamlens: version one\n", ""):find("%S"))
      -- Back to what is in force: nothing changes, but that is said.
      h:write("watchers/w.lua", telling("version one"))
      local applied = h:applied()
      assert.are.same({ { h:path("watchers/w.lua") }, {} }, { applied.files, applied.changed })
      h:write("watchers/w.lua", telling("version two"))
      assert.are.same({ "w calm" }, h:applied().changed)
      says(h, "version two")
      assert.are.equal(1, #h.b:all("beamlens.watcher.started"))
      h:stop()
    end, 90))

  it("is left alone when its text is the same", support.async(function()
    local text = telling("same")
    local h = reloading.start({ ["watchers/w.lua"] = text })
    h:running()
    h:write("watchers/w.lua", text)
    h:shell("touch watchers/w.lua domains/calm.lua")
    h:write("watchers/second.lua", watcher())
    assert.are.same({ h:path("watchers/second.lua") }, h:applied().files)
    assert.are.equal(0, #h.b:all("beamlens.reload.failed"))
    h:stop()
  end, 60))

  it("may be written a thousand times at once, which is one reload", support.async(function()
    local h = reloading.start({ ["watchers/w.lua"] = telling("version 0") })
    h:running()
    local started_ms = async.now_ms()
    for i = 1, 1000 do
      h:write_fast("watchers/w.lua", telling("version " .. i))
    end
    local took_ms = async.now_ms() - started_ms
    says(h, "version 1000")
    -- One, and one more wherever the writer was held up for 150 ms.
    local most = 1 + math.floor(took_ms / 150)
    assert.is_true(#h.b:all("beamlens.reload.applied") <= most)
    assert.is_true(#h.b:all("beamlens.reload.applied") >= 1)
    assert.are.equal(0, #h.b:all("beamlens.reload.failed"))
    h:stop()
  end, 60))

  it("may be replaced by a rename, removed and made anew, emptied for a moment, or unreadable",
    support.async(function()
      local h = reloading.start({ ["watchers/w.lua"] = telling("version one") })
      h:running()
      h:write("watchers/.w.lua.new", telling("renamed"))
      h:shell("mv watchers/.w.lua.new watchers/w.lua")
      h:applied()
      says(h, "renamed")

      h:shell("rm watchers/w.lua")
      h:write("watchers/w.lua", telling("made anew"))
      h:applied()
      says(h, "made anew")

      h:write("watchers/w.lua", "")
      h:failed("the file returns nothing")
      h:write("watchers/w.lua", telling("no more empty"))
      h:applied()
      says(h, "no more empty")

      -- A folder in its place can be read by nobody, root included.
      h:shell("rm watchers/w.lua && mkdir watchers/w.lua")
      h:shell("rmdir watchers/w.lua")
      h:write("watchers/w.lua", telling("readable again"))
      h:applied()
      says(h, "readable again")
      assert.are.equal(1, #h.b:all("beamlens.watcher.started"))
      assert.are.equal(0, #h.b:all("beamlens.watcher.loop_stopped"))
      h:stop()
    end, 120))

  it("takes what it requires from its own folder along, and nothing of an older version stays",
    support.async(function()
      local text = telling("says: \" .. require(\"lib.words\").text() .. \""):gsub("\\\"", '"')
      local h = reloading.start({ ["watchers/w.lua"] = text,
        ["watchers/lib/words.lua"] = 'local M = {}\nfunction M.extra() end\n'
          .. 'function M.text() return "one, " .. (M.extra and "extra" or "alone") end\n'
          .. "return M\n" })
      h:running()
      says(h, "says: one, extra")
      h:write("watchers/lib/words.lua",
        'local M = {}\nfunction M.text() return "two, " .. (M.extra and "extra" or "alone") end\n'
          .. "return M\n")
      assert.are.same({ h:path("watchers/lib/words.lua") }, h:applied().files)
      says(h, "says: two, alone")
      h:stop()
    end, 60))
end)
