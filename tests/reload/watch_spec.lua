-- What is noticed of files that change, with and without the events of the filesystem.

local async = require("runtime.async")
local support = require("support")
local tree = require("support.tree")
local watch = require("runtime.reload.watch")

-- Counts the calls. `look_ms`: so long that only events can be seen, unless it is given.
local function watched(files, listings, look_ms)
  local t = { count = 0 }
  t.watch = watch.new({ look_ms = look_ms or 3600000, on_change = function()
    t.count = t.count + 1
  end })
  support.on_cleanup(function()
    t.watch:close()
  end)
  t.watch:set(files, listings or {})
  function t.notices(what, change)
    local before = t.count
    change()
    support.wait_until(function()
      return t.count > before
    end, 20000, what)
    t.watch:set(files, listings or {})
  end
  return t
end

local function shell(root, command)
  assert(os.execute(("cd '%s' && %s"):format(root, command)) == 0, command)
end

describe("watching files", function()
  it("notices writes, renames, removals, new files and new folders by their events",
    support.async(function()
      local root = tree.make({ ["w/a.lua"] = "1" })
      local t = watched({ root .. "/w/a.lua", root .. "/later/deep/b.lua" }, { root .. "/w" })
      for what, command in pairs({
        write = "echo 2 > w/a.lua", touch = "touch w/a.lua",
        rename = "echo 3 > w/tmp && mv w/tmp w/a.lua",
        new = "echo > w/c.lua",
      }) do
        t.notices(what, function()
          shell(root, command)
        end)
      end
      t.notices("remove", function()
        shell(root, "rm w/a.lua")
      end)
      t.notices("a folder that appears", function()
        shell(root, "mkdir later")
      end)
      t.notices("a folder in it", function()
        shell(root, "mkdir later/deep")
      end)
      t.notices("a file in that", function()
        shell(root, "echo > later/deep/b.lua")
      end)
      t.notices("a folder that is moved away", function()
        shell(root, "mv w old")
      end)
      t.notices("one that takes its place", function()
        shell(root, "mv old w")
      end)
      t.notices("a write in that", function()
        shell(root, "echo 4 > w/c.lua")
      end)
    end, 120))

  it("follows links to links, to their ends and to each swap", support.async(function()
    local root = tree.make({ ["cm/v1/a.lua"] = "1", ["cm/v2/a.lua"] = "2", ["cm/v3/a.lua"] = "3" })
    shell(root, "ln -s v1 cm/data && ln -s data/a.lua cm/a.lua && mkdir etc && "
      .. "ln -s ../cm/a.lua etc/a.lua && ln -s loop etc/loop")
    local t = watched({ root .. "/etc/a.lua", root .. "/etc/loop/x.lua" })
    for version = 2, 3 do
      t.notices("the swap to " .. version, function()
        shell(root, ("ln -s v%d cm/next && mv -T cm/next cm/data"):format(version))
      end)
    end
    t.notices("a write at the end of the links", function()
      shell(root, "echo 5 > cm/v3/a.lua")
    end)
    t.notices("another link in place of the first", function()
      shell(root, "ln -sfT ../cm/v1/a.lua etc/a.lua")
    end)
  end, 120))

  it("hears nothing of other files in the same folder", support.async(function()
    -- Events come in order: one of the others would be counted before the one that is awaited.
    local root = tree.make({ ["a.lua"] = "1" })
    local t = watched({ root .. "/a.lua" })
    shell(root, "echo > other; echo > b.lua; echo > .a.lua.swp; rm other b.lua")
    t.notices("the file itself", function()
      shell(root, "touch a.lua")
    end)
    assert.is_true(t.count <= 4, t.count)
    root = tree.make({})
    t = watched({}, { root })
    shell(root, "echo > other; echo > .#a.lua; echo > a.lua~; rm other a.lua~")
    t.notices("a Lua file", function()
      shell(root, "touch c.lua")
    end)
    assert.is_true(t.count <= 4, t.count)
  end, 60))

  it("looks where there are no events, at what changed alone", support.async(function()
    local root = tree.make({ ["a.lua"] = "1" })
    local t = watched({ root .. "/a.lua", root .. "/b.lua" }, { root }, 20)
    for path, folder in pairs(t.watch.folders) do
      folder.handle:close()
      folder.handle = nil
      assert.is_truthy(path)
    end
    async.sleep(100)
    assert.are.equal(0, t.count)
    for _, command in ipairs({ "echo 22 > a.lua", "echo > b.lua", "rm a.lua", "echo > c.lua" }) do
      local before = t.count
      shell(root, command)
      support.wait_until(function()
        return t.count > before
      end, 20000, command)
    end
  end, 60))

  it("keeps no handle for what is not watched any more", support.async(function()
    local root = tree.make({ ["one/a.lua"] = "1", ["two/b.lua"] = "2" })
    local t = watched({ root .. "/one/a.lua", root .. "/two/b.lua" })
    assert.is_truthy(t.watch.folders[root .. "/two"])
    t.watch:set({ root .. "/one/a.lua" }, {})
    assert.is_nil(t.watch.folders[root .. "/two"])
    t.watch:close()
    t.watch:set({ root .. "/two/b.lua" }, {})
    assert.is_nil(next(t.watch.folders))
  end))
end)
