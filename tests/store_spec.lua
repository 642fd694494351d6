local async = require("runtime.async")
local beamlens = require("support.beamlens")
local native = require("host.store")
local store = require("runtime.store")
local support = require("support")
local tree = require("support.tree")
local uv = require("luv")

local function env_of(values)
  return function(name)
    return values[name]
  end
end

local function open(path)
  local opened = assert(store.open({ path = path }))
  support.on_cleanup(function()
    opened:close()
  end)
  return opened
end

-- Another program with the store open, which runs until the case ends.
local function other_program(code)
  local root = tree.make({ ["other.lua"] = ([[
    local async, store = require("runtime.async"), require("runtime.store")
    async.run(function()
      %s
      print('{"event":"beamlens.ready"}')
      io.stdout:flush()
      async.sleep(60000)
    end)]]):format(code) })
  local b = beamlens.start({ "lua", root .. "/other.lua" })
  b:wait_for("ready", nil, 10000)
  return b
end

describe("the place of a store", function()
  it("is what is given, else what the environment names, nearest first", function()
    local env = { HOME = "/h" }
    assert.are.equal("/h/.local/state/beamlens/beamlens.db", store.path(nil, env_of(env)))
    env.XDG_STATE_HOME = "/x"
    assert.are.equal("/x/beamlens/beamlens.db", store.path(nil, env_of(env)))
    env.STATE_DIRECTORY = "/var/lib/beamlens:/var/lib/other"
    assert.are.equal("/var/lib/beamlens/beamlens.db", store.path(nil, env_of(env)))
    env.BEAMLENS_STORE = "/b.db"
    assert.are.equal("/b.db", store.path(nil, env_of(env)))
    assert.are.equal("/a.db", store.path("/a.db", env_of(env)))
    assert.are.same({}, { store.path("none", env_of(env)) })
    env.BEAMLENS_STORE = "none"
    assert.are.same({}, { store.path(nil, env_of(env)) })
    assert.matches("HOME is not set", select(2, store.path(nil, env_of({ HOME = "" }))))
  end)
end)

describe("a store", function()
  it("keeps what is written, in a folder that it makes for its owner alone", support.async(
    function()
      local path = tree.make({}) .. "/a/b/beamlens.db"
      local one = open(path)
      assert.are.same({}, assert(one:query("CREATE TABLE t (name TEXT, n REAL); "
        .. "CREATE INDEX i ON t (n)")))
      assert.are.same({}, assert(one:query("INSERT INTO t VALUES (?1, ?2), ('none', NULL)",
        "a\0b", 1795466985123.5)))
      one:close()
      local two = open(path)
      assert.are.same({ { "a\0b", 1795466985123.5 }, { "none" } },
        two:query("SELECT name, n FROM t ORDER BY name"))
      assert.are.equal(448, uv.fs_stat(path:match("^(.*)/")).mode % 512)
      for _, suffix in ipairs({ "", "-wal", "-shm" }) do
        local stat = uv.fs_stat(path .. suffix)
        assert.are.equal(384, stat and stat.mode % 512 or suffix ~= "" and 384)
      end
    end))

  it("answers requests in turn, and says what is wrong with one", support.async(function()
    local one = open(tree.make({}) .. "/s.db")
    local answers, tasks = {}, {}
    for i = 1, 20 do
      tasks[i] = async.spawn(function()
        local rows, err, code = one:query(i == 7 and "SELECT * FROM absent" or "SELECT ?1", i)
        answers[#answers + 1] = rows and rows[1][1] or { err, code }
      end)
    end
    for _, task in ipairs(tasks) do
      task:join()
    end
    assert.are.same({ "ESTORE: no such table: absent", "ESTORE" }, table.remove(answers, 7))
    for i, answer in ipairs(answers) do
      assert.are.equal(i < 7 and i or i + 1, answer)
    end
  end))

  it("leaves nothing half done", support.async(function()
    local one = open(tree.make({}) .. "/s.db")
    assert(one:query("CREATE TABLE t (n INTEGER PRIMARY KEY)"))
    assert.is_nil((one:query("BEGIN; INSERT INTO t VALUES (1); INSERT INTO t VALUES (1); COMMIT")))
    assert.are.same({ { 0 } }, one:query("SELECT count(*) FROM t"))
    assert(one:query("BEGIN; INSERT INTO t VALUES (1); COMMIT"))
    assert.are.same({ { 1 } }, one:query("SELECT count(*) FROM t"))
  end))

  it("never holds up the loop: what it waits for can happen there", support.async(function()
    local path = tree.make({}) .. "/s.db"
    local one, two = open(path), open(path)
    assert(one:query("CREATE TABLE t (n INTEGER)"))
    assert(one:query("BEGIN IMMEDIATE"))
    local waits = async.spawn(function()
      return two:query("INSERT INTO t VALUES (1)")
    end)
    assert(one:query("INSERT INTO t VALUES (2)"))
    assert.is_nil(waits.done)
    assert(one:query("COMMIT"))
    assert.are.same({ true, {} }, { waits:join() })
  end))

  it("does not make a request that is given up before its turn", support.async(function()
    local one = open(tree.make({}) .. "/s.db")
    assert(one:query("CREATE TABLE t (n INTEGER)"))
    local long = async.spawn(function()
      return one:query("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c "
        .. "WHERE x < 300000) SELECT count(*) FROM c")
    end)
    local given_up = async.spawn(function()
      return one:query("INSERT INTO t VALUES (1)")
    end, { on_error = function() end })
    given_up:cancel()
    assert.are.same({ { 300000 } }, select(2, long:join()))
    assert.are.same({ { 0 } }, one:query("SELECT count(*) FROM t"))
  end))

  it("opens, after a drop, what then lies in its place", support.async(function()
    local path = tree.make({}) .. "/s.db"
    local one = open(path)
    assert(one:query("CREATE TABLE t (n INTEGER)"))
    assert(uv.fs_rename(path, path .. ".old"))
    assert(one:query("SELECT * FROM t"))
    assert(one:drop())
    assert.are.equal("ESTORE", select(3, one:query("SELECT * FROM t")))
  end))

  it("is read by others, who change and make nothing", support.async(function()
    local path = tree.make({}) .. "/s.db"
    local reader = store.read(path)
    assert.is_nil((reader:query("SELECT 1 FROM sqlite_master")))
    reader:close()
    assert.is_nil((uv.fs_stat(path)))
    local one = open(path)
    assert(one:query("PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER)"))
    reader = store.read(path)
    assert.are.same({ { 0 } }, reader:query("SELECT count(*) FROM t"))
    assert.are.equal("EROFS", select(3, reader:query("INSERT INTO t VALUES (1)")))
    reader:close()
    assert.is_nil((store.owner(path .. ".none")))
  end))

  it("ends although a request runs, which is told", support.async(function()
    local one = open(tree.make({}) .. "/s.db")
    local task = async.spawn(function()
      return one:query("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c "
        .. "WHERE x < 2000000) SELECT count(*) FROM c")
    end)
    async.sleep(0)
    one:close()
    one:close()
    assert.are.equal("ECLOSED", select(4, task:join()))
    assert.are.equal("ECLOSED", select(3, one:query("SELECT 1")))
  end))

  it("says what is no store, and what cannot be one", support.async(function()
    local root = tree.make({ ["text.db"] = ("this is no database\n"):rep(100), ["d/x"] = "" })
    assert.are.equal("EBROKEN", select(3, open(root .. "/text.db"):query("SELECT 1 FROM t")))
    assert.are.equal("EISDIR", select(3, open(root .. "/d"):query("SELECT 1")))
    assert.is_nil((store.open({ path = root .. "/text.db/s.db" })))
    assert.are.equal("ENOTDIR", select(3, store.open({ path = root .. "/text.db/s.db" })))
  end))

  it("has one owner, whose process a second one is told", support.async(function()
    local path = tree.make({}) .. "/s.db"
    local b = other_program(("local owner = assert(store.open({ path = %q }))"):format(path))
    local opened, _, code, pid = store.open({ path = path })
    assert.is_nil(opened)
    assert.are.equal("ELOCKED", code)
    assert.are.equal(b.pid, pid)
    b:kill("sigkill")
    b:wait_exit()
    assert.are.same({ { 1 } }, open(path):query("SELECT 1"))
  end))

  it("tells misuse", support.async(function()
    local s = assert(native.open(tree.make({}) .. "/s.db", function() end))
    assert.has_error(function()
      s:take()
    end)
    assert.has_error(function()
      s:start("SELECT 1", {})
    end)
    s:close()
    assert.has_error(function()
      s:start("SELECT 1")
    end)
  end))
end)
