-- What can be wrong with a store: the keeper goes on from memory, says so once, and comes back.

local async = require("runtime.async")
local clock = require("runtime.clock")
local keeper = require("runtime.store.keeper")
local mounts = require("support.mounts")
local schema = require("runtime.store.schema")
local set_aside = require("runtime.store.set_aside")
local spending = require("runtime.spending")
local spending_store = require("runtime.spending_store")
local store = require("runtime.store")
local support = require("support")
local telemetry = require("runtime.telemetry")
local tree = require("support.tree")
local uv = require("luv")

local WAIT_MS = 30000

-- A ledger whose spending is kept at `path`.
local function keep(path)
  local t = { events = {}, warnings = {} }
  local bus, system = telemetry.new(), clock.system()
  bus:attach_many("spec", { "beamlens.store.failed", "beamlens.store.recovered" },
    function(event, measurements, metadata)
      table.insert(t.events, { event = event:match("[^.]+$"), code = metadata.code,
        path = metadata.path, error = metadata.error, set_aside = metadata.set_aside,
        measurements = measurements })
    end)
  local part
  t.ledger = spending.new({ clock = system, telemetry = bus, on_change = function(...)
    part:note(...)
  end })
  part = spending_store.new({ ledger = t.ledger, clock = system })
  t.keeper = keeper.new({ path = path, parts = { part }, clock = system, telemetry = bus,
    retry_ms = { first = 20, max = 100 }, warn = function(text)
      table.insert(t.warnings, text)
    end })
  support.on_cleanup(function()
    t.keeper:close()
  end)
  assert(t.keeper:open())
  t.keeper:start()
  function t.spend(usd, account)
    local taken = { t.ledger:account(account or "process") }
    local cost = { usd = usd, tokens = 0 }
    local held = t.ledger:admit(taken, function()
      return { likely = cost, most = cost }
    end, math.huge)
    t.ledger:settle(held, cost)
  end
  function t.spent(account)
    return t.ledger:account(account or "process").windows.usd_per_day.used
  end
  function t.wait_event(name)
    return support.wait_until(function()
      for _, event in ipairs(t.events) do
        if event.event == name then
          return event
        end
      end
    end, WAIT_MS, "the event " .. name)
  end
  function t.stop()
    t.keeper:flush(WAIT_MS)
    t.keeper:close()
  end
  return t
end

local function names(t)
  local list = {}
  for i, event in ipairs(t.events) do
    list[i] = event.event
  end
  return table.concat(list, " ")
end

-- What a next host finds.
local function kept(path, account)
  local t = keep(path)
  assert.are.equal("", names(t))
  local spent = t.spent(account)
  t.stop()
  return spent
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read("*a")
  file:close()
  return bytes
end

local function overwrite(path, at, bytes)
  local file = assert(io.open(path, "r+b"))
  file:seek("set", at)
  file:write(bytes)
  file:close()
end

-- A store of some hundred rows, closed.
local function filled(path)
  local t = keep(path)
  for i = 1, 400 do
    t.spend(0.5, ("watcher number %d with a name of some length"):format(i))
  end
  t.spend(1)
  t.stop()
  assert.are.equal("", names(t))
  return path
end

local NOISE = ("\1\254 garbage \0"):rep(2000)

describe("a store on a disk that", function()
  it("is full is written again when there is room", mounts.case(function()
    local disk = mounts.small(512)
    local path = disk.path .. "/s.db"
    local t = keep(path)
    t.spend(1)
    t.keeper:flush(WAIT_MS)
    disk:fill()
    t.spend(2)
    assert.are.equal("ENOSPC", t.wait_event("failed").code)
    t.spend(4)
    assert.are.equal(7, t.spent())
    disk:free()
    t.wait_event("recovered")
    assert.are.equal("failed recovered", names(t))
    assert.are.equal(2, #t.warnings)
    assert.matches("make room", t.warnings[1])
    t.stop()
    assert.are.equal(7, kept(path))
  end, 60))

  it("is full at the start is begun when there is room", mounts.case(function()
    local disk = mounts.small(512)
    disk:fill()
    local t = keep(disk.path .. "/s.db")
    assert.are.equal("ENOSPC", t.wait_event("failed").code)
    t.spend(3)
    disk:free()
    t.wait_event("recovered")
    t.stop()
    assert.are.equal(3, kept(disk.path .. "/s.db"))
  end, 60))

  it("is read-only is read and written when it no longer is: nothing of before is lost",
    mounts.case(function()
      local disk = mounts.small(512)
      local path = disk.path .. "/s.db"
      local t = keep(path)
      t.spend(1)
      t.stop()
      disk:read_only(true)
      t = keep(path)
      assert.are.equal("EROFS", t.wait_event("failed").code)
      t.spend(2)
      disk:read_only(false)
      t.wait_event("recovered")
      assert.are.equal(3, t.spent())
      t.stop()
      assert.are.equal(3, kept(path))
    end, 60))
end)

describe("a store that", function()
  it("another program writes is written when that has ended", support.async(function()
    local path = tree.make({}) .. "/s.db"
    local t = keep(path)
    t.spend(1)
    t.keeper:flush(WAIT_MS)
    local other = assert(store.open({ path = path }))
    support.on_cleanup(function()
      other:close()
    end)
    assert(other:query("BEGIN IMMEDIATE"))
    t.spend(2)
    assert.are.equal("EBUSY", t.wait_event("failed").code)
    assert(other:query("COMMIT"))
    t.wait_event("recovered")
    t.stop()
    assert.are.equal(3, kept(path))
  end, 60))

  it("is broken is set aside as it was, and a new one is begun", support.async(function()
    local root = tree.make({})
    local damage = {
      header = function(path)
        overwrite(path, 0, NOISE:sub(1, 100))
      end,
      middle = function(path)
        overwrite(path, 4096 * 2, NOISE)
      end,
      truncated = function(path)
        local bytes = read(path)
        support.write_file(path, bytes:sub(1, math.floor(#bytes / 2) + 7))
      end,
    }
    for what, break_it in pairs(damage) do
      local path = filled(("%s/%s.db"):format(root, what))
      break_it(path)
      local bytes = read(path)
      local t = keep(path)
      local failed = t.wait_event("failed")
      assert.are.equal("EBROKEN", failed.code, what)
      assert.are.equal(path .. ".corrupt-", failed.set_aside:match("^(.*%-)%d+T%d+Z$"))
      assert.is_true(read(failed.set_aside) == bytes)
      t.wait_event("recovered")
      assert.are.equal("failed recovered", names(t))
      assert.is_truthy(t.warnings[1]:find(failed.set_aside, 1, true))
      t.spend(2)
      t.stop()
      assert.are.equal(2, kept(path))
    end
  end, 120))

  it("breaks while it is used is set aside, too, and what is in memory goes into the new one",
    support.async(function()
      local path = tree.make({}) .. "/s.db"
      local t = keep(path)
      t.spend(1)
      t.keeper:flush(WAIT_MS)
      assert(t.keeper.store:drop()) -- as after a failure: SQLite has nothing of it in memory
      overwrite(path, 0, NOISE)
      t.spend(2)
      local failed = t.wait_event("failed")
      assert.are.equal("EBROKEN", failed.code)
      t.wait_event("recovered")
      assert.matches("set aside as", table.concat(t.warnings, "\n"))
      t.stop()
      assert.are.equal(3, kept(path))
    end, 60))

  it("has a broken journal beside it is read as far as that goes", support.async(function()
    local path = filled(tree.make({}) .. "/s.db")
    support.write_file(path .. "-wal", NOISE)
    support.write_file(path .. "-shm", NOISE)
    assert.are.equal(1, kept(path))
  end, 60))

  it("has no bytes is a new one", support.async(function()
    local path = tree.make({ ["s.db"] = "" }) .. "/s.db"
    local t = keep(path)
    t.spend(2)
    t.stop()
    assert.are.equal("", names(t))
    assert.are.equal(2, kept(path))
  end, 60))

  it("is a folder, or lies in a file, is begun when its place is free", support.async(function()
    local root = tree.make({ ["folder/x/y"] = "", ["file"] = "" })
    for path, case in pairs({
      [root .. "/folder/x"] = { code = "EISDIR", free = function()
        os.remove(root .. "/folder/x/y")
        assert(uv.fs_rmdir(root .. "/folder/x"))
      end },
      [root .. "/file/s.db"] = { code = "ENOTDIR", free = function()
        assert(os.remove(root .. "/file"))
      end },
    }) do
      local t = keep(path)
      assert.are.equal(case.code, t.wait_event("failed").code)
      t.spend(2)
      case.free()
      t.wait_event("recovered")
      assert.are.equal("failed recovered", names(t))
      t.stop()
      assert.are.equal(2, kept(path))
    end
  end, 60))

  it("has a newer schema, or is another program's, stays as it is", support.async(function()
    local root = tree.make({})
    for path, case in pairs({
      [root .. "/newer.db"] = { code = "ENEWER", sql = "PRAGMA user_version = 9999; "
        .. "CREATE TABLE spending (all_is_different TEXT)", text = "has schema 9999" },
      [root .. "/other.db"] = { code = "EFOREIGN", sql = "CREATE TABLE customers (name TEXT)",
        text = "has a table customers" },
    }) do
      local other = assert(store.open({ path = path }))
      assert(other:query(case.sql))
      other:close()
      local bytes = read(path)
      local t = keep(path)
      local failed = t.wait_event("failed")
      assert.are.equal(case.code, failed.code)
      assert.is_truthy(failed.error:find(case.text, 1, true), failed.error)
      t.spend(2)
      async.sleep(200) -- it was tried again
      t.stop()
      assert.are.equal("failed", names(t))
      assert.is_true(read(path) == bytes)
    end
  end, 60))

  it("has an older schema gets what it lacks, and keeps what it has", support.async(function()
    local path = tree.make({}) .. "/s.db"
    local t = keep(path)
    t.spend(5)
    t.stop()
    local old = assert(store.open({ path = path }))
    for _, row in ipairs(assert(old:query("SELECT name FROM sqlite_master WHERE type = 'table' "
      .. "AND name <> 'spending'"))) do
      assert(old:query("DROP TABLE " .. row[1]))
    end
    assert(old:query("PRAGMA user_version = 0"))
    old:close()
    assert.are.equal(5, kept(path))
    local now = assert(store.read(path))
    assert.are.equal(schema.VERSION, (schema.check(now)))
    now:close()
  end, 60))
end)

describe("setting aside", function()
  it("takes the journal along, and overwrites nothing", function()
    local root = support.tmp_path("aside-" .. uv.hrtime())
    assert(uv.fs_mkdir(root, 448))
    local path = root .. "/s.db"
    local seen = {}
    for _, text in ipairs({ "first", "second" }) do
      support.write_file(path, text)
      support.write_file(path .. "-wal", text .. " journal")
      local aside = assert(set_aside.move(path, 1.7e12))
      assert.is_nil(seen[aside])
      seen[aside] = text
      assert.is_nil((uv.fs_stat(path .. "-wal")))
    end
    for aside, text in pairs(seen) do
      assert.are.equal(text, read(aside))
      assert.are.equal(text .. " journal", read(aside .. "-wal"))
    end
    os.execute(("rm -rf '%s'"):format(root))
  end)
end)
