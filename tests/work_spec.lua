local async = require("runtime.async")
local node = require("support.node")
local support = require("support")
local tree = require("support.tree")
local uv = require("luv")
local work = require("runtime.work")

-- Runs `body(worker)` with a worker that finds the modules of tests/support/work.
local function with_worker(body)
  return support.async(function()
    local worker = work.new({ name = "domains/x.lua", folder = "tests/support/work" })
    support.on_cleanup(function()
      worker:close()
    end)
    body(worker)
  end)
end

local function helper(worker, fn_name, args, timeout)
  return worker:call("work_helper", fn_name, args, { timeout = timeout or 300 })
end

-- A FIFO for `block_on`, and a function that ends that.
local function new_fifo()
  local path = uv.cwd() .. "/" .. support.tmp_path("work-fifo")
  assert(node.run_program("mkfifo", { path }) == 0)
  support.on_cleanup(function()
    os.remove(path)
  end)
  return path, function()
    local flags = uv.constants.O_WRONLY + uv.constants.O_NONBLOCK
    uv.fs_close(support.wait_until(function()
      return (uv.fs_open(path, flags, 0))
    end, nil, "a reader of the FIFO"))
  end
end

local function blocked_signals(status_path)
  local file = assert(io.open(status_path))
  local text = file:read("*a")
  file:close()
  return assert(text:match("\nSigBlk:%s*(%x+)\n"))
end

describe("work.call", function()
  it("keeps the module's state from call to call", with_worker(function(worker)
    assert.are.equal(1, helper(worker, "count"))
    assert.are.equal(2, helper(worker, "count"))
  end))

  it("copies values both ways, holes and bytes included", with_worker(function(worker)
    local value = { 1, 2.5, -0.25, "a\0\255b", { [true] = false, k = { {} } }, [1e9] = "far" }
    local a, b, c, d = helper(worker, "echo", { n = 4, value, nil, true, nil })
    assert.are.same(value, a)
    assert.is_nil(b)
    assert.is_true(c)
    assert.is_nil(d)
    local big = ("x"):rep(1024 * 1024)
    assert.are.equal(big, (helper(worker, "echo", { big })))
  end))

  it("names what cannot be copied", with_worker(function(worker)
    local value, err, code = helper(worker, "echo", { "a", print })
    assert.is_nil(value)
    assert.are.equal("EWORK", code)
    assert.are.equal("EWORK: arguments: a function cannot be copied (value 4)", err)
    value, err, code = helper(worker, "give_function")
    assert.is_nil(value)
    assert.are.equal("EWORK", code)
    assert.is_truthy(err:find("what it returns: a function cannot be copied (value 2)", 1, true))
    local loop = {}
    loop.loop = loop
    err = select(2, helper(worker, "echo", { loop }))
    assert.is_truthy(err:find("deeper than 32 levels", 1, true))
    err = select(2, helper(worker, "echo", { ("x"):rep(17 * 1024 * 1024) }))
    assert.is_truthy(err:find("more than 16 MiB", 1, true))
    assert.are.equal("still here", (helper(worker, "echo", { "still here" })))
  end))

  it("passes on what was raised, and lives on", with_worker(function(worker)
    assert.are.same({ nil, "EWORK: no luck", "EWORK" }, { helper(worker, "fail", { "no luck" }) })
    assert.are.equal("EWORK: an error that is a table",
      (select(2, helper(worker, "fail_with_table"))))
    assert.is_truthy(select(2, helper(worker, "nothing")):find("has no function nothing", 1, true))
    local _, err, code = worker:call("no_such_module", "x")
    assert.are.equal("EWORK", code)
    assert.is_truthy(err:find("module 'no_such_module' not found", 1, true))
    assert.are.equal(1, helper(worker, "count"))
  end))

  it("finds the modules of domains that are built in, a folder's own first", with_worker(
    function(worker)
      -- domains/postgres/db.lua; its `query` would need the driver.
      local _, err = worker:call("postgres.db", "no_such_function")
      assert.is_truthy(err:find("module postgres.db has no function no_such_function", 1, true))
      for _, name in ipairs({ "postgres.nothing", "../runtime/work", "postgres" }) do
        _, err = worker:call(name, "x")
        assert.is_truthy(err:find("module '" .. name .. "' not found", 1, true), err)
      end
      local root = tree.make({ ["postgres/db.lua"] = 'return { whose = function() return 1 end }' })
      local own = work.new({ name = "x", folder = root })
      support.on_cleanup(function()
        own:close()
      end)
      assert.are.equal(1, (own:call("postgres.db", "whose")))
    end))

  it("never searches the current folder", with_worker(function(worker)
    local path, cpath = helper(worker, "search_path")
    for entry in (path .. ";" .. cpath):gmatch("[^;]+") do
      assert.are.equal("/", entry:sub(1, 1))
    end
    assert.is_truthy(path:find(uv.cwd() .. "/tests/support/work/?.lua", 1, true))
  end))

  it("has the calls of one domain wait for each other", with_worker(function(worker)
    local tasks = {}
    for i = 1, 5 do
      tasks[i] = async.spawn(function()
        return helper(worker, "count")
      end, { name = "call" })
    end
    for i, task in ipairs(tasks) do
      assert.are.same({ true, i }, { task:join() })
    end
  end))

  it("blocks no signal for the programs that a library starts", with_worker(function(worker)
    local path = tree.make({}) .. "/status"
    assert.is_nil((select(2, helper(worker, "program_status", { path }))))
    assert.are.equal(blocked_signals("/proc/self/status"), blocked_signals(path))
  end))

  it("replaces a thread that does not come back, four times", with_worker(function(worker)
    assert.are.equal(1, helper(worker, "count"))
    for _ = 1, 5 do
      local value, err, code = helper(worker, "block", { 3600 }, 0.05)
      assert.is_nil(value)
      assert.are.equal("ETIMEDOUT", code)
      assert.are.equal("ETIMEDOUT: work_helper.block took longer than 50 ms", err)
      if worker.replaced <= work.MAX_REPLACED then
        assert.are.equal(1, helper(worker, "count"))
      end
    end
    local _, err, code = helper(worker, "count")
    assert.are.equal("EWORK", code)
    assert.is_truthy(err:find("domains/x.lua waits: 5 calls have not come back", 1, true))
  end))

  it("makes calls again when one that was left behind has come back", with_worker(function(worker)
    local fifo, release = new_fifo()
    assert.are.equal("ETIMEDOUT", select(3, helper(worker, "block_on", { fifo }, 0.05)))
    for _ = 2, 5 do
      assert.are.equal("ETIMEDOUT", select(3, helper(worker, "block", { 3600 }, 0.05)))
    end
    assert.are.equal("EWORK", select(3, helper(worker, "count")))
    release()
    support.wait_until(function()
      return worker.replaced == 4
    end, nil, "the first call to come back")
    assert.are.equal(1, helper(worker, "count"))
    assert.are.equal(2, helper(worker, "count"))
  end))

  it("gives up a call that had no turn, and leaves the thread be", with_worker(function(worker)
    local fifo, release = new_fifo()
    local first = async.spawn(function()
      return helper(worker, "block_on", { fifo })
    end, { name = "first" })
    async.sleep(0)
    local _, err, code = helper(worker, "count", {}, 0.05)
    assert.are.equal("ETIMEDOUT", code)
    assert.is_truthy(err:find("had no turn", 1, true))
    release()
    assert.are.same({ true, "awake" }, { first:join() })
    assert.are.equal(0, worker.replaced)
  end))

  it("raises when it is called wrongly", with_worker(function(worker)
    assert.has_error(function()
      worker:call("work_helper", "echo", {}, { timeout_ms = 5 })
    end)
    assert.has_error(function()
      worker:call(print, "echo")
    end)
  end))
end)

describe("a blocked thread", function()
  it("does not hold up the end of the host", support.async(function()
    local script = [[
      local async = require("runtime.async")
      local worker = require("runtime.work").new({ name = "x", folder = "tests/support/work" })
      async.spawn(function()
        worker:call("work_helper", "block", { 600 }, { timeout = 0.05 })
        worker:close()
      end, { name = "x" })
      require("luv").run()
    ]]
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(script)
    file:close()
    local code, signal = async.await(support.patience_ms(), function(done)
      local process
      process = uv.spawn(uv.exepath(), { args = { "lua", path } }, function(...)
        process:close()
        done(...)
      end)
    end)
    os.remove(path)
    assert.are.same({ 0, 0 }, { code, signal })
  end))
end)
