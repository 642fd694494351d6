-- The line about the store that `beamlens doctor` prints.

local beamlens = require("support.beamlens")
local mounts = require("support.mounts")
local schema = require("runtime.store.schema")
local store = require("runtime.store")
local support = require("support")
local tree = require("support.tree")

-- The line for a store; fails unless it is FAIL just where it should be.
local function doctor(path, ok)
  local status, out = beamlens.run({ "doctor", "none", "--store", path })
  local line = out:match("[^\n]*store [^\n]*")
  assert.are.equal(ok and "ok" or "FAIL", line:match("^%u+") or line:match("^%a+"), line)
  assert.are.equal(ok and 0 or 1, status, out)
  return line
end

local function has(text, part)
  assert.is_truthy(text:find(part, 1, true), text)
end

describe("beamlens doctor", function()
  it("says where the store is, how large, and of which schema", support.async(function()
    local root = tree.make({})
    has(doctor("none", true), "nothing outlives a restart")
    has(doctor(root .. "/a/s.db", true), root .. "/a/s.db, which the first run makes")
    local one = assert(store.open({ path = root .. "/s.db" }))
    support.on_cleanup(function()
      one:close()
    end)
    assert(schema.prepare(one))
    local line = doctor(root .. "/s.db", true)
    has(line, ("%s/s.db, "):format(root))
    has(line, (" KiB, schema %d, belongs to the running beamlens, pid %d"):format(schema.VERSION,
      require("luv").os_getpid()))
    one:close()
    assert.matches("schema %d+$", doctor(root .. "/s.db", true))
  end, 60))

  it("says what is wrong with the store, and what to do", support.async(function()
    local root = tree.make({ ["text.db"] = ("no store\n"):rep(200), ["d/x"] = "" })
    has(doctor(root .. "/text.db", false), "file is not a database")
    has(doctor(root .. "/d", false), "it is a folder")
    has(doctor(root .. "/text.db/s.db", false), "text.db is no folder")
    local newer = assert(store.open({ path = root .. "/n.db" }))
    assert(newer:query("PRAGMA user_version = 9999"))
    newer:close()
    has(doctor(root .. "/n.db", false), "run the newer beamlens")
  end, 60))

  it("says that a disk is read-only", mounts.case(function()
    local disk = mounts.small(512)
    disk:read_only(true)
    has(doctor(disk.path .. "/s.db", false), "cannot be written")
  end, 60))
end)
